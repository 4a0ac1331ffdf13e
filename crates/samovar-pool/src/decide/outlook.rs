//! What those who wait may expect, from experience: when they will be served.
//!
//! ```text
//!   nothing serves yet ──► what is left of the load or resume ─┐
//!   all slots are taken ─► what is left of the oldest lease ───┴─► + for each place before: mean lease / slots
//! ```
//!
//! Who can not be served before its deadline, going by that, is refused at once; without experience nobody is. The load
//! that such a one would have waited for is begun all the same, so that the next one finds the model. It waits in the pool's
//! own name, and within `queue_total` like everybody.

use std::sync::Arc;

use samovar_core::port::Millis;

use super::state::{ModelId, Phase, Timer};
use super::{Call, Turn};
use crate::ask::{ModelSpec, Wait};
use crate::error::Error;
use crate::protocol::{Effect, TicketId};

/// Places in a queue are told no more often.
const TELL_EVERY_MS: u64 = 250;
/// Retry after this when nothing is known of how long a slot is held.
const RETRY_UNKNOWN_MS: u64 = 1_000;
/// Nobody is told to stay away for longer because of a queue.
const RETRY_MAX_MS: u64 = 60_000;

/// How a model serves, or will serve, at a moment.
struct Service {
    slots: u32,
    /// Slots that nobody uses.
    free: u32,
    /// Slots that will be there together, beside the first one.
    together: u32,
    /// Until the next slot, if that can be told.
    next_ms: Option<u64>,
    hold_ms: Option<f64>,
}

impl Service {
    /// When whoever has this place, counted from 1, is served.
    fn wait_ms(&self, position: u32) -> Option<u64> {
        let Some(ahead) = position.saturating_sub(self.free).checked_sub(1) else { return Some(0) };
        let next_ms = self.next_ms?;
        match (ahead.saturating_sub(self.together), self.hold_ms) {
            (0, _) => Some(next_ms),
            (turns, Some(hold_ms)) => {
                Some(next_ms + (f64::from(turns) * hold_ms / f64::from(self.slots)) as u64)
            }
            (_, None) => None,
        }
    }
}

impl Turn<'_> {
    /// When whoever has this place in the model's queue, counted from 1, is served; `None` without experience.
    pub(super) fn expected_wait(&self, model: ModelId, position: u32) -> Option<u64> {
        self.service(model, &self.state.model(model).spec).wait_ms(position)
    }

    /// When somebody who is refused for a full queue should come again: half of those who wait will have been served.
    pub(super) fn retry_after_ms(&self, model: ModelId) -> u64 {
        let half = self.state.model(model).waiting_count() / 2 + 1;
        self.expected_wait(model, half).unwrap_or(RETRY_UNKNOWN_MS).clamp(1, RETRY_MAX_MS)
    }

    /// The refusal of somebody who came now and would not be served in time.
    pub(super) fn too_late(&self, model: ModelId, spec: &ModelSpec, call: &Call) -> Option<Error> {
        let allowed_ms = call.deadline?.since(self.now);
        let expected_ms = self.service(model, spec).wait_ms(self.place_of_newcomer(model, call))?;
        (expected_ms > allowed_ms).then(|| Error::TooLate {
            model: spec.name.clone(),
            expected_ms,
            allowed_ms,
            retry_after_ms: (expected_ms - allowed_ms).min(RETRY_MAX_MS),
        })
    }

    fn place_of_newcomer(&self, model: ModelId, call: &Call) -> u32 {
        let newcomer = TicketId(u64::MAX);
        let mut line = self.state.model(model).queue.clone();
        let weight = self.weight_of(call.who.client());
        line.join(&call.who, weight, self.place_in_line(call.priority), newcomer);
        let before = line.in_order().into_iter().take_while(|ticket| *ticket != newcomer);
        before.count() as u32 + 1
    }

    fn service(&self, model: ModelId, spec: &ModelSpec) -> Service {
        let hold_ms = self.state.model(model).hold.ms();
        let serving = || self.state.staying(model).filter(|(_, instance)| instance.is_serving());
        let slots: u32 = serving().map(|(_, instance)| instance.slots()).sum();
        if slots == 0 {
            let slots = spec.options.slots.max(1);
            let next_ms = self.ready_in_ms(model, spec);
            return Service { slots, free: 0, together: slots - 1, next_ms, hold_ms };
        }
        let busy: u32 = serving().map(|(_, instance)| instance.leases).sum();
        let free = if self.has_free_slot(model) { slots.saturating_sub(busy) } else { 0 };
        let granted = self.state.leases.values().filter(|lease| {
            self.state.instances.get(&lease.instance).is_some_and(|instance| instance.model == model)
        });
        let oldest = granted.map(|lease| lease.granted_at).min().unwrap_or(self.now);
        let next_ms = hold_ms.map(|hold_ms| (hold_ms as u64).saturating_sub(self.now.since(oldest)));
        Service { slots, free, together: 0, next_ms, hold_ms }
    }

    /// When a model that serves nobody now will, if memory for it is found at once.
    fn ready_in_ms(&self, model: ModelId, spec: &ModelSpec) -> Option<u64> {
        let of_model = self.state.model(model);
        let load_ms = || of_model.tally.load_times.expected_ms(spec.load_ms);
        let resume_ms = || of_model.resume.ms().map(|ms| ms as u64);
        let soonest = self.state.staying(model).filter_map(|(_, instance)| {
            let under_way_ms = self.now.since(instance.ready_span.0);
            match instance.phase {
                Phase::Loading { .. } => load_ms().map(|ms| ms.saturating_sub(under_way_ms)),
                Phase::Resuming => resume_ms().map(|ms| ms.saturating_sub(under_way_ms)),
                Phase::Parking | Phase::Parked => resume_ms(),
                // It is being looked at, or about to grow.
                Phase::Ready | Phase::Unloading => None,
            }
        });
        if self.state.staying(model).next().is_some() {
            return soonest.min();
        }
        let back_off_ms = of_model.setback.as_ref().map_or(0, |setback| setback.retry_in_ms(self.now));
        load_ms().map(|ms| ms + back_off_ms)
    }

    /// Begins what somebody would have waited for who was refused because it takes too long.
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
