//! Who leaves first: one file a policy, each a rank from facts.

mod fame;
mod gdsf;
mod lfu;
mod lru;
mod priority;

use samovar_core::port::Millis;

pub(super) use fame::Fame;

use crate::config::EvictionPolicy;

/// What a policy may know of an instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// When it was used last.
    pub(super) last_used: Millis,
    /// How long ago that was.
    pub(super) idle_ms: u64,
    /// How often it was used since it was loaded.
    pub(super) uses: u64,
    /// How often its model is used of late, whether it was in memory or not.
    pub(super) frequency: f64,
    /// What leaving would free.
    pub(super) bytes: u64,
    /// What bringing it back would take.
    pub(super) reload_ms: u64,
    /// The pool's age (see [`gdsf`]) when it was used last.
    pub(super) age_when_used: f64,
}

/// A rank for each of these, who are compared with each other. The lowest leaves first.
pub(super) fn ranks(policy: EvictionPolicy, facts: &[Facts]) -> Vec<f64> {
    match policy {
        EvictionPolicy::Lru => facts.iter().map(lru::rank).collect(),
        EvictionPolicy::Lfu => facts.iter().map(lfu::rank).collect(),
        EvictionPolicy::Priority => priority::ranks(facts),
        EvictionPolicy::Gdsf => facts.iter().map(gdsf::rank).collect(),
    }
}

/// What the pool's age becomes when this one leaves.
pub(super) fn age_after(policy: EvictionPolicy, age: f64, leaves: &Facts) -> f64 {
    match policy {
        EvictionPolicy::Lru | EvictionPolicy::Lfu | EvictionPolicy::Priority => age,
        EvictionPolicy::Gdsf => age.max(gdsf::rank(leaves)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const PLAIN: Facts = Facts {
        last_used: Millis(0),
        idle_ms: 0,
        uses: 0,
        frequency: 0.0,
        bytes: 1_000_000_000,
        reload_ms: 1_000,
        age_when_used: 0.0,
    };
}
