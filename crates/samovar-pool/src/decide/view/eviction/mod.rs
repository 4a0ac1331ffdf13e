//! Who leaves first: one file a policy, each a rank from facts.

mod gdsf;
mod lfu;
mod lru;
mod priority;

use samovar_core::port::Millis;

use crate::config::EvictionPolicy;

/// What a policy may know of an instance.
#[derive(Clone, Copy, Debug)]
pub(in crate::decide) struct EvictionCandidate {
    /// When it was used last.
    pub(in crate::decide) last_used: Millis,
    /// How long ago that was.
    pub(in crate::decide) idle_ms: u64,
    /// How often it was used since it was loaded.
    pub(in crate::decide) uses: u64,
    /// How often its model is used of late, whether it was in memory or not.
    pub(in crate::decide) frequency: f64,
    /// What leaving would free.
    pub(in crate::decide) bytes: u64,
    /// What bringing it back would take.
    pub(in crate::decide) reload_ms: u64,
    /// The pool's age (see [`gdsf`]) when it was used last.
    pub(in crate::decide) age_when_used: f64,
}

/// A rank for each of these, who are compared with each other. The lowest leaves first.
pub(in crate::decide) fn ranks(policy: EvictionPolicy, facts: &[EvictionCandidate]) -> Vec<f64> {
    match policy {
        EvictionPolicy::Lru => facts.iter().map(lru::rank).collect(),
        EvictionPolicy::Lfu => facts.iter().map(lfu::rank).collect(),
        EvictionPolicy::Priority => priority::ranks(facts),
        EvictionPolicy::Gdsf => facts.iter().map(gdsf::rank).collect(),
    }
}

/// What the pool's age becomes when this one leaves.
pub(in crate::decide) fn age_after(policy: EvictionPolicy, age: f64, leaves: &EvictionCandidate) -> f64 {
    match policy {
        EvictionPolicy::Lru | EvictionPolicy::Lfu | EvictionPolicy::Priority => age,
        EvictionPolicy::Gdsf => age.max(gdsf::rank(leaves)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in crate::decide) const PLAIN: EvictionCandidate = EvictionCandidate {
        last_used: Millis(0),
        idle_ms: 0,
        uses: 0,
        frequency: 0.0,
        bytes: 1_000_000_000,
        reload_ms: 1_000,
        age_when_used: 0.0,
    };
}
