//! The ways to leave, and what follows from them.
//!
//! ```text
//!   give_way      the pool's own decision about an idle instance: park, if that gives memory back, else ▼
//!   bid_farewell  no new grants; drain; unload
//!                   │
//!                   ▼  what was there for it alone leaves with it; instances whose time was over go as well
//!   follow-ups ─► work_off ─► each may have others follow
//! ```
//!
//! What follows from a departure is put on a list and not done at once, so that nothing here calls itself. The list comes to
//! an end because phases only advance: an instance begins to leave at most once a step.

use std::sync::Arc;

use super::StepContext;
use super::keep_alive::Expiry;
use crate::decide::state::{ExitReason, ModelId, Phase};
use crate::decide::view::eviction;
use crate::decision::{Reason, What};
use crate::protocol::{Effect, InstanceId};

/// What is still to be looked at because something has begun to leave.
#[derive(Clone, Copy, Debug)]
pub(super) enum FollowUp {
    /// An instance that was there for another one, which leaves.
    Follower { follower: InstanceId, leader: InstanceId },
    /// A model that another one needs, which has begun to leave.
    Member(ModelId),
    /// An instance that may have no reason to stay.
    Idle(InstanceId),
    /// One of several that may have stayed only for the one that was let go.
    Lapsed(InstanceId),
}

