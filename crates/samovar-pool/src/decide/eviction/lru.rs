//! Least recently used: age alone decides.

use super::Facts;

pub(super) fn rank(facts: &Facts) -> f64 {
    facts.last_used.0 as f64
}
