//! One loaded model: where it is in its life, and what it can serve.
//!
//! ```text
//!   Loading → Ready ⇄ Parking → Parked → Resuming → Ready → Unloading → gone
//! ```
//!
//! Busy is Ready with leases; Draining is Busy with an exit reason; Growing is Ready, Parking or Resuming with a growth.

use std::collections::VecDeque;
use std::sync::Arc;

use samovar_core::port::Millis;
use samovar_core::units::KeepAlive;
use samovar_core::{Failure, Memory};

use super::{InstanceHealth, ModelId};
use crate::ask::ModelSpec;
use crate::decision::{Reason, What};

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::decide) enum Phase {
    Loading { fraction: f32, is_stopped: bool },
    Ready,
    Parking,
    Parked,
    Resuming,
    Unloading,
}

/// One loaded model, or the attempt at one.
#[derive(Clone, Debug)]
pub(in crate::decide) struct Instance {
    pub(in crate::decide) model: ModelId,
    pub(in crate::decide) spec: Arc<ModelSpec>,
    pub(in crate::decide) phase: Phase,
    pub(in crate::decide) leases: u32,
    /// Leases of models that need it.
    pub(in crate::decide) holds: u32,
    pub(in crate::decide) uses: u64,
    pub(in crate::decide) age_when_used: f64,
    pub(in crate::decide) last_used: Millis,
    /// When the last load or resume began and ended.
    pub(in crate::decide) ready_span: (Millis, Millis),
    /// How long the load took; the prediction while it lasts.
    pub(in crate::decide) load_ms: u64,
    pub(in crate::decide) keep_alive: KeepAlive,
    /// When its keep-alive ends, while it runs.
    pub(in crate::decide) expires_at: Option<Millis>,
    /// That has ended, and it stays for the sake of its model's other instances.
    pub(in crate::decide) is_lapsed: bool,
    /// It leaves as soon as no request uses it; no new grants.
    pub(in crate::decide) exit_reason: Option<ExitReason>,
    /// It leaves as soon as no request uses it or waits for it.
    pub(in crate::decide) leaves_when_idle: bool,
    /// What it is being made to serve; no new grants meanwhile.
    pub(in crate::decide) growth: Option<Growth>,
    /// Why it could not be made larger, and until when that is believed.
    pub(in crate::decide) growth_blocked: Option<(Failure, Millis)>,
    /// The beginnings of prompts that it may remember, latest last.
    pub(in crate::decide) affinities: VecDeque<u64>,
    pub(in crate::decide) health: InstanceHealth,
}

/// An instance's way to other options: its bytes are reserved, it drains, is parked, and resumes with them.
#[derive(Clone, Debug)]
pub(in crate::decide) struct Growth {
    pub(in crate::decide) spec: Arc<ModelSpec>,
    /// What it counts for without; `None` when it began parked.
    pub(in crate::decide) before: Option<Memory>,
}

/// Why an instance leaves.
#[derive(Clone, Debug)]
pub(in crate::decide) struct ExitReason {
    pub(in crate::decide) what: What,
    pub(in crate::decide) reason: Reason,
}

impl Instance {
    pub(in crate::decide) fn is_loading(&self) -> bool {
        matches!(self.phase, Phase::Loading { .. })
    }

    /// Ready or parked, and unused.
    pub(in crate::decide) fn is_idle(&self) -> bool {
        self.is_unused() && self.growth.is_none() && matches!(self.phase, Phase::Ready | Phase::Parked)
    }

    /// No lease is out on it.
    pub(in crate::decide) fn is_unused(&self) -> bool {
        self.leases == 0 && self.holds == 0
    }

    /// It has not been decided to leave.
    pub(in crate::decide) fn stays(&self) -> bool {
        self.exit_reason.is_none() && self.phase != Phase::Unloading
    }

    /// Serves who comes now, if it has a slot.
    pub(in crate::decide) fn is_serving(&self) -> bool {
        let is_open = self.growth.is_none() && self.health.suspected.is_none();
        self.phase == Phase::Ready && self.exit_reason.is_none() && is_open
    }

    /// In memory, and nothing is reserved for what it is to become.
    pub(in crate::decide) fn is_steady(&self) -> bool {
        self.phase == Phase::Ready && self.growth.is_none()
    }

    /// Will serve without any further decision, but does not yet.
    pub(in crate::decide) fn is_coming(&self) -> bool {
        let is_on_its_way = match self.phase {
            Phase::Loading { .. } | Phase::Resuming => true,
            Phase::Ready => self.health.suspected.is_some(),
            Phase::Parking | Phase::Parked | Phase::Unloading => false,
        };
        self.exit_reason.is_none() && (is_on_its_way || self.growth.is_some())
    }

    /// Whether a request for this spec can be served by this instance.
    pub(in crate::decide) fn satisfies(&self, spec: &ModelSpec) -> bool {
        covers(&self.spec, spec)
    }

    /// Whether it will be, once it is what it is being made.
    pub(in crate::decide) fn will_satisfy(&self, spec: &ModelSpec) -> bool {
        covers(self.growth.as_ref().map_or(&self.spec, |growth| &growth.spec), spec)
    }

    pub(in crate::decide) fn slots(&self) -> u32 {
        self.spec.options.slots.max(1)
    }
}

/// Whether an instance loaded for `one` serves `other` as well.
pub(in crate::decide) fn covers(one: &ModelSpec, other: &ModelSpec) -> bool {
    let (has, wants) = (&one.options, &other.options);
    has.context_tokens >= wants.context_tokens && (has.slots >= wants.slots || !other.has_fixed_slots)
}
