//! What is done: each file takes some of the events, changes the state and says what is to be done outside.
//!
//! - `admission`, `queue`, `serving` who waits, who is refused, who is granted
//! - `placement`, `replicas`, `growth`, `lifecycle` what is loaded, resumed and made larger, and what becomes of that
//! - `departure`, `keep_alive`, `pressure` what leaves, and when
//! - `group`, `health`, `instance_health`, `background_reservation`, `commands` models that need others, failures, work in the background, people

mod admission;
mod background_reservation;
mod commands;
mod departure;
mod group;
mod growth;
mod health;
mod instance_health;
mod keep_alive;
mod lifecycle;
mod placement;
mod pressure;
mod queue;
mod replicas;
mod serving;

use std::ops::{Deref, DerefMut};

use samovar_core::port::Millis;

use crate::decide::state::{ModelId, PoolState, Timer};
use crate::decide::view::{Derived, View};
use crate::decision::{Reason, Record, What};
use crate::protocol::{Effect, Event, TicketId};
use departure::FollowUp;

/// What is to be done now that this has happened. Events that name what is not there any more are let pass.
pub fn step(state: &mut PoolState, event: Event, now: Millis) -> Vec<Effect> {
    let state = Tracked { state, derived: Derived::default() };
    let mut context = StepContext { state, now, newcomer: None, follow_ups: Vec::new(), effects: Vec::new() };
    context.do_what_is_due();
    context.take(event);
    context.settle();
    context.tell_newcomer();
    context.ask_to_be_woken();
    context.effects
}

/// One step under way.
struct StepContext<'a> {
    state: Tracked<'a>,
    now: Millis,
    /// Who was admitted in this step, and should hear something if not granted in it.
    newcomer: Option<TicketId>,
    /// What is still to be looked at because something has begun to leave (see `departure`).
    follow_ups: Vec<FollowUp>,
    effects: Vec<Effect>,
}

/// The state, and what was worked out from it. Code that may change the one loses the other.
struct Tracked<'a> {
    state: &'a mut PoolState,
    derived: Derived,
}

impl Deref for Tracked<'_> {
    type Target = PoolState;

    fn deref(&self) -> &PoolState {
        self.state
    }
}

impl DerefMut for Tracked<'_> {
    fn deref_mut(&mut self) -> &mut PoolState {
        self.derived = Derived::default();
        self.state
    }
}

impl StepContext<'_> {
    /// The state as it is now.
    fn view(&self) -> View<'_> {
        View::new(&self.state, self.now, &self.state.derived)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Request { ticket, ask } => self.request(ticket, &ask),
            Event::Warm { ticket, model } => self.warm(ticket, &model),
            Event::Cancel { ticket } => self.cancel(ticket),
            Event::Released { ticket, failed } => self.released(ticket, failed),
            Event::LoadProgress { instance, fraction } => self.load_got_on(instance, fraction),
            Event::Loaded { instance, memory, layout } => self.loaded(instance, memory, layout),
            Event::LoadFailed { instance, failure } => self.load_failed(instance, failure),
            Event::InstanceDied { instance, failure } => self.died(instance, failure),
            Event::Probed { instance } => self.probe_went_well(instance),
            Event::ProbeFailed { instance, failure } => self.probe_failed(instance, failure),
            Event::Parked { instance, left } => self.parked(instance, left),
            Event::ParkFailed { instance, failure } => self.park_failed(instance, failure),
            Event::Resumed { instance, memory } => self.resumed(instance, memory),
            Event::ResumeFailed { instance, failure } => self.resume_failed(instance, failure),
            Event::Weighed { instance, memory } => self.weighed(instance, &memory),
            Event::Unloaded { instance } => self.unloaded(instance),
            Event::BackgroundReservation { ticket, bytes } => self.reserve_background(ticket, bytes),
            Event::Tick => {}
            Event::Pressure { available_bytes, stall_percent } => {
                self.machine_pressure(available_bytes, stall_percent);
            }
            Event::Pin { ticket, model } => self.pin(ticket, &model),
            Event::Unpin { ticket, model } => self.unpin(ticket, &model),
            Event::Unload { ticket, name } => self.unload_by_name(ticket, &name),
            Event::Clear { ticket } => self.clear(ticket),
            Event::Configure { config } => self.configure(*config),
            Event::Shutdown => self.shut_down(),
        }
    }

    fn do_what_is_due(&mut self) {
        while let Some((at, timer)) = self.state.timers.first().copied() {
            if at > self.now {
                break;
            }
            self.state.timers.pop_first();
            match timer {
                Timer::Deadline(ticket) => self.deadline_passed(ticket),
                Timer::Idle(instance) => self.expired(instance),
                Timer::Backoff(model) => self.backoff_due(model),
                Timer::Probe(instance) => self.probe_due(instance),
                Timer::Tell(model) => self.tell_due(model),
            }
        }
    }

    fn ask_to_be_woken(&mut self) {
        let wake = self.state.next_wake();
        if wake != self.state.asked_wake {
            self.state.asked_wake = wake;
            self.effects.extend(wake.map(|at| Effect::WakeAt { at }));
        }
    }

    /// Remembers a decision about a model.
    fn note(&mut self, model: ModelId, what: What, reason: Reason) {
        let spec = &self.state.model(model).spec;
        let record = Record { at: self.now, key: spec.key.clone(), name: spec.name.clone(), what, reason };
        self.effects.push(Effect::Record { record });
    }
}
