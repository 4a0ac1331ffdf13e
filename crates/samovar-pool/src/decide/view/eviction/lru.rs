//! Least recently used: age alone decides.

use super::EvictionCandidate;

pub(super) fn rank(facts: &EvictionCandidate) -> f64 {
    facts.last_used.0 as f64
}
