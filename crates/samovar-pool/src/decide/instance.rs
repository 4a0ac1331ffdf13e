//! One loaded model: where it is in its life, and what it can serve.
//!
//! ```text
//!   Loading → Ready ⇄ Parking → Parked → Resuming → Ready → Unloading → gone
//! ```
//!
//! Busy is Ready with leases; Draining is Busy with a farewell; Growing is Ready, Parking or Resuming with a growth.

use std::collections::VecDeque;
use std::sync::Arc;

use samovar_core::port::Millis;
use samovar_core::units::KeepAlive;
use samovar_core::{Failure, Footprint};

use super::state::ModelId;
use super::trust::Trust;
use crate::ask::ModelSpec;
use crate::decision::{Reason, What};

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    Loading { fraction: f32, is_stopped: bool },
    Ready,
    Parking,
    Parked,
    Resuming,
    Unloading,
}

/// One loaded model, or the attempt at one.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) model: ModelId,
    pub(super) spec: Arc<ModelSpec>,
    pub(super) phase: Phase,
    pub(super) leases: u32,
    /// Leases of models that need it.
    pub(super) holds: u32,
    pub(super) uses: u64,
    pub(super) age_when_used: f64,
    pub(super) last_used: Millis,
    /// When the last load or resume began and ended.
    pub(super) ready_span: (Millis, Millis),
    /// How long the load took; the prediction while it lasts.
    pub(super) load_ms: u64,
    pub(super) keep_alive: KeepAlive,
    /// When its keep-alive ends, while it runs.
    pub(super) expires_at: Option<Millis>,
    /// That has ended, and it stays for the sake of its model's other instances.
    pub(super) is_lapsed: bool,
    /// It leaves as soon as nobody uses it; no new grants.
    pub(super) farewell: Option<Farewell>,
    /// It leaves as soon as nobody uses it and nobody waits for it.
    pub(super) leaves_when_idle: bool,
    /// What it is being made to serve; no new grants meanwhile.
    pub(super) growth: Option<Growth>,
    /// Why it could not be made larger, and until when that is believed.
    pub(super) stunted: Option<(Failure, Millis)>,
    /// The beginnings of prompts that it may remember, latest last.
    pub(super) affinities: VecDeque<u64>,
    pub(super) trust: Trust,
}

/// An instance's way to other options: its bytes are reserved, it drains, is parked, and resumes with them.
#[derive(Clone, Debug)]
pub(super) struct Growth {
    pub(super) spec: Arc<ModelSpec>,
    /// What it counts for without; `None` when it began parked.
    pub(super) before: Option<Footprint>,
}

/// Why an instance leaves.
#[derive(Clone, Debug)]
pub(super) struct Farewell {
    pub(super) what: What,
    pub(super) reason: Reason,
}

impl Instance {
    pub(super) fn is_loading(&self) -> bool {
        matches!(self.phase, Phase::Loading { .. })
    }

    /// Ready or parked, and nobody uses it.
    pub(super) fn is_idle(&self) -> bool {
        self.is_unused() && self.growth.is_none() && matches!(self.phase, Phase::Ready | Phase::Parked)
    }

    /// No lease is out on it.
    pub(super) fn is_unused(&self) -> bool {
        self.leases == 0 && self.holds == 0
    }

    /// It has not been decided to leave.
    pub(super) fn stays(&self) -> bool {
        self.farewell.is_none() && self.phase != Phase::Unloading
    }

    /// Serves who comes now, if it has a slot.
    pub(super) fn is_serving(&self) -> bool {
        let is_open = self.growth.is_none() && self.trust.suspicion.is_none();
        self.phase == Phase::Ready && self.farewell.is_none() && is_open
    }

    /// Will serve without any further decision, but does not yet.
    pub(super) fn is_coming(&self) -> bool {
        let is_on_its_way = match self.phase {
            Phase::Loading { .. } | Phase::Resuming => true,
            Phase::Ready => self.trust.suspicion.is_some(),
            Phase::Parking | Phase::Parked | Phase::Unloading => false,
        };
        self.farewell.is_none() && (is_on_its_way || self.growth.is_some())
    }

    /// Whether a request for this spec can be served by this instance.
    pub(super) fn satisfies(&self, spec: &ModelSpec) -> bool {
        covers(&self.spec, spec)
    }

    /// Whether it will be, once it is what it is being made.
    pub(super) fn will_satisfy(&self, spec: &ModelSpec) -> bool {
        covers(self.growth.as_ref().map_or(&self.spec, |growth| &growth.spec), spec)
    }

    pub(super) fn slots(&self) -> u32 {
        self.spec.options.slots.max(1)
    }
}

/// Whether an instance loaded for `one` serves `other` as well.
pub(super) fn covers(one: &ModelSpec, other: &ModelSpec) -> bool {
    let (has, wants) = (&one.options, &other.options);
    has.context_tokens >= wants.context_tokens && has.slots >= wants.slots
}
