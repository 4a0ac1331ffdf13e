//! Who is next.
//!
//! A model's queue is fair between clients (see `fair_queue`); one client's own requests are ordered by the time of coming
//! less the head start that a priority gives. The head start is fixed, so that no request is overtaken for ever.

use std::sync::Arc;

use samovar_core::port::Millis;

use super::StepContext;
use super::keep_alive::within_bounds;
use crate::ask::{AcquireRequest, ModelSpec, Wait};
use crate::decide::state::{ModelId, Phase, Ticket, Timer, Who};
use crate::error::Error;
use crate::protocol::{Effect, TicketId};

/// Places in a queue are told no more often.
const TELL_EVERY_MS: u64 = 250;

impl StepContext<'_> {
    pub(super) fn enqueue(&mut self, ticket: TicketId, model: ModelId, ask: &AcquireRequest) {
        let place = self.view().place_in_queue(ask.priority);
        let weight = self.view().weight_of(ask);
        let waiting = Ticket { place, wants_slot: true, ..self.newly_waiting(model, ask) };
        self.state.model_mut(model).queue.join(&waiting.who, weight, place, ticket);
        self.state.timers.extend(ask.deadline.map(|at| (at, Timer::Deadline(ticket))));
        self.state.tickets.insert(ticket, waiting);
        self.newcomer = Some(ticket);
        self.mark_wanted(model);
    }

    pub(super) fn enqueue_warm(&mut self, ticket: TicketId, model: ModelId, spec: &Arc<ModelSpec>) {
        let place = self.view().place_in_queue(0);
        self.state.model_mut(model).warms.insert((place, ticket));
        let waiting = Ticket { place, ..self.newly_waiting(model, &AcquireRequest::new(Arc::clone(spec))) };
        self.state.tickets.insert(ticket, waiting);
        self.newcomer = Some(ticket);
        self.mark_wanted(model);
    }

    fn newly_waiting(&self, model: ModelId, ask: &AcquireRequest) -> Ticket {
        let wish = ask.keep_alive.unwrap_or(ask.model.keep_alive);
        Ticket {
            model,
            spec: Arc::clone(&ask.model),
            who: Who::of(ask),
            place: 0,
            wants_slot: false,
            asked_at: self.now,
            counts_from: self.now,
            deadline: ask.deadline,
            keep_alive: within_bounds(&self.state.config, wish),
            grant_kind: self.view().grant_kind_now(model, &ask.model),
            affinity: ask.affinity,
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

    /// A request left without a grant: the next may be served, and a demand may be over.
    pub(super) fn left_the_queue(&mut self, model: ModelId) {
        self.review(model);
        self.tell_waiting(model);
    }

    /// Tells all requests that wait for the model what they wait for.
    pub(super) fn tell_waiting(&mut self, model: ModelId) {
        let of_model = self.state.model(model);
        let queued =
            of_model.queue.in_order().into_iter().enumerate().map(|(index, id)| (index as u32 + 1, id, true));
        let warms = of_model.warms.iter().map(|(_, ticket)| (1, *ticket, false));
        let told: Vec<_> = queued
            .chain(warms)
            .map(|(position, ticket, wants_slot)| {
                (ticket, self.view().wait_estimate(model, position, wants_slot))
            })
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
        let wait = self.view().wait_estimate(ticket.model, position, ticket.wants_slot);
        self.tell(model, vec![(newcomer, wait)]);
    }

    /// Begins what a request would have waited for that was refused because it takes too long.
    pub(super) fn begin_for_the_next(&mut self, model: ModelId, spec: &Arc<ModelSpec>) {
        let is_full = self.state.tickets.len() >= self.state.config.queue_total as usize;
        if !is_full
            && !self.state.model(model).has_waiting()
            && self
                .state
                .staying(model)
                .all(|(_, instance)| matches!(instance.phase, Phase::Parking | Phase::Parked))
        {
            self.load_for_nobody(model, spec);
        }
    }

    /// Tells what has changed: at once what becomes of a load, and now and then what becomes of a place.
    pub(super) fn tell(&mut self, model: ModelId, waits: Vec<(TicketId, Wait)>) {
        let mut due: Option<Millis> = None;
        for (id, wait) in waits {
            let Some(ticket) = self.state.tickets.get_mut(&id) else { continue };
            let is_known = ticket.told.is_some_and(|(told, _)| told == wait);
            let both_queued = |told: Wait| matches!((told, wait), (Wait::Queued { .. }, Wait::Queued { .. }));
            let not_before =
                ticket.told.filter(|(told, _)| both_queued(*told)).map(|(_, at)| at.plus(TELL_EVERY_MS));
            match not_before.filter(|at| *at > self.now) {
                _ if is_known => {}
                Some(at) => due = Some(due.map_or(at, |due| due.min(at))),
                None => {
                    ticket.told = Some((wait, self.now));
                    self.effects.push(Effect::Tell { ticket: id, wait });
                }
            }
        }
        if let Some(at) = due
            && self.state.model(model).tell_at.is_none()
        {
            self.state.model_mut(model).tell_at = Some(at);
            self.state.timers.insert((at, Timer::Tell(model)));
        }
    }

    pub(super) fn tell_due(&mut self, model: ModelId) {
        if let Some(of_model) = self.state.models.get_mut(&model) {
            of_model.tell_at = None;
            self.tell_waiting(model);
        }
    }
}
