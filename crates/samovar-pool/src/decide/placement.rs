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

use std::collections::BTreeMap;

use samovar_core::port::Millis;

use super::Turn;
use super::demand::Placement;
use super::state::{ModelId, Phase};
use crate::decision::Reason;
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
        let claimed_bytes = self.place_wants();
        self.fill_crews(claimed_bytes);
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
            let is_wanted_itself = pledge.at > self.now && self.state.is_wanted(instance.model);
            if instance.is_idle() && !is_wanted_itself && self.residency_end(id) <= self.now {
                let reason = self.needed_for(id, pledge.beneficiary);
                self.give_way(id, reason);
            }
        }
    }

    /// Gives the free bytes that wants claim which could not be placed.
    fn place_wants(&mut self) -> u64 {
        let (mut claimed_free, mut claimed_leaving) = (0, 0);
        let wants: Vec<_> = self.state.wants.iter().copied().collect();
        for model in wants {
            self.refuse_who_does_not_fit(model);
            if !self.state.wants.contains(&model) {
                continue;
            }
            let lacking = self.lacking(model);
            let need: u64 = lacking.iter().map(|placement| self.cost(placement)).sum();
            let free = self.state.ledger.free().saturating_sub(claimed_free);
            if need <= free {
                self.place(model, lacking);
                continue;
            }
            let leaving = self.leaving_bytes().saturating_sub(claimed_leaving);
            self.make_room(model, &lacking, need.saturating_sub(free + leaving));
            let leaving = self.leaving_bytes().saturating_sub(claimed_leaving).min(need);
            claimed_leaving += leaving;
            claimed_free += (need - leaving).min(free);
        }
        claimed_free
    }

    pub(super) fn place(&mut self, model: ModelId, lacking: Vec<Placement>) {
        self.unwant(model);
        for placement in lacking {
            match placement {
                Placement::Load(model, spec) => self.begin_load(model, spec),
                Placement::Resume(id, spec) => self.begin_resume(id, self.state.instance(id).model, &spec),
                Placement::Grow(id, spec) => self.begin_growth(id, self.state.instance(id).model, &spec),
            }
        }
    }

    /// Bytes that will be free without any further decision.
    pub(super) fn leaving_bytes(&self) -> u64 {
        self.state.ledger.freed_by_all(&self.leaving()).saturating_sub(self.state.ledger.owed())
    }

    /// Who leaves, and how many bytes each will still hold then.
    pub(super) fn leaving(&self) -> BTreeMap<InstanceId, u64> {
        let instances = self.state.instances.iter();
        let leaving = instances.filter_map(|(id, instance)| {
            if !instance.stays() {
                Some((*id, 0))
            } else if instance.phase == Phase::Parking && instance.growth.is_none() {
                Some((*id, self.residue(*id)))
            } else {
                None
            }
        });
        let mut leaving = leaving.collect();
        for id in self.state.pledges.keys() {
            self.add_leaving(&mut leaving, *id);
        }
        leaving
    }

    /// Adds an instance that will give way, and those that leave with it.
    pub(super) fn add_leaving(&self, leaving: &mut BTreeMap<InstanceId, u64>, id: InstanceId) {
        for id in std::iter::once(id).chain(self.followers(id)) {
            leaving.entry(id).or_insert_with(|| self.left_after(id));
        }
    }

    /// Has so many bytes leave for the model: idle ones now, busy ones by pledge.
    fn make_room(&mut self, model: ModelId, lacking: &[Placement], shortfall: u64) {
        let mut leaving = self.leaving();
        let mut freed_bytes = self.state.ledger.freed_by_all(&leaving);
        let enough_bytes = freed_bytes.saturating_add(shortfall);
        let mut siblings: Vec<(Step, InstanceId)> = Vec::new();
        for (step, id) in self.victims(model, lacking) {
            if freed_bytes >= enough_bytes {
                break;
            }
            if leaving.contains_key(&id) {
                continue;
            }
            self.add_leaving(&mut leaving, id);
            let with_it = self.state.ledger.freed_by_all(&leaving);
            // It may hold nothing but weights that it shares: those go with the last of its model.
            siblings.push((step, id));
            if with_it == freed_bytes {
                continue;
            }
            freed_bytes = with_it;
            let kind = self.state.instance(id).model;
            let (go, stay) = siblings.into_iter().partition(|(_, id)| self.state.instance(*id).model == kind);
            siblings = stay;
            self.let_go(model, go);
        }
    }

    fn let_go(&mut self, beneficiary: ModelId, victims: Vec<(Step, InstanceId)>) {
        for (step, id) in victims {
            if step == Step::Now && self.can_give_way(id) {
                let reason = self.needed_for(id, beneficiary);
                self.give_way(id, reason);
            } else if step == Step::Later {
                let pledge = Pledge { beneficiary, at: self.closing_time(id, beneficiary) };
                self.state.pledges.insert(id, pledge);
            }
        }
    }

    /// Who could leave for the model, in the order of leaving. Not what it waits for itself, nor that of models which
    /// have waited for longer: else two that wait could have each other leave. Groups leave as one.
    pub(super) fn victims(&self, beneficiary: ModelId, lacking: &[Placement]) -> Vec<(Step, InstanceId)> {
        // What is to become smaller gives nothing back before it has: it can be in the way itself.
        let is_lacking = |id| {
            let mut resized = lacking.iter().filter(|placement| placement.instance() == Some(id));
            resized.any(|placement| !self.shrinks(placement))
        };
        let earlier = self.state.wants.iter().take_while(|want| **want != beneficiary);
        let spared: Vec<_> = earlier.flat_map(|want| self.state.group(*want)).collect();
        let own = self.state.group(beneficiary);
        let instances = self.state.instances.iter().filter(|(id, instance)| {
            instance.stays()
                && instance.growth.is_none()
                && matches!(instance.phase, Phase::Ready | Phase::Parked)
                && !is_lacking(**id)
                && !spared.contains(&instance.model)
                && !self.is_held_by_its_group(**id)
                && !self.is_gathering(instance.model)
                && (instance.model == beneficiary || !self.state.is_pinned(instance.model))
                && !self.state.pledges.contains_key(id)
        });
        let in_order = self.in_order_of_leaving(instances.map(|(id, _)| *id).collect());
        let is_free = |id: InstanceId| {
            let instance = self.state.instance(id);
            instance.is_idle() && !self.state.is_wanted(instance.model)
        };
        let idle = in_order.iter().copied().filter(|id| is_free(*id) && self.residency_end(*id) <= self.now);
        let dispensable = self.dispensable(idle);
        let classified = in_order.into_iter().map(|id| {
            let (class, step) = match self.state.instance(id).phase {
                _ if dispensable.contains(&id) => (0, Step::Now),
                // Larger than it need be, it can be in the way of its own group.
                _ if own.contains(&self.state.instance(id).model) => (5, Step::Later),
                Phase::Ready if is_free(id) && self.residency_end(id) <= self.now => (1, Step::Now),
                Phase::Parked if is_free(id) => (2, Step::Now),
                Phase::Ready => (3, Step::Later),
                // Parked, and waited for: it is the last to go, but go it can.
                _ => (4, Step::Later),
            };
            (class, step, id)
        });
        let mut victims: Vec<_> = classified.collect();
        victims.sort_by_key(|(class, ..)| *class);
        victims.into_iter().map(|(_, step, id)| (step, id)).collect()
    }

    /// Whether those who wait for the model wait for a part of its group that is on its way: what is there already
    /// would else be closed before anybody was served.
    fn is_gathering(&self, model: ModelId) -> bool {
        let of_model = self.state.model(model);
        let mut parts = self.state.group(model).into_iter();
        of_model.has_waiting()
            && !of_model.members.is_empty()
            && parts.any(|part| self.state.staying(part).any(|(_, instance)| instance.is_coming()))
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

    pub(super) fn needed_for(&self, id: InstanceId, beneficiary: ModelId) -> Reason {
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
pub(super) enum Step {
    Now,
    Later,
}
