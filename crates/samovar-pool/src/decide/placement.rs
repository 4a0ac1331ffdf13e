//! Who gets memory next, and who leaves for it.
//!
//! ```text
//!   wants (who has waited longest first, see `seniority`)
//!     fits in what is free ──────────────► load or resume now
//!     else  bytes on their way out  +  idle ones give way  +  busy ones pledge to
//! ```
//!
//! A want that does not fit claims what leaves for it and, of what is free, the rest; a later want is placed only
//! in what no earlier one claims. A busy instance is never thrown out: it *pledges* to leave, is closed to new
//! grants once it has served for twice its load time (or the other has waited too long), and leaves when its leases
//! drop; its own backlog waits anew then, behind the other. So two models that do not fit together are served
//! A A A B B B, whosever backlog is the older one, and nobody starves.

use std::collections::BTreeMap;

use samovar_core::port::Millis;

use super::Turn;
use super::demand::Placement;
use super::seniority::LAST;
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
        if !self.state.is_leaving {
            self.state.wants.insert(model);
        }
    }

    pub(super) fn unwant(&mut self, model: ModelId) {
        self.state.wants.remove(&model);
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
                self.yield_turn(id, reason);
            }
        }
    }

    /// Gives the free bytes that wants claim which could not be placed.
    fn place_wants(&mut self) -> u64 {
        let (mut claimed_free, mut claimed_leaving) = (0, 0);
        for model in self.wants_by_age() {
            self.refuse_who_does_not_fit(model);
            if !self.state.wants.contains(&model) {
                continue;
            }
            let Some(lacking) = self.lacking(model) else {
                self.reload_the_outgrown(model);
                continue;
            };
            let need: u64 = lacking.iter().map(|placement| self.cost(placement)).sum();
            let free = self.state.ledger.free().saturating_sub(claimed_free);
            if need <= free {
                self.place(model, lacking);
                continue;
            }
            // What is larger than it need be makes room by itself.
            self.begin_shrinking(&lacking);
            let leaving = self.leaving_bytes().saturating_sub(claimed_leaving);
            let shortfall = need.saturating_sub(free + leaving);
            let back = self.ask_back(shortfall);
            self.make_room(model, &lacking, shortfall.saturating_sub(back));
            let leaving = self.leaving_bytes().saturating_sub(claimed_leaving).min(need);
            claimed_leaving += leaving;
            claimed_free += (need - leaving).min(free);
        }
        claimed_free
    }

    fn wants_by_age(&self) -> Vec<ModelId> {
        let wants = self.state.wants.iter();
        let mut by_age: Vec<_> =
            wants.map(|model| (self.ask(*model).map_or(LAST, |ask| ask.since), *model)).collect();
        by_age.sort();
        by_age.into_iter().map(|(_, model)| model).collect()
    }

    fn begin_shrinking(&mut self, lacking: &[Placement]) {
        for placement in
            lacking.iter().filter(|placement| self.shrinks(placement)).cloned().collect::<Vec<_>>()
        {
            if let Placement::Grow(id, spec) = placement {
                self.begin_growth(id, self.state.instance(id).model, &spec);
            }
        }
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
        let freed = self.state.ledger.freed_by_all(&self.leaving()) + self.coming_back();
        freed.saturating_sub(self.state.ledger.owed())
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

    /// Who could leave for the model, in the order of leaving. Not what it waits for itself, nor what older
    /// asks need. Groups leave as one.
    pub(super) fn victims(&self, beneficiary: ModelId, lacking: &[Placement]) -> Vec<(Step, InstanceId)> {
        // What is to become smaller gives nothing back before it has: it can be in the way itself.
        let is_lacking = |id| {
            let mut resized = lacking.iter().filter(|placement| placement.instance() == Some(id));
            resized.any(|placement| !self.shrinks(placement))
        };
        let older = self.asks_before(self.ask(beneficiary).map_or(LAST, |ask| ask.since));
        let own = self.state.group(beneficiary);
        let instances = self.state.instances.iter().filter(|(id, instance)| {
            instance.stays()
                && instance.growth.is_none()
                && matches!(instance.phase, Phase::Ready | Phase::Parked)
                && !is_lacking(**id)
                && !older.iter().any(|ask| ask.needs(instance))
                && (own.contains(&instance.model) || !self.is_held_by_its_group(**id))
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

    /// An instance stays at least until then.
    pub(super) fn residency_end(&self, id: InstanceId) -> Millis {
        self.state.instance(id).ready_span.1.plus(self.state.config.min_residency_ms)
    }

    /// When a busy instance is closed for the sake of another model: after twice its load time, or when the other
    /// has waited as long as anybody should, counted from its last turn.
    fn closing_time(&self, id: InstanceId, beneficiary: ModelId) -> Millis {
        let instance = self.state.instance(id);
        let served = instance.ready_span.1.plus(instance.load_ms.saturating_mul(2));
        let waiting = self.state.model(beneficiary).waiting().into_iter();
        let oldest = waiting.map(|ticket| self.since(ticket).0).min().unwrap_or(self.now);
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
