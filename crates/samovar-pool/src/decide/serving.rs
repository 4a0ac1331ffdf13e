//! Which instance serves whom.
//!
//! A request goes to the instance that served the same beginning of a prompt last, else to the least busy one. Whoever
//! wants more than any instance has waits for one to grow, and holds up nobody else meanwhile.

use std::cmp::Reverse;

use super::Turn;
use super::state::{Instance, Lease, ModelId, Phase, Ticket};
use crate::ask::ModelSpec;
use crate::lease::{GrantFacts, Origin};
use crate::protocol::{Effect, InstanceId, TicketId};

/// Beginnings of prompts that are remembered for an instance.
const AFFINITIES: usize = 64;

impl Turn<'_> {
    /// Does for those who wait for a model, or for one that needs it, what can be done now: grant, want memory, or
    /// nothing.
    pub(super) fn review(&mut self, model: ModelId) {
        self.review_one(model);
        self.review_dependents(model);
    }

    pub(super) fn review_one(&mut self, model: ModelId) {
        self.give_up_needless_growth(model);
        if self.state.model(model).has_waiting() {
            self.serve(model);
            self.refuse_who_needs_the_stunted(model);
        }
        if !self.state.model(model).has_waiting() {
            self.unwant(model);
            for id in self.state.model(model).instances.clone() {
                self.went_idle(id);
            }
            self.look_after_members(model);
        } else if self.lacking(model).is_some_and(|lacking| lacking.is_empty())
            || self.is_kept_from_loading(model)
        {
            self.unwant(model);
        } else {
            self.want(model);
        }
    }

    /// After a failure, a model that has no instance left waits for the back-off to pass, and so do those that need it.
    pub(super) fn is_kept_from_loading(&self, model: ModelId) -> bool {
        let group = self.state.group(model).into_iter();
        group.into_iter().any(|part| self.is_set_back(part) && self.state.model(part).instances.is_empty())
    }

    /// Grants as long as somebody waits and a slot is free.
    fn serve(&mut self, model: ModelId) {
        let mut has_granted = false;
        while let Some((next, instance)) = self.next_to_serve(model) {
            let Some(members) = self.members_ready(model) else { break };
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

    /// Who is to be served now, and by which instance: all who want the model ready as it is, then the first in line
    /// for whom there is a slot.
    fn next_to_serve(&self, model: ModelId) -> Option<(TicketId, InstanceId)> {
        let serving = || self.state.staying(model).filter(|(_, instance)| instance.is_serving());
        serving().next()?;
        let of_model = self.state.model(model);
        // Who wants all instances of several is answered when they are there (see `crew`), unless the one that there
        // is must become another first.
        let answers_warms = self.crew(model).max == 1 || self.unmet_claim(model).is_some();
        let mut warms = of_model.warms.iter().filter(|_| answers_warms);
        let warm = warms.find_map(|(_, ticket)| {
            let spec = &self.state.tickets[ticket].spec;
            serving().find(|(_, instance)| instance.satisfies(spec)).map(|(id, _)| (*ticket, id))
        });
        warm.or_else(|| {
            serving().find(|(id, instance)| self.has_open_slot(*id, instance))?;
            let mut line = of_model.queue.in_order().into_iter();
            line.find_map(|ticket| Some((ticket, self.instance_for(&self.state.tickets[&ticket])?)))
        })
    }

    fn instance_for(&self, ticket: &Ticket) -> Option<InstanceId> {
        let open = self.state.staying(ticket.model).filter(|(id, instance)| {
            instance.is_serving() && instance.satisfies(&ticket.spec) && self.has_open_slot(*id, instance)
        });
        let best = open.max_by_key(|(id, instance)| {
            let remembers = ticket.affinity.is_some_and(|affinity| instance.affinities.contains(&affinity));
            let free_per_mille = 1_000 - u64::from(instance.leases) * 1_000 / u64::from(instance.slots());
            (remembers, free_per_mille, Reverse(*id))
        });
        best.map(|(id, _)| id)
    }

    /// Whether a request that came now would be granted at once.
    pub(super) fn has_free_slot(&self, model: ModelId) -> bool {
        let mut serving = self.state.staying(model).filter(|(_, instance)| instance.is_serving());
        serving.any(|(id, instance)| self.has_open_slot(id, instance)) && self.members_ready(model).is_some()
    }

    /// Whether some instance serves who wants this, sooner or later, without any further decision.
    pub(super) fn is_served(&self, model: ModelId, wish: &ModelSpec) -> bool {
        let mut serving = self.state.staying(model).filter(|(_, instance)| instance.is_serving());
        serving.any(|(_, instance)| instance.satisfies(wish))
    }

    fn has_open_slot(&self, id: InstanceId, instance: &Instance) -> bool {
        !self.is_closed(id) && !self.is_on_trial(instance.model) && instance.leases < instance.slots()
    }

    /// It has to leave for a model that waits.
    pub(super) fn is_closed(&self, id: InstanceId) -> bool {
        self.state.pledges.get(&id).is_some_and(|pledge| pledge.at <= self.now)
    }

    pub(super) fn origin_of_who_comes_now(&self, model: ModelId, wish: &ModelSpec) -> Origin {
        if self.is_served(model, wish) {
            return Origin::Hit;
        }
        let mut best = Origin::Cold;
        for (_, instance) in self.state.staying(model) {
            match instance.phase {
                Phase::Loading { .. } => return Origin::Joined,
                _ => best = Origin::Parked,
            }
        }
        best
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
        let load_ms = match ticket.origin {
            Origin::Hit => 0,
            _ => load_ended.since(load_began.max(ticket.asked_at)).min(waited_ms),
        };
        let facts = GrantFacts { origin: ticket.origin, queue_ms: waited_ms - load_ms, load_ms };
        self.state.model_mut(ticket.model).fame.add(now);
        self.state.leases.insert(id, Lease { instance: instance_id, members, granted_at: now });
        self.state.count(ticket.model, |tally| {
            *match facts.origin {
                Origin::Hit | Origin::Parked => &mut tally.hits,
                Origin::Joined => &mut tally.coalesced,
                Origin::Cold => &mut tally.misses,
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
