//! Who is next.
//!
//! A model's queue is fair between clients (see `line`); one client's own requests are ordered by the time of coming
//! less the head start that a priority gives. The head start is fixed, so that nobody is overtaken for ever.

use std::sync::Arc;

use super::keep_alive::within_bounds;
use super::line::Who;
use super::state::{ModelId, Phase, Ticket, Timer};
use super::{Call, Turn};
use crate::ask::{ModelSpec, Wait};
use crate::error::Error;
use crate::protocol::TicketId;

/// What one point of priority is worth, in milliseconds of waiting.
const HEAD_START_MS: u64 = 100;

impl Turn<'_> {
    pub(super) fn enqueue(&mut self, ticket: TicketId, model: ModelId, spec: &Arc<ModelSpec>, call: &Call) {
        let place = self.place_in_line(call.priority);
        let weight = self.weight_of(call.who.client());
        self.state.model_mut(model).queue.join(&call.who, weight, place, ticket);
        self.state.timers.extend(call.deadline.map(|at| (at, Timer::Deadline(ticket))));
        let waiting = Ticket { place, wants_slot: true, ..self.newly_waiting(model, spec, call) };
        self.state.tickets.insert(ticket, waiting);
        self.newcomer = Some(ticket);
        self.rouse(model);
    }

    pub(super) fn enqueue_warm(&mut self, ticket: TicketId, model: ModelId, spec: &Arc<ModelSpec>) {
        let place = self.place_in_line(0);
        self.state.model_mut(model).warms.insert((place, ticket));
        let call =
            Call { who: Who::new("", &[]), priority: 0, deadline: None, keep_alive: None, affinity: None };
        let waiting = Ticket { place, ..self.newly_waiting(model, spec, &call) };
        self.state.tickets.insert(ticket, waiting);
        self.newcomer = Some(ticket);
        self.rouse(model);
    }

    pub(super) fn weight_of(&self, client: &str) -> u32 {
        self.state.config.client_weights.get(client).copied().unwrap_or(1)
    }

    pub(super) fn place_in_line(&self, priority: u8) -> u64 {
        let behind_ms = u64::from(u8::MAX - priority) * HEAD_START_MS;
        self.now.plus(behind_ms).0
    }

    fn newly_waiting(&self, model: ModelId, spec: &Arc<ModelSpec>, call: &Call) -> Ticket {
        Ticket {
            model,
            spec: Arc::clone(spec),
            who: call.who.clone(),
            place: 0,
            wants_slot: false,
            asked_at: self.now,
            counts_from: self.now,
            deadline: call.deadline,
            keep_alive: within_bounds(&self.state.config, call.keep_alive.unwrap_or(spec.keep_alive)),
            origin: self.origin_of_who_comes_now(model, spec),
            affinity: call.affinity,
            told: None,
        }
    }

    /// Takes a ticket out of the queue; its answer, which is no grant, must follow.
    pub(super) fn take_ticket(&mut self, id: TicketId) -> Option<Ticket> {
        let ticket = self.forget_ticket(id)?;
        let model = self.state.model_mut(ticket.model);
        model.queue.leave(&ticket.who, ticket.place, id);
        model.forget_turned_away();
        Some(ticket)
    }

    /// Takes a ticket out of the queue, whose turn it is.
    pub(super) fn take_served(&mut self, id: TicketId) -> Option<Ticket> {
        let ticket = self.forget_ticket(id)?;
        if ticket.wants_slot {
            let model = self.state.model_mut(ticket.model);
            model.queue.serve(&ticket.who, ticket.place, id);
            model.turned_away.remove(&ticket.who);
            model.forget_turned_away();
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

    /// Tells everybody who waits for the model how things stand.
    pub(super) fn tell_waiting(&mut self, model: ModelId) {
        let of_model = self.state.model(model);
        let queued =
            of_model.queue.in_order().into_iter().enumerate().map(|(index, id)| (index as u32 + 1, id, true));
        let warms = of_model.warms.iter().map(|(_, ticket)| (1, *ticket, false));
        let told: Vec<_> = queued
            .chain(warms)
            .map(|(position, ticket, wants_slot)| (ticket, self.outlook(model, position, wants_slot)))
            .collect();
        self.tell(model, told);
    }

    /// Tells who came in this step and still waits, unless that has been done.
    pub(super) fn tell_newcomer(&mut self) {
        let Some(newcomer) = self.newcomer else { return };
        let Some(ticket) = self.state.tickets.get(&newcomer) else { return };
        let model = ticket.model;
        let order = self.state.model(model).queue.in_order();
        let position = order.iter().position(|id| *id == newcomer).map_or(1, |index| index as u32 + 1);
        let wait = self.outlook(ticket.model, position, ticket.wants_slot);
        self.tell(model, vec![(newcomer, wait)]);
    }

    fn outlook(&self, model: ModelId, position: u32, wants_slot: bool) -> Wait {
        let are_members_ready = self.members_ready(model).is_some();
        let serving = self.state.staying(model).filter(|(_, instance)| instance.is_serving());
        let slots: u32 = serving.filter(|_| are_members_ready).map(|(_, instance)| instance.slots()).sum();
        let group = self.state.group(model);
        let loading =
            group.iter().flat_map(|part| self.state.staying(*part)).find_map(|(_, instance)| match instance
                .phase
            {
                Phase::Loading { fraction, .. } => Some((instance.model, fraction)),
                _ => None,
            });
        if let Some((loaded, fraction)) = loading.filter(|_| slots == 0 || !wants_slot) {
            let (instance, of) = (self.serving(loaded) + 1, self.crew_to_be(loaded));
            return Wait::Loading { fraction, instance, of };
        }
        if slots > 0 {
            return Wait::Queued { position, estimate_ms: self.expected_wait(model, position) };
        }
        let mut parts = group.iter().flat_map(|part| self.state.staying(*part));
        if parts.any(|(_, instance)| instance.phase == Phase::Resuming) {
            return Wait::Resuming;
        }
        Wait::Queued { position, estimate_ms: self.expected_wait(model, position) }
    }
}
