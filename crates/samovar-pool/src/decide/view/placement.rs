//! Who gets memory next, what leaves anyway, and who could leave for it.

use std::collections::BTreeMap;

use samovar_core::Bytes;
use samovar_core::port::Millis;

use crate::decide::state::{ModelId, Phase};
use crate::decide::view::{LAST, Step, View};
use crate::decision::Reason;
use crate::protocol::InstanceId;

impl View<'_> {
    pub(in crate::decide) fn demands_by_age(&self) -> Vec<ModelId> {
        let awaiting = self.state.awaiting_memory.iter();
        let mut by_age: Vec<_> =
            awaiting.map(|model| (self.demand(*model).map_or(LAST, |demand| demand.since), *model)).collect();
        by_age.sort();
        by_age.into_iter().map(|(_, model)| model).collect()
    }

    /// Bytes that will be free without any further decision.
    pub(in crate::decide) fn leaving_bytes(&self) -> Bytes {
        *self.derived.leaving_bytes.get_or_init(|| {
            let freed = self.state.ledger.freed_by_all(&self.leaving()) + self.coming_back();
            freed.minus(self.state.ledger.owed())
        })
    }

    /// Who leaves, and how many bytes each will still hold then.
    pub(in crate::decide) fn leaving(&self) -> BTreeMap<InstanceId, Bytes> {
        let instances = self.state.instances.iter();
        let leaving = instances.filter_map(|(id, instance)| {
            if !instance.stays() {
                Some((*id, Bytes::NONE))
            } else if instance.phase == Phase::Parking && instance.growth.is_none() {
                Some((*id, self.residue(*id)))
            } else {
                None
            }
        });
        let mut leaving = leaving.collect();
        for id in self.state.deferred_evictions.keys() {
            self.add_leaving(&mut leaving, *id);
        }
        leaving
    }

    /// Adds an instance that will give way, and those that leave with it.
    pub(in crate::decide) fn add_leaving(&self, leaving: &mut BTreeMap<InstanceId, Bytes>, id: InstanceId) {
        for id in std::iter::once(id).chain(self.followers(id)) {
            leaving.entry(id).or_insert_with(|| self.left_after(id));
        }
    }

    /// Who could leave for the model, in the order of leaving. Not what it waits for itself, nor what older
    /// demands need. Groups leave as one.
    pub(in crate::decide) fn victims(
        &self,
        beneficiary: ModelId,
        steps: &[Step],
    ) -> Vec<(Leaves, InstanceId)> {
        // What is to become smaller gives nothing back before it has: it can be in the way itself.
        let is_to_change = |id| {
            let mut resized = steps.iter().filter(|step| step.instance() == Some(id));
            resized.any(|step| !self.shrinks(step))
        };
        let older = self.demands_before(self.demand(beneficiary).map_or(LAST, |demand| demand.since));
        let own = self.state.group(beneficiary);
        let instances = self.state.instances.iter().filter(|(id, instance)| {
            instance.stays()
                && instance.growth.is_none()
                && matches!(instance.phase, Phase::Ready | Phase::Parked)
                && !is_to_change(**id)
                && !older.iter().any(|demand| demand.needs(instance))
                && (own.contains(&instance.model) || !self.is_held_by_its_group(**id))
                && (instance.model == beneficiary || !self.state.is_pinned(instance.model))
                && !self.state.deferred_evictions.contains_key(id)
        });
        let in_order = self.in_order_of_leaving(instances.map(|(id, _)| *id).collect());
        let is_free = |id: InstanceId| {
            let instance = self.state.instance(id);
            instance.is_idle() && !self.state.is_wanted(instance.model)
        };
        let idle = in_order.iter().copied().filter(|id| is_free(*id) && self.residency_end(*id) <= self.now);
        let dispensable = self.dispensable(idle);
        let classified = in_order.into_iter().map(|id| {
            let (class, leaves) = match self.state.instance(id).phase {
                _ if dispensable.contains(&id) => (0, Leaves::Now),
                // Larger than it need be, it can be in the way of its own group.
                _ if own.contains(&self.state.instance(id).model) => (5, Leaves::Later),
                Phase::Ready if is_free(id) && self.residency_end(id) <= self.now => (1, Leaves::Now),
                Phase::Parked if is_free(id) => (2, Leaves::Now),
                Phase::Ready => (3, Leaves::Later),
                // Parked, and waited for: it is the last to go, but go it can.
                _ => (4, Leaves::Later),
            };
            (class, leaves, id)
        });
        let mut victims: Vec<_> = classified.collect();
        victims.sort_by_key(|(class, ..)| *class);
        victims.into_iter().map(|(_, leaves, id)| (leaves, id)).collect()
    }

    /// An instance stays at least until then.
    pub(in crate::decide) fn residency_end(&self, id: InstanceId) -> Millis {
        self.state.instance(id).ready_span.1.plus(self.state.config.min_residency_ms)
    }

    /// When a busy instance is closed for the sake of another model: after twice its load time, or when the other
    /// has waited as long as any should, counted from its last turn.
    pub(in crate::decide) fn closing_time(&self, id: InstanceId, beneficiary: ModelId) -> Millis {
        let instance = self.state.instance(id);
        let served = instance.ready_span.1.plus(instance.load_ms.saturating_mul(2));
        let waiting = self.state.model(beneficiary).waiting().into_iter();
        let oldest = waiting.map(|ticket| self.since(ticket).0).min().unwrap_or(self.now);
        let max_wait_ends = oldest.plus(self.state.config.max_wait_ms);
        served.min(max_wait_ends).max(self.residency_end(id))
    }

    pub(in crate::decide) fn needed_for(&self, id: InstanceId, beneficiary: ModelId) -> Reason {
        Reason::NeededFor {
            model: self.state.model(beneficiary).spec.name.clone(),
            frees_bytes: self.frees(id).sum(),
            idle_ms: self.now.since(self.state.instance(id).last_used),
            reload_ms: self.reload_ms(id),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::decide) enum Leaves {
    Now,
    Later,
}
