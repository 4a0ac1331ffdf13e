//! The decisions: a pure function from an event to effects.
//!
//! ```text
//!   Event ─► due timers ─► admission │ queue │ lifecycle │ orders ─► settle ─► effects
//!                                                                     │
//!                                    pledges due → placement of wants → crews → soft limit → next wake-up
//! ```
//!
//! - `admission` who may wait, and who is refused at once
//! - `queue`, `line`, `outlook` who is next, and when
//! - `serving` which instance serves whom
//! - `seniority` who has waited longest, and what is kept for those
//! - `demand` what is to be loaded, resumed or made larger for who waits
//! - `crew` how many instances a model has; `group` which models go together
//! - `lifecycle`, `growth` what becomes of an instance
//! - `departure` how one leaves
//! - `placement` who gets memory next, and who leaves for it
//! - `aside` memory for work in the background
//! - `keep_alive`, `pressure`, `health`, `orders` the other reasons to act
//! - `ledger`, `files`, `eviction` bytes, and the order of leaving
//!
//! The same events at the same times give the same effects. Nothing here waits, asks the time, reads a file or
//! draws a number.

mod admission;
mod aside;
mod crew;
mod demand;
mod departure;
mod eviction;
mod files;
mod group;
mod growth;
mod health;
mod instance;
mod keep_alive;
mod ledger;
mod lifecycle;
mod line;
mod orders;
mod outlook;
mod placement;
mod pressure;
mod queue;
mod seniority;
mod serving;
mod state;
mod trust;
mod view;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use samovar_core::port::Millis;
use samovar_core::units::KeepAlive;

pub use state::PoolState;

use crate::decision::{Reason, Record, What};
use crate::protocol::{Effect, Event, TicketId};
use line::Who;
use state::{ModelId, Timer};

/// What is to be done now that this has happened. Events that name what is not there any more are let pass.
pub fn step(state: &mut PoolState, event: Event, now: Millis) -> Vec<Effect> {
    let mut turn = Turn { state, now, newcomer: None, effects: Vec::new() };
    turn.do_what_is_due();
    turn.take(event);
    turn.settle();
    turn.tell_newcomer();
    turn.ask_to_be_woken();
    turn.effects
}

/// What a request says besides the model.
struct Call {
    who: Who,
    priority: u8,
    deadline: Option<Millis>,
    keep_alive: Option<KeepAlive>,
    affinity: Option<u64>,
}

/// One step under way.
struct Turn<'a> {
    state: &'a mut PoolState,
    now: Millis,
    /// Who was admitted in this step, and should hear something if not granted in it.
    newcomer: Option<TicketId>,
    effects: Vec<Effect>,
}

impl Turn<'_> {
    fn take(&mut self, event: Event) {
        match event {
            Event::Request { ticket, model, client, within, priority, deadline, keep_alive, affinity } => {
                let call = Call { who: Who::new(&client, &within), priority, deadline, keep_alive, affinity };
                self.request(ticket, &model, &call);
            }
            Event::Warm { ticket, model } => self.warm(ticket, &model),
            Event::Cancel { ticket } => self.cancel(ticket),
            Event::Released { ticket, failed } => self.released(ticket, failed),
            Event::LoadProgress { instance, fraction } => self.load_got_on(instance, fraction),
            Event::Loaded { instance, footprint, layout } => self.loaded(instance, footprint, layout),
            Event::LoadFailed { instance, failure } => self.load_failed(instance, failure),
            Event::InstanceDied { instance, failure } => self.died(instance, failure),
            Event::Probed { instance } => self.probe_went_well(instance),
            Event::ProbeFailed { instance, failure } => self.probe_failed(instance, failure),
            Event::Parked { instance, measured } => self.parked(instance, measured.held_bytes),
            Event::ParkFailed { instance, failure } => self.park_failed(instance, failure),
            Event::Resumed { instance, measured } => self.resumed(instance, measured),
            Event::ResumeFailed { instance, failure } => self.resume_failed(instance, failure),
            Event::Unloaded { instance } => self.unloaded(instance),
            Event::SetAside { ticket, bytes } => self.set_aside(ticket, bytes),
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
                Timer::Setback(model) => self.setback_due(model),
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
