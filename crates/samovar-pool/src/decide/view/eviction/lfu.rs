//! Least frequently used: the instance whose model is asked for least of late leaves first.
//!
//! Uses count also from before the model left and came back, and fade (see [`UsageRate`](crate::decide::state::UsageRate)).

use super::EvictionCandidate;

pub(super) fn rank(facts: &EvictionCandidate) -> f64 {
    facts.frequency
}

#[cfg(test)]
mod tests {
    use super::super::tests::PLAIN;
    use super::*;

    #[test]
    fn the_rarer_one_leaves_however_recent() {
        let famous = EvictionCandidate { frequency: 9.0, idle_ms: 60_000, ..PLAIN };
        let recent = EvictionCandidate { frequency: 1.0, idle_ms: 0, ..PLAIN };
        assert!(rank(&recent) < rank(&famous));
    }
}
