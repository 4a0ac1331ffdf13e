//! Idle instances leave ahead of need: above the soft limit, and when the machine is short of memory.
//!
//! The instance that was used last stays, as long as the budget itself is kept: a single model that is larger than
//! the soft limit would else be loaded anew for each request.

use super::Turn;
use super::state::Phase;
use crate::decision::Reason;
use crate::protocol::InstanceId;

impl Turn<'_> {
    pub(super) fn shed_above_soft(&mut self) {
        let soft_bytes = self.state.config.soft_bytes();
        let used_bytes = self.state.ledger.used() + self.state.ledger.owed();
        if used_bytes <= soft_bytes {
            return;
        }
        let mut excess = used_bytes.saturating_sub(soft_bytes).saturating_sub(self.leaving_bytes());
        excess = excess.saturating_sub(self.ask_back(excess));
        let keeps_last = used_bytes <= self.state.config.budget.bytes;
        let spared = self.used_last().filter(|_| keeps_last);
        for id in self.idle_in_order() {
            if excess == 0 {
                break;
            }
            if spared == Some(id) || !self.can_give_way(id) {
                continue;
            }
            let stays_until = self.residency_end(id);
            if stays_until > self.now {
                let review_at = self.state.review_at.map_or(stays_until, |at| at.min(stays_until));
                self.state.review_at = Some(review_at);
                continue;
            }
            let frees_bytes = self.frees(id);
            excess = excess.saturating_sub(frees_bytes);
            let idle_ms = self.now.since(self.state.instance(id).last_used);
            let reload_ms = self.reload_ms(id);
            let reason = Reason::AboveSoft { used_bytes, soft_bytes, frees_bytes, idle_ms, reload_ms };
            self.give_way(id, reason);
        }
    }

    pub(super) fn machine_pressure(&mut self, available_bytes: u64, stall_percent: f32) {
        let config = &self.state.config;
        if available_bytes >= config.available_floor_bytes && stall_percent <= config.stall_percent_max {
            return;
        }
        if self.ask_back(1) > 0 {
            return;
        }
        let past_residency = |id: &InstanceId| self.residency_end(*id) <= self.now;
        if let Some(id) = self.idle_in_order().into_iter().find(past_residency) {
            let (frees_bytes, reload_ms) = (self.frees(id), self.reload_ms(id));
            self.give_way(id, Reason::Pressure { available_bytes, stall_percent, frees_bytes, reload_ms });
        }
    }

    /// Idle instances that may leave: first those that their models can do without, then ready ones, then parked ones,
    /// each in the order of leaving.
    fn idle_in_order(&self) -> Vec<InstanceId> {
        let instances = self.state.instances.iter().filter(|(id, instance)| {
            instance.is_idle()
                && instance.farewell.is_none()
                && !self.state.is_pinned(instance.model)
                && !self.state.is_wanted(instance.model)
                && !self.is_held_by_its_group(**id)
                && !self.state.pledges.contains_key(id)
        });
        let mut idle = self.in_order_of_leaving(instances.map(|(id, _)| *id).collect());
        let dispensable = self.dispensable(idle.iter().copied());
        let is_parked = |id| self.state.instance(id).phase == Phase::Parked;
        idle.sort_by_key(|id| (!dispensable.contains(id), is_parked(*id)));
        idle
    }

    /// The idle instance that was used last, if none is in use now.
    fn used_last(&self) -> Option<InstanceId> {
        let live = self.state.instances.iter().filter(|(_, instance)| {
            instance.farewell.is_none()
                && !matches!(instance.phase, Phase::Parking | Phase::Parked | Phase::Unloading)
        });
        let in_use_first = live.max_by_key(|(id, instance)| (!instance.is_idle(), instance.last_used, **id));
        in_use_first.filter(|(_, instance)| instance.is_idle()).map(|(id, _)| *id)
    }
}
