//! The decisions: a pure function from an event to effects.

use samovar_core::port::Millis;

use crate::config::PoolConfig;
use crate::protocol::{Effect, Event, TicketId};
use crate::snapshot::Snapshot;

/// Everything that decisions rest on.
#[derive(Debug)]
pub struct PoolState {
    config: PoolConfig,
}

impl PoolState {
    /// A pool that holds nothing.
    pub fn new(config: PoolConfig, _can_park: bool, _now: Millis) -> Self {
        Self { config }
    }
    /// Empty.
    pub fn is_empty(&self) -> bool {
        true
    }
    /// Leased.
    pub fn is_leased(&self, _ticket: TicketId) -> bool {
        false
    }
    /// Snapshot.
    pub fn snapshot(&self, _now: Millis) -> Snapshot {
        Snapshot::default()
    }
    /// Wake.
    pub fn next_wake(&self) -> Option<Millis> {
        None
    }
    /// Config.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }
}

/// Decides.
pub fn step(_state: &mut PoolState, _event: Event, _now: Millis) -> Vec<Effect> {
    Vec::new()
}
