//! Who gets memory next, and who leaves for it.
//!
//! ```text
//!   demands (who has waited longest first, see `oldest_first`)
//!     fits in what is free ──────────────► load or resume now
//!     else  bytes on their way out  +  idle ones give way  +  busy ones do so later
//! ```
//!
//! A demand that does not fit claims what leaves for it and, of what is free, the rest; a later one is placed only
//! in what no earlier one claims. A busy instance is never thrown out: its eviction is *deferred*, it is closed to new
//! grants once it has served for twice its load time (or the other has waited too long), and leaves when its leases
//! drop; its own backlog then waits again, behind the other. So two models that do not fit together are served
//! A A A B B B, whichever backlog is the older one, and none starves.

use std::collections::BTreeMap;

use samovar_core::Bytes;

use super::StepContext;
use crate::decide::state::{DeferredEviction, ModelId};
use crate::decide::view::{Leaves, Step};
use crate::decision::Reason;
use crate::protocol::InstanceId;

impl StepContext<'_> {
    /// Puts the state in order after whatever has happened.
    pub(super) fn settle(&mut self) {
        self.state.review_at = None;
        self.drop_stale_deferred_evictions();
        self.carry_out_deferred_evictions();
        let claimed = self.place_demands();
        self.fill_replicas(claimed);
        self.drop_stale_deferred_evictions();
        self.shed_above_soft();
        self.plan_review();
    }

    pub(super) fn await_memory(&mut self, model: ModelId) {
        if !self.state.is_leaving && !self.state.awaiting_memory.contains(&model) {
            self.state.awaiting_memory.insert(model);
        }
    }

    pub(super) fn await_no_memory(&mut self, model: ModelId) {
        if self.state.awaiting_memory.contains(&model) {
            self.state.awaiting_memory.remove(&model);
        }
    }

    fn drop_stale_deferred_evictions(&mut self) {
        let awaiting = &self.state.awaiting_memory;
        let deferred_evictions = self.state.deferred_evictions.iter();
        let stale: Vec<_> = deferred_evictions
            .filter(|(_, deferred_eviction)| !awaiting.contains(&deferred_eviction.beneficiary))
            .map(|(id, _)| *id)
            .collect();
        for id in stale {
            self.state.deferred_evictions.remove(&id);
            // It may have been closed to those who wait for it.
            let model = self.state.instance(id).model;
            self.review(model);
            self.went_idle(id);
        }
    }

    /// Lets those leave who have promised to and can.
    fn carry_out_deferred_evictions(&mut self) {
        let deferred_evictions: Vec<_> = self
            .state
            .deferred_evictions
            .iter()
            .map(|(id, deferred_eviction)| (*id, *deferred_eviction))
            .collect();
        for (id, deferred_eviction) in deferred_evictions {
            let instance = self.state.instance(id);
            let is_wanted_itself = deferred_eviction.at > self.now && self.state.is_wanted(instance.model);
            if instance.is_idle() && !is_wanted_itself && self.view().residency_end(id) <= self.now {
                let reason = self.view().needed_for(id, deferred_eviction.beneficiary);
                self.yield_turn(id, reason);
            }
        }
    }

    /// Gives the free bytes that demands claim which could not be placed.
    fn place_demands(&mut self) -> Bytes {
        let (mut claimed_free, mut claimed_leaving) = (Bytes::NONE, Bytes::NONE);
        for model in self.view().demands_by_age() {
            self.refuse_who_does_not_fit(model);
            if !self.state.awaiting_memory.contains(&model) {
                continue;
            }
            let Some(steps) = self.view().steps(model) else {
                self.reload_the_outgrown(model);
                continue;
            };
            let need: Bytes = steps.iter().map(|step| self.view().cost(step)).sum();
            let free = self.state.ledger.free().minus(claimed_free);
            if free.covers(need) {
                self.place(model, steps);
                continue;
            }
            // What is larger than it need be makes room by itself.
            self.begin_shrinking(&steps);
            let leaving = self.view().leaving_bytes().minus(claimed_leaving);
            let shortfall = need.minus(free + leaving);
            let back = self.ask_back(shortfall);
            self.make_room(model, &steps, shortfall.minus(back));
            let leaving = self.view().leaving_bytes().minus(claimed_leaving).min(need);
            claimed_leaving += leaving;
            claimed_free += need.minus(leaving).min(free);
        }
        claimed_free
    }

    fn begin_shrinking(&mut self, steps: &[Step]) {
        for step in steps.iter().filter(|step| self.view().shrinks(step)).cloned().collect::<Vec<_>>() {
            if let Step::Grow(id, spec) = step {
                self.begin_growth(id, self.state.instance(id).model, &spec);
            }
        }
    }

    pub(super) fn place(&mut self, model: ModelId, steps: Vec<Step>) {
        self.await_no_memory(model);
        for step in steps {
            match step {
                Step::Load(model, spec) => self.begin_load(model, spec),
                Step::Resume(id, spec) => self.begin_resume(id, self.state.instance(id).model, &spec),
                Step::Grow(id, spec) => self.begin_growth(id, self.state.instance(id).model, &spec),
            }
        }
    }

    /// Has so many bytes leave for the model: idle ones now, busy ones later. Only what frees something where there
    /// is too little has to go.
    fn make_room(&mut self, model: ModelId, steps: &[Step], shortfall: Bytes) {
        if shortfall.is_none() {
            return;
        }
        let mut leavers = Leavers::until(shortfall, self);
        for victim in self.view().victims(model, steps) {
            if leavers.is_enough() {
                break;
            }
            let go = leavers.add(victim, self);
            self.let_go(model, go);
        }
    }

    pub(super) fn let_go(&mut self, beneficiary: ModelId, victims: Vec<(Leaves, InstanceId)>) {
        for (leaves, id) in victims {
            if leaves == Leaves::Now && self.view().can_give_way(id) {
                let reason = self.view().needed_for(id, beneficiary);
                self.give_way(id, reason);
            } else if leaves == Leaves::Later {
                let deferred_eviction =
                    DeferredEviction { beneficiary, at: self.view().closing_time(id, beneficiary) };
                self.state.deferred_evictions.insert(id, deferred_eviction);
            }
        }
    }

    /// Wakes up for what time alone changes about deferred evictions.
    fn plan_review(&mut self) {
        let times = self
            .state
            .deferred_evictions
            .iter()
            .flat_map(|(id, deferred_eviction)| [deferred_eviction.at, self.view().residency_end(*id)]);
        let next = times.filter(|at| *at > self.now).chain(self.state.review_at).min();
        self.state.review_at = next;
    }

    /// Has an instance leave for another model as it has promised. Those whom it would have served wait anew.
    pub(super) fn yield_turn(&mut self, id: InstanceId, reason: Reason) {
        let model = self.state.instance(id).model;
        let dependents = self.state.model(model).needed_by.iter().copied();
        let concerned: Vec<_> = dependents.chain([model]).collect();
        let had_their_turn: Vec<_> =
            concerned.iter().flat_map(|model| self.view().with_service(*model)).collect();
        self.give_way(id, reason);
        let still_have: Vec<_> =
            concerned.iter().flat_map(|model| self.view().with_service(*model)).collect();
        // After all who have come until now, whom this may be for.
        let anew = self.now.plus(1);
        for ticket in had_their_turn.into_iter().filter(|ticket| !still_have.contains(ticket)) {
            if let Some(ticket) = self.state.tickets.get_mut(&ticket) {
                ticket.counts_from = anew;
            }
        }
    }
}

