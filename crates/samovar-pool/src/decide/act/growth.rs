//! How an instance is made to serve a larger context or more slots, without its weights leaving memory.
//!
//! ```text
//!   begin_growth ─► Ready, closed ─► Parking ─► Resuming with more ─► Ready
//!   (its bytes are reserved)  │          │             └─ failed ─► Resuming as it was ─► Ready, growth blocked
//!                  no longer             └─ failed ─► Unloading
//!                  wanted: open again
//! ```
//!
//! A parked instance resumes with what is wanted directly. An engine that can not park has the instance loaded anew.

use std::sync::Arc;

use samovar_core::Failure;

use super::StepContext;
use crate::ask::ModelSpec;
use crate::decide::state::{Growth, Instance, ModelId, Phase};
use crate::decide::view::Demand;
use crate::decision::{Reason, What};
use crate::lease::GrantKind;
use crate::protocol::{Effect, InstanceId};

impl StepContext<'_> {
    /// Reserves what a ready instance needs to become this, and closes it until it is.
    pub(super) fn begin_growth(&mut self, id: InstanceId, model: ModelId, spec: &Arc<ModelSpec>) {
        let before = self.state.ledger.memory_with_debt(id);
        // One that is to become smaller has what it has until it is.
        let mut wanted = self.state.model(model).expected(spec).clone();
        wanted.private = wanted.private.max(self.state.ledger.memory(id).private);
        if !self.state.ledger.reserve(id, model, &wanted) {
            self.await_memory(model);
            return;
        }
        self.stop_keep_alive(id);
        self.state.deferred_evictions.remove(&id);
        let growth = Growth { spec: Arc::clone(spec), before: Some(before) };
        self.state.instance_mut(id).growth = Some(growth);
        self.note(model, What::Growing, outgrown(spec));
        self.went_idle(id);
    }

    /// The next step of an instance that is to grow and that no request uses any more.
    pub(super) fn park_to_grow(&mut self, id: InstanceId) {
        let now = self.now;
        let instance = self.state.instance_mut(id);
        instance.phase = Phase::Parking;
        instance.ready_span = (now, now);
        let (model, spec) = (instance.model, Arc::clone(&instance.spec));
        self.mark_grant_kinds(model, GrantKind::Parked);
        self.effects.push(Effect::Park { instance: id, model: spec });
    }

    /// And the next, once it is parked. Gives whether it was on its way to grow.
    pub(super) fn resume_grown(&mut self, id: InstanceId) -> bool {
        let reservation = self.state.ledger.memory(id);
        let instance = self.state.instance_mut(id);
        let Some(growth) = &instance.growth else { return false };
        let spec = Arc::clone(&growth.spec);
        instance.phase = Phase::Resuming;
        let model = instance.model;
        self.effects.push(Effect::Resume { instance: id, model: spec, reservation });
        self.tell_waiting(model);
        true
    }

    /// The instance leaves, or its growth is no longer wanted.
    pub(super) fn give_up_growth(&mut self, id: InstanceId) {
        let instance = self.state.instance_mut(id);
        if instance.phase == Phase::Resuming {
            return;
        }
        if let Some(before) = instance.growth.take().and_then(|growth| growth.before) {
            self.state.ledger.commit(id, &before);
        }
    }

    /// Opens those again that were to grow for a request that has gone.
    pub(super) fn give_up_needless_growth(&mut self, model: ModelId) {
        let needless = |(id, instance): (InstanceId, &Instance)| {
            let drains = instance.phase == Phase::Ready && instance.growth.is_some();
            (drains && self.view().is_as_large_as_wanted(id, model)).then_some(id)
        };
        let needless: Vec<_> = self.state.instances_of(model).filter_map(needless).collect();
        for id in needless {
            self.give_up_growth(id);
        }
    }

    /// It became what it was to become.
    pub(super) fn has_grown(&mut self, id: InstanceId) -> Option<Growth> {
        let instance = self.state.instance_mut(id);
        let growth = instance.growth.take()?;
        instance.spec = Arc::clone(&growth.spec);
        instance.growth_blocked = None;
        let model = instance.model;
        self.state.count(model, |tally| tally.grown += 1);
        Some(growth)
    }

    /// It could not become it: it serves on as it was, and who wanted more is refused.
    pub(super) fn growth_failed(&mut self, id: InstanceId, growth: &Growth, failure: Failure) {
        let retry_in_ms = self.state.config.backoff_max_ms;
        let instance = self.state.instance_mut(id);
        let (model, options) = (instance.model, &growth.spec.options);
        let size = match options.slots {
            0..=1 => format!("a context of {} tokens", options.context_tokens),
            slots => format!("{slots} slots with {} tokens of context", options.context_tokens),
        };
        let message = format!("{size} could not be had: {}", failure.message);
        let failure = failure.with_message(message.clone());
        instance.growth_blocked = Some((failure.clone(), self.now.plus(retry_in_ms)));
        let as_it_was = Arc::clone(&instance.spec);
        match &growth.before {
            Some(before) => {
                self.state.ledger.commit(id, before);
                let reservation = before.clone();
                self.effects.push(Effect::Resume { instance: id, model: as_it_was, reservation });
            }
            None => self.left_parked(id, model),
        }
        self.note(model, What::GrowthFailed, Reason::Failed { kind: failure.kind, message, retry_in_ms });
        self.review(model);
    }

    /// Refuses those for whom an instance would have to grow that could not a moment ago.
    pub(super) fn refuse_blocked_growth(&mut self, model: ModelId) {
        for ticket in self.state.model(model).waiting() {
            let spec = Arc::clone(&self.state.tickets[&ticket].spec);
            if let Some(why) = self.view().growth_blocked_group(model, &spec) {
                self.refuse(ticket, why);
            }
        }
    }

    /// Lets instances leave that can not be made what the model's demand needs: the engine can not park, or it would
    /// take more than a new one.
    pub(super) fn reload_the_outgrown(&mut self, model: ModelId) {
        let Some(demand) = self.view().demand(model) else { return };
        let older: Vec<Demand> = self.view().demands_before(demand.since).into_iter().cloned().collect();
        for (part, need) in &demand.parts {
            let leaves = self.state.instances_of(*part).any(|(_, instance)| !instance.stays());
            if leaves || self.view().is_met(*part, need) {
                continue;
            }
            let outgrown_ones = self.state.staying(*part).filter(|(id, one)| {
                let is_there = one.is_serving() || one.phase == Phase::Parked;
                let is_kept = older.iter().any(|demand| demand.needs(one));
                let can_park = one.spec.capabilities.can_park;
                is_there && !is_kept && !(can_park && self.view().can_become(*id, need))
            });
            if let Some((id, _)) = outgrown_ones.min_by_key(|(id, instance)| (instance.leases, *id)) {
                self.begin_unload(id, What::Unloaded, outgrown(need));
            }
        }
    }
}

/// Why an instance must become another.
pub(super) fn outgrown(wanted: &ModelSpec) -> Reason {
    Reason::Outgrown { context_tokens: wanted.options.context_tokens, slots: wanted.options.slots }
}
