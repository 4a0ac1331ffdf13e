//! Which instance serves whom.
//!
//! A request goes to the instance that served the same beginning of a prompt last, else to the least busy one. One that
//! wants more than any instance has waits for one to grow, and holds up no other meanwhile.

use super::StepContext;
use crate::decide::state::{LeaseRecord, ModelId, Ticket};
use crate::lease::{GrantFacts, GrantKind};
use crate::protocol::{Effect, InstanceId, TicketId};

/// Beginnings of prompts that are remembered for an instance.
const AFFINITIES: usize = 64;

impl StepContext<'_> {
    /// Does for those who wait for a model, or for one that needs it, what can be done now: grant, wait for memory, or
    /// nothing.
    pub(super) fn review(&mut self, model: ModelId) {
        self.review_one(model);
        self.review_dependents(model);
    }

    pub(super) fn review_one(&mut self, model: ModelId) {
        self.give_up_needless_growth(model);
        if self.state.model(model).has_waiting() {
            self.serve(model);
            self.refuse_blocked_growth(model);
        }
        if !self.state.model(model).has_waiting() {
            self.await_no_memory(model);
            for id in self.state.model(model).instances.clone() {
                self.went_idle(id);
            }
            self.look_after_members(model);
        } else if self.view().is_under_way(model) || self.view().is_kept_from_loading(model) {
            self.await_no_memory(model);
        } else {
            self.await_memory(model);
        }
    }

    /// Grants as long as a request waits and a slot is free.
    fn serve(&mut self, model: ModelId) {
        let mut has_granted = false;
        while let Some((next, instance)) = self.view().next_to_serve(model) {
            let Some(members) = self.view().members_ready(model) else { break };
            match self.take_served(next) {
                Some(ticket) if ticket.wants_slot => self.grant(next, &ticket, instance, members),
                _ => self.effects.push(Effect::Done { ticket: next, instances: 1 }),
            }
            has_granted = true;
        }
        if has_granted {
            self.tell_waiting(model);
        }
    }

    fn grant(&mut self, id: TicketId, ticket: &Ticket, instance_id: InstanceId, members: Vec<InstanceId>) {
        for member in &members {
            self.hold(*member);
        }
        self.stop_keep_alive(instance_id);
        let (now, age) = (self.now, self.state.age);
        self.remember_affinity(instance_id, ticket);
        self.begin_trial(ticket.model);
        let instance = self.state.instance_mut(instance_id);
        instance.leases += 1;
        instance.uses += 1;
        instance.is_lapsed = false;
        instance.age_when_used = age;
        instance.last_used = now;
        instance.keep_alive = ticket.keep_alive;
        let spans = members.iter().chain([&instance_id]).map(|id| self.state.instance(*id).ready_span);
        let (load_began, load_ended) = spans.max_by_key(|(_, ended)| *ended).unwrap_or((now, now));
        let waited_ms = now.since(ticket.asked_at);
        let load_ms = match ticket.grant_kind {
            GrantKind::Hit => 0,
            _ => load_ended.since(load_began.max(ticket.asked_at)).min(waited_ms),
        };
        let facts = GrantFacts {
            grant_kind: ticket.grant_kind,
            queue_ms: waited_ms - load_ms,
            load_ms,
            context_tokens: self.state.instance(instance_id).spec.options.context_tokens,
            slots: self.state.instance(instance_id).spec.options.slots,
        };
        self.state.model_mut(ticket.model).usage_rate.add(now);
        self.state.leases.insert(id, LeaseRecord { instance: instance_id, members, granted_at: now });
        self.state.count(ticket.model, |tally| {
            *match facts.grant_kind {
                GrantKind::Hit | GrantKind::Parked => &mut tally.hits,
                GrantKind::Joined => &mut tally.coalesced,
                GrantKind::Cold => &mut tally.misses,
            } += 1;
            tally.queue_times.add(facts.queue_ms);
        });
        self.effects.push(Effect::Grant { ticket: id, instance: instance_id, facts });
    }

    /// The lease of a model that needs this instance holds it as well.
    fn hold(&mut self, member: InstanceId) {
        self.stop_keep_alive(member);
        let (now, age) = (self.now, self.state.age);
        let member = self.state.instance_mut(member);
        member.holds += 1;
        member.age_when_used = age;
        member.last_used = now;
    }

    /// The prompt's state is where it was used last.
    fn remember_affinity(&mut self, id: InstanceId, ticket: &Ticket) {
        let Some(affinity) = ticket.affinity else { return };
        for sibling in self.state.model(ticket.model).instances.clone() {
            self.state.instance_mut(sibling).affinities.retain(|known| *known != affinity);
        }
        let affinities = &mut self.state.instance_mut(id).affinities;
        if affinities.len() == AFFINITIES {
            affinities.pop_front();
        }
        affinities.push_back(affinity);
    }
}