/// Those who leave, one after the other, until enough is freed.
pub(super) struct Leavers {
    leaving: BTreeMap<InstanceId, Bytes>,
    freed: Bytes,
    enough: Bytes,
    /// Their leaving has freed nothing that is short: they stay unless another of their model leaves as well.
    siblings: Vec<(Leaves, InstanceId)>,
}

impl Leavers {
    /// So much is to be freed beside what leaves already.
    pub(super) fn until(shortfall: Bytes, context: &StepContext<'_>) -> Self {
        let leaving = context.view().leaving();
        let freed = context.state.ledger.freed_by_all(&leaving);
        Self { leaving, freed, enough: freed + shortfall, siblings: Vec::new() }
    }

    pub(super) fn is_enough(&self) -> bool {
        self.freed.covers(self.enough)
    }

    /// Who has to go now that this one may: itself and its siblings, or none yet.
    pub(super) fn add(
        &mut self,
        (leaves, id): (Leaves, InstanceId),
        context: &StepContext<'_>,
    ) -> Vec<(Leaves, InstanceId)> {
        if self.leaving.contains_key(&id) {
            return Vec::new();
        }
        let mut with_this = self.leaving.clone();
        context.view().add_leaving(&mut with_this, id);
        let freed_with_this = context.state.ledger.freed_by_all(&with_this);
        let (gained, short) = (freed_with_this.minus(self.freed), self.enough.minus(self.freed));
        let mapped = context.state.ledger.memory(id).mapped_bytes();
        if !gained.helps(short) && mapped.min(short).is_none() {
            return Vec::new();
        }
        self.leaving = with_this;
        // It may free nothing here but weights that it shares: those go with the last of its model.
        self.siblings.push((leaves, id));
        if gained.is_none() || !gained.helps(short) {
            return Vec::new();
        }
        self.freed = freed_with_this;
        let model = context.state.instance(id).model;
        let is_sibling = |(_, other): &(Leaves, InstanceId)| context.state.instance(*other).model == model;
        let (go, stay) = std::mem::take(&mut self.siblings).into_iter().partition(is_sibling);
        self.siblings = stay;
        go
    }
}