impl StepContext<'_> {
    /// Does what is due once no request uses an instance; nothing while one does.
    pub(super) fn went_idle(&mut self, id: InstanceId) {
        self.look_at_idle(id);
        self.work_off();
    }

    /// Parks it if that gives memory back, else unloads it: the pool's own decision, about an idle instance.
    pub(super) fn give_way(&mut self, id: InstanceId, reason: Reason) {
        self.begin_to_give_way(id, reason);
        self.work_off();
    }

    /// No new grants; it leaves as soon as no request uses it, at once if none does.
    pub(super) fn begin_unload(&mut self, id: InstanceId, what: What, reason: Reason) {
        self.begin_to_leave(id, what, reason);
        self.work_off();
    }

    /// Lets an instance go that is unused and to be unloaded.
    pub(super) fn unload(&mut self, id: InstanceId) {
        self.begin_to_unload(id);
        self.work_off();
    }

    /// The time of an instance is over.
    pub(super) fn expired(&mut self, id: InstanceId) {
        self.look_at_expired(id);
        self.work_off();
    }

    /// What a model needs may have no reason to stay any more.
    pub(super) fn look_after_members(&mut self, model: ModelId) {
        self.follow_up_members(model);
        self.work_off();
    }

    /// Does all that follows, one thing after the other; what follows from one comes before the next.
    fn work_off(&mut self) {
        let (instances, models) = (self.state.instances.len(), self.state.models.len());
        // Each departure, and the one call that began this, is followed by the instances that go with it, by the members
        // and their instances, and by the other instances of its model.
        let mut allowed = (instances + 1) * (3 * instances + models);
        let mut left: Vec<FollowUp> = self.take_follow_ups();
        while let Some(next) = left.pop() {
            assert!(allowed > 0, "invariant: an instance begins to leave once a step");
            allowed -= 1;
            match next {
                FollowUp::Follower { follower, leader } => self.follow(follower, leader),
                FollowUp::Member(model) => {
                    self.give_up_needless_growth(model);
                    let instances = self.state.model(model).instances.iter().copied();
                    let idle: Vec<_> = instances.map(FollowUp::Idle).collect();
                    self.follow_ups.extend(idle);
                }
                FollowUp::Idle(id) => self.look_at_idle(id),
                FollowUp::Lapsed(id) => {
                    if self.state.instance(id).is_lapsed {
                        self.look_at_expired(id);
                    }
                }
            }
            left.extend(self.take_follow_ups());
        }
    }

    /// The new ones, the first of them last.
    fn take_follow_ups(&mut self) -> Vec<FollowUp> {
        let mut new = std::mem::take(&mut self.follow_ups);
        new.reverse();
        new
    }

    fn look_at_idle(&mut self, id: InstanceId) {
        let Some(instance) = self.state.instances.get(&id) else { return };
        if instance.growth.is_some() && instance.phase == Phase::Ready && instance.is_unused() {
            self.park_to_grow(id);
            return;
        }
        if !instance.is_idle() {
            return;
        }
        if instance.exit_reason.is_some() {
            self.begin_to_unload(id);
        } else if self.state.is_wanted(instance.model) {
            // A deferred eviction keeps the queue closed, or a resume is waited for.
        } else if instance.leaves_when_idle {
            self.begin_to_leave(id, What::Unloaded, Reason::Told);
        } else if instance.expires_at.is_none()
            && !instance.is_lapsed
            && self.start_keep_alive(id) == Expiry::Now
        {
            self.look_at_expired(id);
        }
    }

    fn look_at_expired(&mut self, id: InstanceId) {
        if let Some(reason) = self.time_is_over(id) {
            self.begin_to_give_way(id, reason);
        }
    }

    fn begin_to_give_way(&mut self, id: InstanceId, reason: Reason) {
        let policy = self.state.config.eviction;
        self.state.age = eviction::age_after(policy, self.state.age, &self.view().facts(id));
        let model = self.state.instance(id).model;
        if self.state.model(model).is_pinned {
            // One of several, in favour of another of them: the model stays.
            self.begin_to_leave(id, What::Unloaded, reason);
        } else if self.view().can_be_parked(id) {
            self.park(id, reason);
        } else {
            self.begin_to_leave(id, What::Evicted, reason);
        }
        self.release_replicas(model);
    }

    fn park(&mut self, id: InstanceId, reason: Reason) {
        self.stop_keep_alive(id);
        self.state.deferred_evictions.remove(&id);
        let instance = self.state.instance_mut(id);
        instance.phase = Phase::Parking;
        let (model, spec) = (instance.model, Arc::clone(&instance.spec));
        self.note(model, What::Parked, reason);
        self.effects.push(Effect::Park { instance: id, model: spec });
        self.follow_up_followers(id);
    }

    fn begin_to_leave(&mut self, id: InstanceId, what: What, reason: Reason) {
        self.stop_keep_alive(id);
        self.state.deferred_evictions.remove(&id);
        self.give_up_growth(id);
        let instance = self.state.instance_mut(id);
        if instance.exit_reason.is_some() || instance.phase == Phase::Unloading {
            return;
        }
        instance.exit_reason = Some(ExitReason { what, reason: reason.clone() });
        let (model, is_idle) = (instance.model, instance.is_idle());
        match &mut instance.phase {
            Phase::Loading { is_stopped, .. } => {
                *is_stopped = true;
                self.effects.push(Effect::StopLoad { instance: id });
            }
            Phase::Ready | Phase::Parked if is_idle => self.begin_to_unload(id),
            Phase::Ready => self.note(model, What::Draining, reason),
            Phase::Parked | Phase::Parking | Phase::Resuming | Phase::Unloading => {}
        }
    }

    fn begin_to_unload(&mut self, id: InstanceId) {
        self.stop_keep_alive(id);
        self.state.deferred_evictions.remove(&id);
        let instance = self.state.instance_mut(id);
        instance.phase = Phase::Unloading;
        let model = instance.model;
        let exit_reason = instance.exit_reason.clone().expect("invariant: a farewell comes before unloading");
        if exit_reason.what == What::Evicted
            && let Some(label) = exit_reason.reason.eviction_label()
        {
            self.state.count(model, |tally| *tally.evictions.entry(label.into()).or_default() += 1);
        }
        self.note(model, exit_reason.what, exit_reason.reason);
        self.effects.push(Effect::Unload { instance: id });
        self.follow_up_followers(id);
    }

    /// Puts on the list what was there for this one alone; it has just begun to leave.
    fn follow_up_followers(&mut self, id: InstanceId) {
        let model = self.state.instance(id).model;
        if self.state.model(model).members.is_empty() {
            return;
        }
        let followers = self.view().followers(id).into_iter();
        self.follow_ups.extend(followers.map(|follower| FollowUp::Follower { follower, leader: id }));
        self.follow_up_members(model);
    }

    fn follow_up_members(&mut self, model: ModelId) {
        let members = self.state.model(model).members.iter();
        self.follow_ups.extend(members.map(|(member, _)| FollowUp::Member(*member)));
    }

    /// Leaves with the one that it was there for, in the same way.
    fn follow(&mut self, follower: InstanceId, leader: InstanceId) {
        if !self.state.instance(follower).is_idle() {
            return;
        }
        let Some((model, phase)) =
            self.state.instances.get(&leader).map(|leader| (leader.model, leader.phase))
        else {
            return;
        };
        let reason = Reason::WithGroup {
            model: self.state.model(model).spec.name.clone(),
            frees_bytes: self.view().frees(follower).sum(),
            reload_ms: self.view().reload_ms(follower),
        };
        match phase {
            Phase::Parking => self.begin_to_give_way(follower, reason),
            _ => self.begin_to_leave(follower, What::Evicted, reason),
        }
    }
}
