//! Greedy dual size frequency: the instance whose bytes save the least load time leaves first.
//!
//! Uses count since the load. The pool's age rises to the rank of whatever left last, so that old uses fade.

use samovar_core::gdsf;

use super::EvictionCandidate;

pub(super) fn rank(facts: &EvictionCandidate) -> f64 {
    gdsf::rank(facts.age_when_used, facts.uses.max(1) as f64, facts.bytes, facts.reload_ms.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::super::tests::PLAIN;
    use super::*;

    fn facts(uses: u64, bytes: u64, reload_ms: u64, age_when_used: f64) -> EvictionCandidate {
        EvictionCandidate { uses, bytes, reload_ms, age_when_used, ..PLAIN }
    }

    #[test]
    fn frequent_slow_and_small_ones_stay() {
        let plain = rank(&facts(2, 1_000_000_000, 2_000, 0.0));
        assert!(rank(&facts(3, 1_000_000_000, 2_000, 0.0)) > plain);
        assert!(rank(&facts(2, 1_000_000_000, 3_000, 0.0)) > plain);
        assert!(rank(&facts(2, 2_000_000_000, 2_000, 0.0)) < plain);
        assert!((plain - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_usage_rate_decays() {
        let once_much_used = rank(&facts(100, 1_000_000_000, 1_000, 0.0));
        let recent = rank(&facts(1, 1_000_000_000, 1_000, 150.0));
        assert!(recent > once_much_used);
    }
}
