//! The decisions: a pure function from an event to effects.
//!
//! ```text
//! step(event): fire due timers → apply the event to one model → settle → tell the newcomer → ask for the next wake-up
//!
//! ticket       one queued request, or one who wants the model ready
//! demand       a model's oldest ticket that nothing serves yet, with all models that it needs; none → no demand
//! step         one load, resume or growth that a demand takes
//!
//! serve(model) while a slot is open and all that the model needs is ready: grant the fair queue's next
//!              (to the instance that knows the beginning of the prompt, else to the least busy one)
//! settle       0  deferred evictions that are due: those instances leave
//!              1  demands, oldest first: for each part the cheapest of load, resume, grow, sized for all tickets if that
//!                 fits, else for this one; never what an older demand needs to stay. All steps fit in what is free and
//!                 unclaimed → begin all; else claim the room, ask back what is set aside, and pick victims:
//!                   spare idle < idle ready < idle parked < busy ready < parked but waited for, in each by policy;
//!                   never what is pinned, or what an older demand needs
//!                 idle ones: parked if that frees bytes, else unloaded. Busy ones are deferred: closed to grants after
//!                 twice their load time or the other's max_wait, at least their residency; they leave when idle
//!              2  further instances: up to min in what is free and idle, up to max in what is free below the soft limit
//!              3  above the soft limit: idle ones leave; the one used last stays
//! leaving      keep-alive → park → parked_ms → unload; what was there for it alone follows (a list, worked off)
//! failures     back-off of 1, 2, 4 … 60 s; five within a minute → given up for a minute, then one trial
//! ```
//!
//! Three layers, each of which calls only those below it (`cargo x tidy` looks):
//!
//! - `act` takes events, changes the state, says what is to be done
//! - `view` answers questions about the state and changes nothing
//! - `state` is the data: models, instances, tickets, the ledger of bytes, the fair queue
//!
//! The same events at the same times give the same effects. Nothing here waits, asks the time, reads a file or
//! draws a number.

mod act;
mod state;
mod view;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use act::step;
pub use state::PoolState;
