//! Models that need others beside them: reserved, leased and evicted as one.
//!
//! ```text
//!   chat ─needs─► draft ─needs─► …       granted when all serve; the lease holds all
//!     └──needs─► projector                placed all or none: two groups never hold half each
//! ```
//!
//! A *member* stays in memory as long as a model that needs it does, and leaves with the last of them, unless it has
//! users of its own. What a member could not do is told to those who wait for the group.

use std::sync::Arc;

use samovar_core::port::Millis;

use super::Turn;
use super::state::{Instance, ModelId, Phase, PoolState};
use crate::ask::ModelSpec;
use crate::decision::{Reason, What};
use crate::error::Error;
use crate::protocol::InstanceId;

/// Needs of needs are followed so far.
const DEPTH_MAX: u32 = 8;

impl PoolState {
    /// Takes in what the model needs by its latest spec.
    pub(super) fn know_group(&mut self, model: ModelId, spec: &Arc<ModelSpec>, now: Millis) {
        let mut members = Vec::new();
        self.know_needs(model, spec, now, DEPTH_MAX, &mut members);
        let before = std::mem::take(&mut self.model_mut(model).members);
        for (former, _) in before {
            if let Some(former) = self.models.get_mut(&former) {
                former.needed_by.remove(&model);
            }
        }
        for (member, _) in &members {
            self.model_mut(*member).needed_by.insert(model);
        }
        let known = self.model_mut(model);
        (known.members, known.grouped_by) = (members, Some(Arc::clone(spec)));
    }

    /// A need that is met already, or that needs the model itself, is let pass: whoever makes specs refuses those.
    fn know_needs(
        &mut self,
        model: ModelId,
        spec: &ModelSpec,
        now: Millis,
        depth: u32,
        members: &mut Vec<(ModelId, Arc<ModelSpec>)>,
    ) {
        for need in spec.needs.iter().filter(|_| depth > 0) {
            let member = self.know_alone(need, now);
            let is_known = member == model || members.iter().any(|(other, _)| *other == member);
            if !is_known && !self.needs(member, model) {
                members.push((member, Arc::clone(need)));
                self.know_needs(model, need, now, depth - 1, members);
            }
        }
    }

    fn needs(&self, model: ModelId, other: ModelId) -> bool {
        self.model(model).members.iter().any(|(member, _)| *member == other)
    }

    /// Somebody waits for the model, or for one that needs it.
    pub(super) fn is_wanted(&self, model: ModelId) -> bool {
        let waits = |id: &ModelId| self.model(*id).has_waiting();
        waits(&model) || self.model(model).needed_by.iter().any(waits)
    }

    /// The model is pinned, or one that needs it.
    pub(super) fn is_pinned(&self, model: ModelId) -> bool {
        let is_pinned = |id: &ModelId| self.model(*id).is_pinned;
        is_pinned(&model) || self.model(model).needed_by.iter().any(is_pinned)
    }

    /// A model that needs it is in memory, or is being loaded.
    pub(super) fn is_depended_on(&self, model: ModelId) -> bool {
        let is_in_memory = |id: &ModelId| self.staying(*id).any(|(_, instance)| is_there(instance));
        self.model(model).needed_by.iter().any(is_in_memory)
    }

    /// The model and all that it needs.
    pub(super) fn group(&self, model: ModelId) -> Vec<ModelId> {
        let members = self.model(model).members.iter().map(|(member, _)| *member);
        std::iter::once(model).chain(members).collect()
    }
}

impl Turn<'_> {
    /// An open instance of everything that the model needs, if all of it is ready.
    pub(super) fn members_ready(&self, model: ModelId) -> Option<Vec<InstanceId>> {
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
    pub(super) fn is_held_by_its_group(&self, id: InstanceId) -> bool {
        let Instance { model, phase, .. } = *self.state.instance(id);
        // A group needs one; what its member has beyond that is in the way of nobody who needs the memory more.
        let is_spare = self.serving(model) > 1;
        phase == Phase::Ready && !is_spare && self.state.is_depended_on(model)
    }

    /// Instances of members that leave with this one.
    pub(super) fn followers(&self, id: InstanceId) -> Vec<InstanceId> {
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

    /// Has the members go that were there for this one alone; it has just begun to leave.
    pub(super) fn let_followers_go(&mut self, id: InstanceId) {
        let model = self.state.instance(id).model;
        if self.state.model(model).members.is_empty() {
            return;
        }
        for follower in self.followers(id) {
            if self.state.instance(follower).is_idle() {
                let reason = Reason::WithGroup {
                    model: self.state.model(model).spec.name.clone(),
                    frees_bytes: self.frees(follower),
                    reload_ms: self.reload_ms(follower),
                };
                match self.state.instance(id).phase {
                    Phase::Parking => self.give_way(follower, reason),
                    _ => self.bid_farewell(follower, What::Evicted, reason),
                }
            }
        }
        self.look_after_members(model);
    }

    /// Members may have nobody to stay for any more.
    pub(super) fn look_after_members(&mut self, model: ModelId) {
        let members: Vec<_> = self.state.model(model).members.iter().map(|(member, _)| *member).collect();
        for member in members {
            self.give_up_needless_growth(member);
            for id in self.state.model(member).instances.clone() {
                self.went_idle(id);
            }
        }
    }

    /// Does for those who wait for models that need this one what can be done now.
    pub(super) fn review_dependents(&mut self, model: ModelId) {
        let dependents = self.state.model(model).needed_by.clone();
        for dependent in dependents {
            if self.state.model(dependent).has_waiting() {
                self.review_one(dependent);
            }
        }
    }

    /// Refuses those who wait for models that can not be had without this one.
    pub(super) fn refuse_dependents(&mut self, model: ModelId, why: &Error) {
        for dependent in self.state.model(model).needed_by.clone() {
            for ticket in self.state.model(dependent).waiting() {
                self.refuse(ticket, why.clone());
            }
        }
    }

    /// What is remembered against some part of the group, if there is something.
    pub(super) fn remembered_failure_of_group(&self, model: ModelId) -> Option<Error> {
        self.state.group(model).into_iter().find_map(|part| self.remembered_failure(part))
    }

    /// The refusal of a wish for which some part of the group would have to grow that could not a moment ago.
    pub(super) fn stunted_group(&self, model: ModelId, wish: &ModelSpec) -> Option<Error> {
        let mut members = self.state.model(model).members.iter();
        self.stunted_growth(model, wish)
            .or_else(|| members.find_map(|(member, spec)| self.stunted_growth(*member, spec)))
    }
}

fn is_there(instance: &Instance) -> bool {
    !matches!(instance.phase, Phase::Parked | Phase::Parking)
}
