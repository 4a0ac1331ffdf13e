//! Who leaves first: one file a policy, each a rank from facts.

mod gdsf;
mod lru;

use samovar_core::port::Millis;

use crate::config::EvictionPolicy;

/// What a policy may know of an instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// When it was used last.
    pub(super) last_used: Millis,
    /// How often it was used since it was loaded.
    pub(super) uses: u64,
    /// What leaving would free.
    pub(super) bytes: u64,
    /// What bringing it back would take.
    pub(super) reload_ms: u64,
    /// The pool's age (see [`gdsf`]) when it was used last.
    pub(super) age_when_used: f64,
}

/// The lowest rank leaves first.
pub(super) fn rank(policy: EvictionPolicy, facts: &Facts) -> f64 {
    match policy {
        EvictionPolicy::Lru => lru::rank(facts),
        EvictionPolicy::Gdsf => gdsf::rank(facts),
    }
}

/// What the pool's age becomes when something of this rank leaves.
pub(super) fn age_after(policy: EvictionPolicy, age: f64, rank: f64) -> f64 {
    match policy {
        EvictionPolicy::Lru => age,
        EvictionPolicy::Gdsf => age.max(rank),
    }
}
