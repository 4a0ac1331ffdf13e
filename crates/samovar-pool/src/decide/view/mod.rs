//! What can be said of the state: who waits for what, what that takes, who could leave. Reads, and changes nothing.
//!
//! What most questions of one step come back to, such as the demands of all models, is worked out once (`Derived`), and
//! again only after the state has changed.

mod admission;
mod background_reservation;
mod demand;
mod departure;
mod estimates;
pub(in crate::decide) mod eviction;
mod group;
mod growth;
mod health;
mod oldest_first;
mod placement;
mod pressure;
mod replicas;
mod serving;
mod snapshot;

use std::cell::OnceCell;

use samovar_core::Bytes;
use samovar_core::port::Millis;

pub(in crate::decide) use demand::Step;
pub(in crate::decide) use health::{is_fault_of_the_instance, while_backing_off};
pub(in crate::decide) use oldest_first::{Demand, LAST};
pub(in crate::decide) use placement::Leaves;

use crate::decide::state::{ModelId, PoolState};

/// The state as it is now.
pub(in crate::decide) struct View<'a> {
    state: &'a PoolState,
    now: Millis,
    derived: &'a Derived,
}

/// What was worked out from a state, as long as that has not changed.
#[derive(Default)]
pub(in crate::decide) struct Derived {
    /// The demand of each model for which something is missing, oldest first.
    demands: OnceCell<Vec<Demand>>,
    /// Models that are pinned, or that a pinned one needs.
    pinned: OnceCell<Vec<ModelId>>,
    /// Bytes that will be free without any further decision.
    leaving_bytes: OnceCell<Bytes>,
}

impl<'a> View<'a> {
    pub(in crate::decide) fn new(state: &'a PoolState, now: Millis, derived: &'a Derived) -> Self {
        Self { state, now, derived }
    }
}
