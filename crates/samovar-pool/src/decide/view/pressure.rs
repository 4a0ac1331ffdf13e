//! Idle instances that may leave ahead of need, in the order of leaving.

use crate::decide::state::Phase;
use crate::decide::view::View;
use crate::protocol::InstanceId;

impl View<'_> {
    /// Idle instances that may leave: first those that their models can do without, then ready ones, then parked ones,
    /// each in the order of leaving.
    pub(in crate::decide) fn idle_in_order(&self) -> Vec<InstanceId> {
        let instances = self.state.instances.iter().filter(|(id, instance)| {
            instance.is_idle()
                && instance.exit_reason.is_none()
                && !self.state.is_pinned(instance.model)
                && !self.state.is_wanted(instance.model)
                && !self.is_held_by_its_group(**id)
                && !self.state.deferred_evictions.contains_key(id)
        });
        let mut idle = self.in_order_of_leaving(instances.map(|(id, _)| *id).collect());
        let dispensable = self.dispensable(idle.iter().copied());
        let is_parked = |id| self.state.instance(id).phase == Phase::Parked;
        idle.sort_by_key(|id| (!dispensable.contains(id), is_parked(*id)));
        idle
    }

    /// The idle instance that was used last, if none is in use now.
    pub(in crate::decide) fn used_last(&self) -> Option<InstanceId> {
        let live = self.state.instances.iter().filter(|(_, instance)| {
            instance.exit_reason.is_none()
                && !matches!(instance.phase, Phase::Parking | Phase::Parked | Phase::Unloading)
        });
        let in_use_first = live.max_by_key(|(id, instance)| (!instance.is_idle(), instance.last_used, **id));
        in_use_first.filter(|(_, instance)| instance.is_idle()).map(|(id, _)| *id)
    }
}
