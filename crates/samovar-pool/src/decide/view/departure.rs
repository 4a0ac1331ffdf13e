//! What leaving would give back, what stays behind, and who would be the first to leave.

use samovar_core::{Arena, Bytes};

use crate::ask::ModelSpec;
use crate::decide::state::Phase;
use crate::decide::view::eviction::EvictionCandidate;
use crate::decide::view::{View, eviction};
use crate::protocol::InstanceId;

impl View<'_> {
    /// No request uses it, and it has not begun to leave with another.
    pub(in crate::decide) fn can_give_way(&self, id: InstanceId) -> bool {
        self.state.instances.get(&id).is_some_and(|instance| instance.is_idle() && instance.stays())
    }

    /// Parking gives something back wherever unloading would: else who waits for memory there would wait in vain.
    pub(in crate::decide) fn can_be_parked(&self, id: InstanceId) -> bool {
        let instance = self.state.instance(id);
        if !instance.spec.capabilities.can_park || instance.phase != Phase::Ready {
            return false;
        }
        let by_unload = self.state.ledger.freed_by_unload(id);
        let by_park = self.state.ledger.freed_by_park(id, self.residue(id));
        let gives_back = |arena: Arena| by_park.of(arena) > 0 || by_unload.of(arena) == 0;
        !by_park.is_none() && Arena::all().all(gives_back)
    }

    /// Bytes that are free once the instance has given way.
    pub(in crate::decide) fn frees(&self, id: InstanceId) -> Bytes {
        self.state.ledger.freed_by_park(id, self.left_after(id))
    }

    /// Bytes that the instance still holds once it has given way.
    pub(in crate::decide) fn left_after(&self, id: InstanceId) -> Bytes {
        if self.can_be_parked(id) { self.residue(id) } else { Bytes::NONE }
    }

    /// What the instance is expected to hold once it is parked.
    pub(in crate::decide) fn residue(&self, id: InstanceId) -> Bytes {
        let instance = self.state.instance(id);
        if let Some(measured) = self.state.model(instance.model).residue {
            return measured;
        }
        let ModelSpec { cost, options, .. } = &*instance.spec;
        cost.residue(self.state.ledger.memory(id).private, options)
    }

    /// The instances in the order of leaving.
    pub(in crate::decide) fn in_order_of_leaving(&self, ids: Vec<InstanceId>) -> Vec<InstanceId> {
        let facts: Vec<_> = ids.iter().map(|id| self.facts(*id)).collect();
        let ranks = eviction::ranks(self.state.config.eviction, &facts);
        let mut ranked: Vec<_> = ranks.into_iter().zip(ids).collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        ranked.into_iter().map(|(_, id)| id).collect()
    }

    pub(in crate::decide) fn facts(&self, id: InstanceId) -> EvictionCandidate {
        let instance = self.state.instance(id);
        EvictionCandidate {
            last_used: instance.last_used,
            idle_ms: self.now.since(instance.last_used),
            uses: instance.uses,
            frequency: self.state.model(instance.model).usage_rate.seen_at(self.now),
            bytes: self.state.ledger.freed_by_unload(id).sum(),
            reload_ms: self.reload_ms(id),
            age_when_used: instance.age_when_used,
        }
    }

    /// What loading the instance again is expected to take.
    pub(in crate::decide) fn reload_ms(&self, id: InstanceId) -> u64 {
        let instance = self.state.instance(id);
        let times = &self.state.model(instance.model).tally.load_times;
        times.expected_ms(instance.spec.load_ms).unwrap_or(instance.load_ms)
    }
}
