//! Whether all that a model needs is ready, and what would leave with it.

use crate::ask::ModelSpec;
use crate::decide::state::{Instance, ModelId, Phase, is_there};
use crate::decide::view::View;
use crate::error::Error;
use crate::protocol::InstanceId;

impl View<'_> {
    /// An open instance of everything that the model needs, if all of it is ready.
    pub(in crate::decide) fn members_ready(&self, model: ModelId) -> Option<Vec<InstanceId>> {
        let members = self.state.model(model).members.iter();
        let instances = members.map(|(member, spec)| {
            let fitting = self.state.staying(*member).filter(|(id, instance)| {
                instance.is_serving() && instance.satisfies(spec) && !self.is_closed(*id)
            });
            fitting.min_by_key(|(id, instance)| (instance.holds, *id)).map(|(id, _)| id)
        });
        instances.collect()
    }

    /// Whether only the whole group can leave: a model that is in memory needs this instance.
    pub(in crate::decide) fn is_held_by_its_group(&self, id: InstanceId) -> bool {
        let Instance { model, phase, .. } = *self.state.instance(id);
        // A group needs one; what its member has beyond that is not in the way of any that needs the memory more.
        let is_spare = self.serving(model) > 1;
        phase == Phase::Ready && !is_spare && self.state.is_depended_on(model)
    }

    /// Instances of members that leave with this one.
    pub(in crate::decide) fn followers(&self, id: InstanceId) -> Vec<InstanceId> {
        let model = self.state.instance(id).model;
        if self.has_another_beside(id) {
            return Vec::new();
        }
        let members = self.state.model(model).members.iter().map(|(member, _)| *member);
        let only_ours = members.filter(|member| {
            let of_member = self.state.model(*member);
            let mut others = of_member.needed_by.iter().filter(|other| **other != model);
            let is_with_others = others.any(|other| self.state.staying(*other).any(|(_, one)| is_there(one)));
            !is_with_others && !self.state.is_wanted(*member) && !self.state.is_pinned(*member)
        });
        let instances = only_ours.flat_map(|member| self.state.staying(member));
        let follows = |instance: &Instance| {
            let has_own_users = instance.leases > 0 || instance.uses > 0 && !instance.is_lapsed;
            instance.is_serving() && !has_own_users
        };
        instances.filter(|(_, instance)| follows(instance)).map(|(id, _)| id).collect()
    }

    fn has_another_beside(&self, id: InstanceId) -> bool {
        let model = self.state.instance(id).model;
        self.state.staying(model).any(|(other, instance)| other != id && is_there(instance))
    }

    /// What is remembered against some part of the group, if there is something.
    pub(in crate::decide) fn remembered_failure_of_group(&self, model: ModelId) -> Option<Error> {
        self.state.group(model).into_iter().find_map(|part| self.remembered_failure(part))
    }

    /// The refusal of a wish for which some part of the group would have to grow that could not a moment ago.
    pub(in crate::decide) fn growth_blocked_group(&self, model: ModelId, asked: &ModelSpec) -> Option<Error> {
        let mut members = self.state.model(model).members.iter();
        self.blocked_growth(model, asked)
            .or_else(|| members.find_map(|(member, spec)| self.blocked_growth(*member, spec)))
    }
}
