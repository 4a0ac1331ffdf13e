//! What becomes of an instance: the outcomes of loads, parkings, resumes and leases.
//!
//! ```text
//!   begin_load ─► Loading ─► Ready ◄──────────────┐
//!                    │         ├─ give_way ─► Parking ─► Parked ─► begin_resume
//!                    │         └─ bid_farewell ─► (drain) ─┐  └─ give_way ─┐
//!                    └─ failed ─► gone        Unloading ◄──┴───────────────┘
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use samovar_core::{Arena, Bytes, Cost, Failure, Layout, LoadOptions, Memory};

use super::StepContext;
use super::growth::outgrown;
use super::keep_alive::within_bounds;
use crate::ask::ModelSpec;
use crate::decide::state::{Growth, Instance, InstanceHealth, ModelId, Phase};
use crate::decision::{Reason, What};
use crate::error::Error;
use crate::lease::GrantKind;
use crate::protocol::{Effect, InstanceId, TicketId};

impl StepContext<'_> {
    /// Begins the load that a model waits for. Its bytes must be free.
    pub(super) fn begin_load(&mut self, model: ModelId, spec: Arc<ModelSpec>) {
        let reservation = self.state.model(model).expected(&spec).clone();
        let id = InstanceId(self.state.next_instance);
        if !self.state.ledger.reserve(id, model, &reservation) {
            self.await_memory(model);
            return;
        }
        self.state.next_instance += 1;
        let reason = self.view().reason_to_load(model);
        let instance = Instance {
            model,
            phase: Phase::Loading { fraction: 0.0, is_stopped: false },
            leases: 0,
            holds: 0,
            uses: 0,
            age_when_used: self.state.age,
            last_used: self.now,
            ready_span: (self.now, self.now),
            load_ms: self.state.model(model).tally.load_times.expected_ms(spec.load_ms).unwrap_or(0),
            keep_alive: within_bounds(&self.state.config, spec.keep_alive),
            expires_at: None,
            is_lapsed: false,
            exit_reason: None,
            leaves_when_idle: false,
            growth: None,
            growth_blocked: None,
            affinities: VecDeque::new(),
            health: InstanceHealth::default(),
            spec: Arc::clone(&spec),
        };
        self.state.instances.insert(id, instance);
        self.state.model_mut(model).instances.insert(id);
        self.mark_grant_kinds(model, GrantKind::Joined);
        self.note(model, What::Loading, reason);
        self.effects.push(Effect::Load { instance: id, model: spec, reservation });
        self.tell_waiting(model);
    }

    /// Begins the resume that a model waits for, with the options of this spec. Its bytes must be free.
    pub(super) fn begin_resume(&mut self, id: InstanceId, model: ModelId, spec: &Arc<ModelSpec>) {
        let full = self.state.model(model).expected(spec).clone();
        if !self.state.ledger.reserve(id, model, &full) {
            self.await_memory(model);
            return;
        }
        self.stop_keep_alive(id);
        self.state.deferred_evictions.remove(&id);
        let now = self.now;
        let instance = self.state.instance_mut(id);
        instance.phase = Phase::Resuming;
        instance.ready_span = (now, now);
        if instance.spec.options != spec.options {
            instance.growth = Some(Growth { spec: Arc::clone(spec), before: None });
            self.note(model, What::Growing, outgrown(spec));
        }
        self.mark_grant_kinds(model, GrantKind::Parked);
        let reservation = self.state.ledger.memory(id);
        self.effects.push(Effect::Resume { instance: id, model: Arc::clone(spec), reservation });
        self.tell_waiting(model);
    }

    /// A request that waits for this load or resume came to it so; a load is caused by who is first in the queue.
    pub(super) fn mark_grant_kinds(&mut self, model: ModelId, grant_kind: GrantKind) {
        let dependents = self.state.model(model).needed_by.clone();
        for waited_for in dependents.into_iter().chain([model]) {
            for (index, id) in self.state.model(waited_for).waiting().into_iter().enumerate() {
                if let Some(ticket) = self.state.tickets.get_mut(&id) {
                    let is_cause = index == 0 && grant_kind == GrantKind::Joined;
                    ticket.grant_kind = if is_cause { GrantKind::Cold } else { grant_kind };
                }
            }
        }
    }

    pub(super) fn load_got_on(&mut self, id: InstanceId, fraction: f32) {
        let Some(instance) = self.state.instances.get_mut(&id) else { return };
        if let Phase::Loading { fraction: known, .. } = &mut instance.phase
            && fraction > *known
        {
            *known = fraction.min(1.0);
            let model = instance.model;
            self.tell_waiting(model);
        }
    }

    pub(super) fn loaded(&mut self, id: InstanceId, measured: Memory, layout: Layout) {
        let now = self.now;
        let Some(instance) = self.state.instances.get_mut(&id).filter(|instance| instance.is_loading())
        else {
            return;
        };
        instance.phase = Phase::Ready;
        instance.ready_span.1 = now;
        instance.last_used = now;
        instance.load_ms = now.since(instance.ready_span.0);
        let (model, load_ms) = (instance.model, instance.load_ms);
        self.came_out_as(id, &measured, layout);
        let bytes = self.correct(id, model, measured);
        self.state.count(model, |tally| {
            tally.loads += 1;
            tally.load_times.add(load_ms);
        });
        self.note(model, What::Loaded, Reason::Took { ms: load_ms, bytes });
        if self.state.model(model).backoff.as_ref().is_some_and(|backoff| !backoff.is_death) {
            self.has_proved_itself(model);
            self.forget_backoff(model);
        }
        self.became_ready(id, model);
    }

    /// Takes an instance for what it is. A packed file that was refused is no failure, and what was measured without it
    /// says nothing about a load with it.
    fn came_out_as(&mut self, id: InstanceId, measured: &Memory, layout: Layout) {
        let instance = self.state.instance_mut(id);
        if instance.spec.options.layout != layout {
            let options = LoadOptions { layout, ..instance.spec.options.clone() };
            let mut spec = ModelSpec { options, ..(*instance.spec).clone() };
            if !measured.is_none() {
                spec.cost = Cost { memory: measured.clone(), ..spec.cost };
            }
            instance.spec = Arc::new(spec);
        }
    }

    /// Counts what was measured, and remembers it for the next prediction. Gives all bytes of it.
    fn correct(&mut self, id: InstanceId, model: ModelId, measured: Memory) -> u64 {
        let predicted = self.state.ledger.memory(id);
        let predicted_bytes = predicted.total().sum();
        // An engine that measures nothing is believed in its prediction.
        let memory = if measured.is_none() { predicted } else { measured };
        let measured_bytes = memory.total().sum();
        self.state.ledger.commit(id, &memory);
        let options = self.state.instance(id).spec.options.clone();
        self.state.model_mut(model).learned = Some((options, memory));
        if predicted_bytes.abs_diff(measured_bytes) > predicted_bytes / 20 {
            self.note(model, What::Corrected, Reason::Measured { predicted_bytes, measured_bytes });
        }
        measured_bytes
    }

    /// Counts what it holds now. The next load is predicted without what requests have brought along since.
    pub(super) fn weighed(&mut self, id: InstanceId, measured: &Memory) {
        if self.state.instances.get(&id).is_some_and(Instance::is_steady) {
            self.state.ledger.commit(id, measured);
        }
    }

    /// The prediction was wrong and the model exceeds the budget of an arena by itself: it can not stay.
    fn measured_too_large(&mut self, id: InstanceId, model: ModelId, needed: Bytes, arena: Arena) {
        let budget_bytes = self.state.config.budgets().of(arena);
        let reason = Reason::DoesNotFit {
            needed_bytes: needed.of(arena),
            budget_bytes,
            largest_bytes: budget_bytes,
            arena,
        };
        self.refuse_who_does_not_fit(model);
        self.begin_unload(id, What::Unloaded, reason);
    }

    fn became_ready(&mut self, id: InstanceId, model: ModelId) {
        let needed = self.state.ledger.memory_with_debt(id).total();
        if let Some(arena) = self.state.config.budgets().short_of(needed) {
            self.measured_too_large(id, model, needed, arena);
        }
        self.review(model);
        self.went_idle(id);
    }

    pub(super) fn load_failed(&mut self, id: InstanceId, failure: Failure) {
        let Some(instance) = self.state.instances.get(&id).filter(|instance| instance.is_loading()) else {
            return;
        };
        let (model, was_stopped) = (instance.model, instance.exit_reason.is_some());
        self.remove(id, model);
        if was_stopped {
            self.review(model);
            return;
        }
        self.state.count(model, |tally| tally.load_failures += 1);
        let reason = self.set_back(model, failure, false);
        self.note(model, What::LoadFailed, reason);
        // Others that are there serve on.
        self.refuse_after_failure(model);
        self.review(model);
    }

    /// Refuses all requests that wait for the model.
    pub(super) fn refuse_waiting(&mut self, model: ModelId, why: &Error) {
        for ticket in self.state.model(model).waiting() {
            self.refuse(ticket, why.clone());
        }
        self.review(model);
    }

    /// Refuses those who wait for something that can not be loaded any more.
    pub(super) fn refuse_who_does_not_fit(&mut self, model: ModelId) {
        for ticket in self.state.model(model).waiting() {
            if let Some(why) = self.view().does_not_fit(model, &Arc::clone(&self.state.tickets[&ticket].spec))
            {
                self.refuse(ticket, why);
            }
        }
        self.review(model);
    }

    pub(super) fn refuse(&mut self, id: TicketId, why: Error) {
        match self.take_ticket(id) {
            Some(ticket) if ticket.wants_slot => self.turn_down(id, ticket.model, why),
            Some(_) => self.effects.push(Effect::Refuse { ticket: id, why }),
            None => {}
        }
    }

    pub(super) fn released(&mut self, ticket: TicketId, failed: Option<Failure>) {
        if self.give_back(ticket) {
            return;
        }
        let Some(lease) = self.state.leases.remove(&ticket) else { return };
        let now = self.now;
        let instance = self.state.instance_mut(lease.instance);
        instance.leases -= 1;
        instance.last_used = now;
        let model = instance.model;
        for member in &lease.members {
            let member = self.state.instance_mut(*member);
            member.holds -= 1;
            member.last_used = now;
        }
        self.state.model_mut(model).hold.add(now.since(lease.granted_at), now);
        self.judge(lease.instance, failed);
        self.review(model);
        self.went_idle(lease.instance);
        for member in lease.members {
            self.went_idle(member);
        }
    }

    /// The instance must be replaced; what still uses it ends as it ends.
    pub(super) fn died(&mut self, id: InstanceId, failure: Failure) {
        let Some(instance) = self.state.instances.get(&id) else { return };
        if instance.exit_reason.is_some()
            || matches!(instance.phase, Phase::Loading { .. } | Phase::Unloading)
        {
            return;
        }
        let model = instance.model;
        self.state.count(model, |tally| tally.died += 1);
        let reason = self.set_back(model, failure, true);
        self.note(model, What::Died, reason.clone());
        self.begin_unload(id, What::Unloaded, reason);
        self.refuse_after_failure(model);
        self.replace(model);
    }

    pub(super) fn parked(&mut self, id: InstanceId, left: Bytes) {
        let Some(instance) = self.state.instances.get_mut(&id).filter(|i| i.phase == Phase::Parking) else {
            return;
        };
        let model = instance.model;
        self.state.model_mut(model).residue = Some(left);
        if self.resume_grown(id) {
            return;
        }
        self.state.instance_mut(id).phase = Phase::Parked;
        self.state.ledger.park(id, left);
        self.state.count(model, |tally| tally.parked += 1);
        self.became_ready(id, model);
    }

    pub(super) fn park_failed(&mut self, id: InstanceId, failure: Failure) {
        let Some(instance) = self.state.instances.get_mut(&id).filter(|i| i.phase == Phase::Parking) else {
            return;
        };
        instance.phase = Phase::Ready;
        if instance.exit_reason.is_some() {
            self.unload(id);
            return;
        }
        self.begin_unload(id, What::Unloaded, failed(failure));
    }

    pub(super) fn resumed(&mut self, id: InstanceId, measured: Memory) {
        let now = self.now;
        let Some(instance) = self.state.instances.get_mut(&id).filter(|i| i.phase == Phase::Resuming) else {
            return;
        };
        instance.phase = Phase::Ready;
        instance.ready_span.1 = now;
        instance.last_used = now;
        let (model, ms) = (instance.model, now.since(instance.ready_span.0));
        self.state.model_mut(model).resume.add(ms, now);
        self.clear_suspicion(id);
        let growth = self.has_grown(id);
        let bytes = self.correct(id, model, measured);
        if growth.as_ref().is_none_or(|growth| growth.before.is_none()) {
            self.state.count(model, |tally| tally.resumed += 1);
        }
        let what = if growth.is_some() { What::Grown } else { What::Resumed };
        self.note(model, what, Reason::Took { ms, bytes });
        self.became_ready(id, model);
    }

    pub(super) fn resume_failed(&mut self, id: InstanceId, failure: Failure) {
        let Some(instance) = self.state.instances.get_mut(&id).filter(|i| i.phase == Phase::Resuming) else {
            return;
        };
        let (model, leaves, growth) =
            (instance.model, instance.exit_reason.is_some(), instance.growth.take());
        if let Some(growth) = growth.filter(|_| !leaves) {
            self.growth_failed(id, &growth, failure);
            return;
        }
        self.left_parked(id, model);
        if leaves {
            self.unload(id);
        } else {
            self.begin_unload(id, What::Unloaded, failed(failure));
        }
    }

    /// It was parked, and still is.
    pub(super) fn left_parked(&mut self, id: InstanceId, model: ModelId) {
        let residue = self.state.model(model).residue.unwrap_or_default();
        self.state.instance_mut(id).phase = Phase::Parked;
        self.state.ledger.park(id, residue);
    }

    pub(super) fn unloaded(&mut self, id: InstanceId) {
        let Some(instance) = self.state.instances.get(&id).filter(|i| i.phase == Phase::Unloading) else {
            return;
        };
        let model = instance.model;
        self.remove(id, model);
        self.review(model);
        self.tell_waiting(model);
    }

    fn remove(&mut self, id: InstanceId, model: ModelId) {
        self.stop_keep_alive(id);
        self.state.deferred_evictions.remove(&id);
        self.state.instances.remove(&id);
        self.state.ledger.release(id);
        self.state.model_mut(model).instances.remove(&id);
    }
}

fn failed(failure: Failure) -> Reason {
    Reason::Failed { kind: failure.kind, message: failure.message, retry_in_ms: 0 }
}
