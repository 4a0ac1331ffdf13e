//! Who is next, and who is granted.
//!
//! A model's queue is fair between clients (see `line`); one client's own requests are ordered by the time of coming
//! less the head start that a priority gives. The head start is fixed, so that nobody is overtaken for ever.

use std::sync::Arc;

use super::keep_alive::within_bounds;
use super::state::{Lease, ModelId, Phase, Ticket, Timer};
use super::{Call, Turn};
use crate::ask::{ModelSpec, Wait};
use crate::decision::{Reason, What};
use crate::error::Error;
use crate::lease::{GrantFacts, Origin};
use crate::protocol::{Effect, InstanceId, TicketId};

/// What one point of priority is worth, in milliseconds of waiting.
const HEAD_START_MS: u64 = 100;

impl Turn<'_> {
    pub(super) fn enqueue(&mut self, ticket: TicketId, model: ModelId, spec: &Arc<ModelSpec>, call: &Call) {
        let place = self.place_in_line(call.priority);
        let weight = self.state.config.client_weights.get(&*call.client).copied().unwrap_or(1);
        self.state.model_mut(model).queue.join(&call.client, weight, place, ticket);
        self.state.timers.extend(call.deadline.map(|at| (at, Timer::Deadline(ticket))));
        let waiting = Ticket { place, wants_slot: true, ..self.newly_waiting(model, spec, call) };
        self.state.tickets.insert(ticket, waiting);
        self.newcomer = Some(ticket);
    }

    pub(super) fn enqueue_warm(&mut self, ticket: TicketId, model: ModelId, spec: &Arc<ModelSpec>) {
        let place = self.place_in_line(0);
        self.state.model_mut(model).warms.insert((place, ticket));
        let call = Call { client: "".into(), priority: 0, deadline: None, keep_alive: None };
        let waiting = Ticket { place, ..self.newly_waiting(model, spec, &call) };
        self.state.tickets.insert(ticket, waiting);
        self.newcomer = Some(ticket);
    }

    fn place_in_line(&self, priority: u8) -> u64 {
        let behind_ms = u64::from(u8::MAX - priority) * HEAD_START_MS;
        self.now.plus(behind_ms).0
    }

    fn newly_waiting(&self, model: ModelId, spec: &Arc<ModelSpec>, call: &Call) -> Ticket {
        let origin = match self.state.instance_of(model) {
            Some((_, instance)) if instance.farewell.is_none() => match instance.phase {
                Phase::Ready => Origin::Hit,
                Phase::Loading { .. } => Origin::Joined,
                Phase::Parking | Phase::Parked | Phase::Resuming => Origin::Parked,
                Phase::Unloading => Origin::Cold,
            },
            _ => Origin::Cold,
        };
        Ticket {
            model,
            spec: Arc::clone(spec),
            client: Arc::clone(&call.client),
            place: 0,
            wants_slot: false,
            asked_at: self.now,
            deadline: call.deadline,
            keep_alive: within_bounds(&self.state.config, call.keep_alive.unwrap_or(spec.keep_alive)),
            origin,
        }
    }

    /// Takes a ticket out of the queue; its answer, which is no grant, must follow.
    pub(super) fn take_ticket(&mut self, id: TicketId) -> Option<Ticket> {
        let ticket = self.forget_ticket(id)?;
        self.state.model_mut(ticket.model).queue.leave(&ticket.client, ticket.place, id);
        Some(ticket)
    }

    /// Takes a ticket out of the queue, whose turn it is.
    fn take_served(&mut self, id: TicketId) -> Option<Ticket> {
        let ticket = self.forget_ticket(id)?;
        if ticket.wants_slot {
            self.state.model_mut(ticket.model).queue.serve(&ticket.client, ticket.place, id);
        }
        Some(ticket)
    }

    fn forget_ticket(&mut self, id: TicketId) -> Option<Ticket> {
        let ticket = self.state.tickets.remove(&id)?;
        self.state.model_mut(ticket.model).warms.remove(&(ticket.place, id));
        if let Some(deadline) = ticket.deadline {
            self.state.timers.remove(&(deadline, Timer::Deadline(id)));
        }
        Some(ticket)
    }

    pub(super) fn cancel(&mut self, id: TicketId) {
        let Some(ticket) = self.take_ticket(id) else { return };
        if ticket.wants_slot {
            self.state.count(ticket.model, |tally| tally.cancelled += 1);
        }
        self.left_the_queue(ticket.model);
    }

    pub(super) fn deadline_passed(&mut self, id: TicketId) {
        let Some(ticket) = self.take_ticket(id) else { return };
        let waited_ms = self.now.since(ticket.asked_at);
        let why = Error::DeadlineExceeded { model: ticket.spec.name.clone(), waited_ms };
        self.turn_down(id, ticket.model, why);
        self.left_the_queue(ticket.model);
    }

    /// Somebody left without a grant: the next may be served, and a want may be over.
    pub(super) fn left_the_queue(&mut self, model: ModelId) {
        self.review(model);
        self.tell_waiting(model);
    }

    /// Does for the waiting of a model what can be done now: grant, want memory, or nothing.
    pub(super) fn review(&mut self, model: ModelId) {
        if !self.state.model(model).has_waiting() {
            self.unwant(model);
            if let Some(id) = self.state.model(model).instance {
                self.went_idle(id);
            }
            return;
        }
        match self.state.instance_of(model).map(|(id, instance)| (id, instance.phase)) {
            None if self.is_set_back(model) => self.unwant(model),
            None => self.want(model),
            Some((id, Phase::Parked)) => self.review_parked(id, model),
            Some((id, Phase::Ready)) => self.serve(id, model),
            Some(_) => {}
        }
    }

    fn review_parked(&mut self, id: InstanceId, model: ModelId) {
        let wanted = self.wanted_spec(model);
        if self.state.instance(id).satisfies(&wanted) {
            self.stop_keep_alive(id);
            self.want(model);
        } else {
            self.bid_farewell(id, What::Unloaded, outgrown(&wanted));
        }
    }

    /// Grants as long as somebody waits and a slot is free.
    fn serve(&mut self, id: InstanceId, model: ModelId) {
        let mut has_granted = false;
        while let Some(next) = self.next_to_serve(id, model) {
            if !self.state.instance(id).satisfies(&self.state.tickets[&next].spec) {
                let wanted = self.wanted_spec(model);
                self.bid_farewell(id, What::Unloaded, outgrown(&wanted));
                break;
            }
            match self.take_served(next) {
                Some(ticket) if ticket.wants_slot => self.grant(next, &ticket, id),
                _ => self.effects.push(Effect::Done { ticket: next, instances: 1 }),
            }
            has_granted = true;
        }
        if has_granted {
            self.tell_waiting(model);
        }
    }

    /// The ticket that this instance is to serve now, if there is one: all who want it ready as it is, then whoever
    /// is first in line, be it to find that the instance is too small.
    fn next_to_serve(&self, id: InstanceId, model: ModelId) -> Option<TicketId> {
        let instance = self.state.instance(id);
        if instance.farewell.is_some() || instance.phase != Phase::Ready {
            return None;
        }
        let of_model = self.state.model(model);
        let is_satisfied = |ticket: &TicketId| instance.satisfies(&self.state.tickets[ticket].spec);
        let mut warms = of_model.warms.iter().map(|(_, ticket)| *ticket);
        if let Some(warm) = warms.find(is_satisfied) {
            return Some(warm);
        }
        let (_, first) = of_model.warms.first().copied().into_iter().chain(of_model.queue.first()).min()?;
        (!is_satisfied(&first) || self.has_open_slot(id)).then_some(first)
    }

    /// Whether a request that came now would be granted at once.
    pub(super) fn has_free_slot(&self, model: ModelId) -> bool {
        let ready = self
            .state
            .instance_of(model)
            .filter(|(_, instance)| instance.phase == Phase::Ready && instance.farewell.is_none());
        ready.is_some_and(|(id, _)| self.has_open_slot(id))
    }

    fn has_open_slot(&self, id: InstanceId) -> bool {
        let instance = self.state.instance(id);
        let is_closed = self.state.pledges.get(&id).is_some_and(|pledge| pledge.at <= self.now);
        !is_closed && instance.leases < instance.slots()
    }

    fn grant(&mut self, id: TicketId, ticket: &Ticket, instance_id: InstanceId) {
        self.stop_keep_alive(instance_id);
        let (now, age) = (self.now, self.state.age);
        let instance = self.state.instance_mut(instance_id);
        instance.leases += 1;
        instance.uses += 1;
        instance.age_when_used = age;
        instance.last_used = now;
        instance.keep_alive = ticket.keep_alive;
        let (load_began, load_ended) = instance.ready_span;
        let waited_ms = now.since(ticket.asked_at);
        let load_ms = match ticket.origin {
            Origin::Hit => 0,
            _ => load_ended.since(load_began.max(ticket.asked_at)).min(waited_ms),
        };
        let facts = GrantFacts { origin: ticket.origin, queue_ms: waited_ms - load_ms, load_ms };
        self.state.model_mut(ticket.model).fame.add(now);
        self.state.leases.insert(id, Lease { instance: instance_id, granted_at: now });
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

    /// The spec to load for: that of who came first, or a larger one that somebody else waits for.
    pub(super) fn wanted_spec(&self, model: ModelId) -> Arc<ModelSpec> {
        let of_model = self.state.model(model);
        let mut wanted = &of_model.spec;
        for (index, ticket) in of_model.waiting().iter().enumerate() {
            let spec = &self.state.tickets[ticket].spec;
            if index == 0 || is_larger(spec, wanted) && self.does_not_fit(model, spec).is_none() {
                wanted = spec;
            }
        }
        Arc::clone(wanted)
    }

    /// Tells everybody who waits for the model how things stand.
    pub(super) fn tell_waiting(&mut self, model: ModelId) {
        let of_model = self.state.model(model);
        let queued =
            of_model.queue.in_order().into_iter().enumerate().map(|(index, id)| (index as u32 + 1, id));
        let warms = of_model.warms.iter().map(|(_, ticket)| (1, *ticket));
        let told: Vec<_> = queued
            .chain(warms)
            .map(|(position, ticket)| Effect::Tell { ticket, wait: self.outlook(model, position) })
            .collect();
        self.effects.extend(told);
    }

    /// Tells who came in this step and still waits, unless that has been done.
    pub(super) fn tell_newcomer(&mut self) {
        let Some(newcomer) = self.newcomer else { return };
        let is_told = self
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Tell { ticket, .. } if *ticket == newcomer));
        let Some(ticket) = self.state.tickets.get(&newcomer).filter(|_| !is_told) else { return };
        let order = self.state.model(ticket.model).queue.in_order();
        let position = order.iter().position(|id| *id == newcomer).map_or(1, |index| index as u32 + 1);
        let wait = self.outlook(ticket.model, position);
        self.effects.push(Effect::Tell { ticket: newcomer, wait });
    }

    fn outlook(&self, model: ModelId, position: u32) -> Wait {
        let instance = self.state.instance_of(model).map(|(_, instance)| instance);
        match instance.map(|instance| (instance.phase, instance)) {
            Some((Phase::Loading { fraction, is_stopped: false }, _)) => {
                Wait::Loading { fraction, instance: 1, of: 1 }
            }
            Some((Phase::Resuming, _)) => Wait::Resuming,
            Some((Phase::Ready, instance)) => {
                let rounds = f64::from(position.div_ceil(instance.slots()));
                let estimate_ms = self.state.model(model).hold.ms().map(|hold_ms| (hold_ms * rounds) as u64);
                Wait::Queued { position, estimate_ms }
            }
            _ => Wait::Queued { position, estimate_ms: None },
        }
    }
}

/// Whether an instance loaded for `one` serves `other` as well, and more.
fn is_larger(one: &ModelSpec, other: &ModelSpec) -> bool {
    let (one, other) = (&one.options, &other.options);
    let sizes = |options: &samovar_core::LoadOptions| (options.context_tokens, options.slots);
    one.context_tokens >= other.context_tokens && one.slots >= other.slots && sizes(one) != sizes(other)
}

fn outgrown(wanted: &ModelSpec) -> Reason {
    Reason::Outgrown { context_tokens: wanted.options.context_tokens, slots: wanted.options.slots }
}
