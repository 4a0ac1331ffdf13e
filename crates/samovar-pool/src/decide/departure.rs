//! The ways to leave: giving way to others, and farewell.
//!
//! ```text
//!   give_way      the pool's own decision about an idle instance: park, if that gives memory back, else ▼
//!   bid_farewell  no new grants; drain; unload
//! ```

use samovar_core::footprint::Layout;

use super::Turn;
use super::demand::kv_bytes;
use super::eviction::{self, Facts};
use super::state::{Farewell, Phase};
use crate::decision::{Reason, What};
use crate::protocol::{Effect, InstanceId};

impl Turn<'_> {
    /// Does what is due once nobody uses an instance; nothing when somebody does.
    pub(super) fn went_idle(&mut self, id: InstanceId) {
        let Some(instance) = self.state.instances.get(&id) else { return };
        if instance.growth.is_some() && instance.phase == Phase::Ready && instance.is_unused() {
            self.park_to_grow(id);
            return;
        }
        if !instance.is_idle() {
            return;
        }
        if instance.farewell.is_some() {
            self.unload(id);
        } else if self.state.is_wanted(instance.model) {
            // A pledge keeps the queue closed, or a resume is waited for.
        } else if instance.leaves_when_idle {
            self.bid_farewell(id, What::Unloaded, Reason::Told);
        } else if instance.expires_at.is_none() && !instance.is_lapsed {
            self.start_keep_alive(id);
        }
    }

    /// Parks it if that gives memory back, else unloads it: the pool's own decision, about an idle instance.
    pub(super) fn give_way(&mut self, id: InstanceId, reason: Reason) {
        let policy = self.state.config.eviction;
        self.state.age = eviction::age_after(policy, self.state.age, &self.facts(id));
        if self.state.model(self.state.instance(id).model).is_pinned {
            // One of several, in favour of another of them: the model stays.
            self.bid_farewell(id, What::Unloaded, reason);
        } else if self.can_be_parked(id) {
            self.park(id, reason);
        } else {
            self.bid_farewell(id, What::Evicted, reason);
        }
        self.dismiss_crew(self.state.instance(id).model);
    }

    /// Nobody uses it, and it has not begun to leave with another.
    pub(super) fn can_give_way(&self, id: InstanceId) -> bool {
        self.state.instances.get(&id).is_some_and(|instance| instance.is_idle() && instance.stays())
    }

    fn park(&mut self, id: InstanceId, reason: Reason) {
        self.stop_keep_alive(id);
        self.state.pledges.remove(&id);
        let instance = self.state.instance_mut(id);
        instance.phase = Phase::Parking;
        let model = instance.model;
        self.note(model, What::Parked, reason);
        self.effects.push(Effect::Park { instance: id });
        self.let_followers_go(id);
    }

    fn can_be_parked(&self, id: InstanceId) -> bool {
        self.state.can_park
            && self.state.instance(id).phase == Phase::Ready
            && self.state.ledger.freed_by_park(id, self.residue(id)) > 0
    }

    /// Bytes that are free once the instance has given way.
    pub(super) fn frees(&self, id: InstanceId) -> u64 {
        self.state.ledger.freed_by_park(id, self.left_after(id))
    }

    /// Bytes that the instance still holds once it has given way.
    pub(super) fn left_after(&self, id: InstanceId) -> u64 {
        if self.can_be_parked(id) { self.residue(id) } else { 0 }
    }

    /// What the instance is expected to hold once it is parked.
    pub(super) fn residue(&self, id: InstanceId) -> u64 {
        let instance = self.state.instance(id);
        if let Some(measured) = self.state.model(instance.model).residue {
            return measured;
        }
        match instance.spec.options.layout {
            Layout::Mapped | Layout::Packed | Layout::Hybrid => 0,
            // The repacked weights stay; the KV cache goes.
            Layout::Repacked => {
                let kv_bytes = kv_bytes(&instance.spec, &instance.spec.options);
                self.state.ledger.footprint(id).held_bytes.saturating_sub(kv_bytes)
            }
        }
    }

    /// The instances in the order of leaving.
    pub(super) fn in_order_of_leaving(&self, ids: Vec<InstanceId>) -> Vec<InstanceId> {
        let facts: Vec<_> = ids.iter().map(|id| self.facts(*id)).collect();
        let ranks = eviction::ranks(self.state.config.eviction, &facts);
        let mut ranked: Vec<_> = ranks.into_iter().zip(ids).collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        ranked.into_iter().map(|(_, id)| id).collect()
    }

    fn facts(&self, id: InstanceId) -> Facts {
        let instance = self.state.instance(id);
        Facts {
            last_used: instance.last_used,
            idle_ms: self.now.since(instance.last_used),
            uses: instance.uses,
            frequency: self.state.model(instance.model).fame.seen_at(self.now),
            bytes: self.state.ledger.freed_by_unload(id),
            reload_ms: self.reload_ms(id),
            age_when_used: instance.age_when_used,
        }
    }

    /// What loading the instance again is expected to take.
    pub(super) fn reload_ms(&self, id: InstanceId) -> u64 {
        let instance = self.state.instance(id);
        let times = &self.state.model(instance.model).tally.load_times;
        times.expected_ms(instance.spec.load_ms).unwrap_or(instance.load_ms)
    }

    /// No new grants; it leaves as soon as nobody uses it, at once if nobody does.
    pub(super) fn bid_farewell(&mut self, id: InstanceId, what: What, reason: Reason) {
        self.stop_keep_alive(id);
        self.state.pledges.remove(&id);
        self.give_up_growth(id);
        let instance = self.state.instance_mut(id);
        if instance.farewell.is_some() || instance.phase == Phase::Unloading {
            return;
        }
        instance.farewell = Some(Farewell { what, reason: reason.clone() });
        let (model, is_idle) = (instance.model, instance.is_idle());
        match &mut instance.phase {
            Phase::Loading { is_stopped, .. } => {
                *is_stopped = true;
                self.effects.push(Effect::StopLoad { instance: id });
            }
            Phase::Ready | Phase::Parked if is_idle => self.unload(id),
            Phase::Ready => self.note(model, What::Draining, reason),
            Phase::Parked | Phase::Parking | Phase::Resuming | Phase::Unloading => {}
        }
    }

    /// Lets an instance go that nobody uses and that has bidden farewell.
    pub(super) fn unload(&mut self, id: InstanceId) {
        self.stop_keep_alive(id);
        self.state.pledges.remove(&id);
        let instance = self.state.instance_mut(id);
        instance.phase = Phase::Unloading;
        let model = instance.model;
        let farewell = instance.farewell.clone().expect("invariant: a farewell comes before unloading");
        if farewell.what == What::Evicted
            && let Some(label) = farewell.reason.eviction_label()
        {
            self.state.count(model, |tally| *tally.evictions.entry(label.into()).or_default() += 1);
        }
        self.note(model, farewell.what, farewell.reason);
        self.effects.push(Effect::Unload { instance: id });
        self.let_followers_go(id);
    }
}
