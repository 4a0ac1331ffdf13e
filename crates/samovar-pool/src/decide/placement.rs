//! Who gets memory next, and who leaves for it.
//!
//! ```text
//!   wants (first come, first placed)
//!     fits in what is free ──────────────► load or resume now
//!     else  bytes on their way out  +  idle ones give way  +  busy ones pledge to
//! ```
//!
//! A want that does not fit claims what leaves for it and, of what is free, the rest; a later want is placed only
//! in what no earlier one claims. A busy instance is never thrown out: it *pledges* to leave, is closed to new
//! grants once it has served for twice its load time (or the other has waited too long), and leaves when its leases
//! drop. So two models that do not fit together are served A A A B B B, and nobody starves.

use samovar_core::port::Millis;

use super::Turn;
use super::state::{ModelId, Phase};
use crate::decision::{Reason, What};
use crate::protocol::InstanceId;

/// A promise to leave for a model that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pledge {
    pub(super) beneficiary: ModelId,
    /// Closed to new grants from then on.
    pub(super) at: Millis,
}

impl Turn<'_> {
    /// Puts the state in order after whatever has happened.
    pub(super) fn settle(&mut self) {
        self.state.review_at = None;
        self.drop_stale_pledges();
        self.keep_pledges();
        self.place_wants();
        self.drop_stale_pledges();
        self.shed_above_soft();
        self.plan_review();
    }

    pub(super) fn want(&mut self, model: ModelId) {
        if !self.state.is_leaving && !self.state.wants.contains(&model) {
            self.state.wants.push_back(model);
        }
    }

    pub(super) fn unwant(&mut self, model: ModelId) {
        self.state.wants.retain(|other| *other != model);
    }

    fn drop_stale_pledges(&mut self) {
        let wants = &self.state.wants;
        let pledges = self.state.pledges.iter();
        let stale: Vec<_> =
            pledges.filter(|(_, pledge)| !wants.contains(&pledge.beneficiary)).map(|(id, _)| *id).collect();
        for id in stale {
            self.state.pledges.remove(&id);
            // It may have been closed to those who wait for it.
            let model = self.state.instance(id).model;
            self.review(model);
            self.went_idle(id);
        }
    }

    /// Lets those leave who have promised to and can.
    fn keep_pledges(&mut self) {
        let pledges: Vec<_> = self.state.pledges.iter().map(|(id, pledge)| (*id, *pledge)).collect();
        for (id, pledge) in pledges {
            let instance = self.state.instance(id);
            let is_wanted_itself = pledge.at > self.now && self.state.model(instance.model).has_waiting();
            if instance.is_idle() && !is_wanted_itself && self.residency_end(id) <= self.now {
                let reason = self.needed_for(id, pledge.beneficiary);
                self.give_way(id, reason);
            }
        }
    }

    fn place_wants(&mut self) {
        let (mut claimed_free, mut claimed_leaving) = (0, 0);
        let wants: Vec<_> = self.state.wants.iter().copied().collect();
        for model in wants {
            self.refuse_what_can_not_be_placed(model);
            if !self.state.wants.contains(&model) || self.is_leaving_first(model) {
                continue;
            }
            let need = self.need(model);
            let free = self.state.ledger.free().saturating_sub(claimed_free);
            if need <= free {
                self.place(model);
                continue;
            }
            let leaving = self.leaving_bytes().saturating_sub(claimed_leaving);
            self.make_room(model, need.saturating_sub(free + leaving));
            let leaving = self.leaving_bytes().saturating_sub(claimed_leaving).min(need);
            claimed_leaving += leaving;
            claimed_free += (need - leaving).min(free);
        }
    }

    /// Whether the model waits for its own parked instance to be gone, which had to leave for another.
    fn is_leaving_first(&self, model: ModelId) -> bool {
        let instance = self.state.instance_of(model);
        instance.is_some_and(|(_, instance)| instance.phase != Phase::Parked || instance.farewell.is_some())
    }

    fn refuse_what_can_not_be_placed(&mut self, model: ModelId) {
        if self.does_not_fit(model, &self.wanted_spec(model)).is_some() {
            self.refuse_who_does_not_fit(model);
        }
        let Some((id, parked)) = self.state.instance_of(model) else { return };
        if let Some(_too_large) = self.does_not_fit(model, &parked.spec) {
            // It was parked under a larger budget; a smaller load may still serve who waits.
            let needed_bytes = self.state.model(model).expected(&parked.spec).total_bytes();
            let budget_bytes = self.state.config.budget.bytes;
            let reason = Reason::DoesNotFit { needed_bytes, budget_bytes, largest_bytes: budget_bytes };
            self.unwant(model);
            self.bid_farewell(id, What::Unloaded, reason);
        }
    }

    /// Bytes that the load or the resume which the model waits for would take.
    fn need(&self, model: ModelId) -> u64 {
        let of_model = self.state.model(model);
        match self.state.instance_of(model) {
            Some((id, parked)) => self.state.ledger.cost(Some(id), model, of_model.expected(&parked.spec)),
            None => self.state.ledger.cost(None, model, of_model.expected(&self.wanted_spec(model))),
        }
    }

    fn place(&mut self, model: ModelId) {
        self.unwant(model);
        match self.state.model(model).instance {
            Some(id) => self.begin_resume(id, model),
            None => self.begin_load(model),
        }
    }

    /// Bytes that will be free without any further decision.
    pub(super) fn leaving_bytes(&self) -> u64 {
        let instances = self.state.instances.iter();
        let leaving = instances.map(|(id, instance)| {
            if instance.farewell.is_some() {
                self.state.ledger.freed_by_unload(*id)
            } else if instance.phase == Phase::Parking {
                self.state.ledger.freed_by_park(*id, self.residue(*id))
            } else if self.state.pledges.contains_key(id) {
                self.frees(*id)
            } else {
                0
            }
        });
        leaving.sum::<u64>().saturating_sub(self.state.ledger.owed())
    }

    /// Has so many bytes leave for the model: idle ones now, busy ones by pledge.
    fn make_room(&mut self, model: ModelId, mut shortfall: u64) {
        if shortfall == 0 {
            return;
        }
        for (step, id) in self.victims(model) {
            if shortfall == 0 {
                break;
            }
            let frees = self.frees(id);
            if frees == 0 {
                continue;
            }
            shortfall = shortfall.saturating_sub(frees);
            if step == Step::Now {
                let reason = self.needed_for(id, model);
                self.give_way(id, reason);
            } else {
                let pledge = Pledge { beneficiary: model, at: self.closing_time(id, model) };
                self.state.pledges.insert(id, pledge);
            }
        }
    }

    /// Who could leave for the model, in the order of leaving.
    fn victims(&self, beneficiary: ModelId) -> Vec<(Step, InstanceId)> {
        let instances = self.state.instances.iter().filter(|(id, instance)| {
            instance.model != beneficiary
                && instance.farewell.is_none()
                && matches!(instance.phase, Phase::Ready | Phase::Parked)
                && !self.state.model(instance.model).is_pinned
                && !self.state.pledges.contains_key(id)
        });
        let instances: Vec<_> = instances.collect();
        let ids: Vec<_> = instances.iter().map(|(id, _)| **id).collect();
        let mut victims: Vec<_> = instances
            .into_iter()
            .zip(self.ranks(&ids))
            .map(|((id, instance), rank)| {
                let is_free = instance.is_idle() && !self.state.model(instance.model).has_waiting();
                let (class, step) = match instance.phase {
                    Phase::Ready if is_free && self.residency_end(*id) <= self.now => (0, Step::Now),
                    Phase::Parked if is_free => (1, Step::Now),
                    Phase::Ready => (2, Step::Later),
                    // Parked, and waited for: it is the last to go, but go it can.
                    _ => (3, Step::Later),
                };
                (class, rank, step, *id)
            })
            .collect();
        victims.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.3.cmp(&b.3)));
        victims.into_iter().map(|(_, _, step, id)| (step, id)).collect()
    }

    /// An instance stays at least until then.
    pub(super) fn residency_end(&self, id: InstanceId) -> Millis {
        self.state.instance(id).ready_span.1.plus(self.state.config.min_residency_ms)
    }

    /// When a busy instance is closed for the sake of another model: after twice its load time, or when the other
    /// has waited as long as anybody should.
    fn closing_time(&self, id: InstanceId, beneficiary: ModelId) -> Millis {
        let instance = self.state.instance(id);
        let served = instance.ready_span.1.plus(instance.load_ms.saturating_mul(2));
        let waiting = self.state.model(beneficiary).waiting().into_iter();
        let oldest = waiting.map(|ticket| self.state.tickets[&ticket].asked_at).min().unwrap_or(self.now);
        let patience_ends = oldest.plus(self.state.config.max_wait_ms);
        served.min(patience_ends).max(self.residency_end(id))
    }

    fn needed_for(&self, id: InstanceId, beneficiary: ModelId) -> Reason {
        Reason::NeededFor {
            model: self.state.model(beneficiary).spec.name.clone(),
            frees_bytes: self.frees(id),
            idle_ms: self.now.since(self.state.instance(id).last_used),
            reload_ms: self.reload_ms(id),
        }
    }

    /// Wakes up for what time alone changes about pledges.
    fn plan_review(&mut self) {
        let times = self.state.pledges.iter().flat_map(|(id, pledge)| [pledge.at, self.residency_end(*id)]);
        let next = times.filter(|at| *at > self.now).chain(self.state.review_at).min();
        self.state.review_at = next;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Now,
    Later,
}
