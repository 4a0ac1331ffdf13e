//! Old and rarely used: 0.7 of the age less 0.3 of the frequency, each as a share of the highest among those compared.

use super::EvictionCandidate;

const AGE: f64 = 0.7;
const FREQUENCY: f64 = 0.3;

pub(super) fn ranks(facts: &[EvictionCandidate]) -> Vec<f64> {
    let oldest = facts.iter().map(|facts| facts.idle_ms as f64).fold(0.0, f64::max);
    let most_used = facts.iter().map(|facts| facts.frequency).fold(0.0, f64::max);
    let rank = |facts: &EvictionCandidate| {
        FREQUENCY * share(facts.frequency, most_used) - AGE * share(facts.idle_ms as f64, oldest)
    };
    facts.iter().map(rank).collect()
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::tests::PLAIN;
    use super::*;

    fn of(idle_ms: u64, frequency: f64) -> EvictionCandidate {
        EvictionCandidate { idle_ms, frequency, ..PLAIN }
    }

    #[test]
    fn age_counts_for_more_than_frequency() {
        let ranks = ranks(&[of(100, 10.0), of(50, 1.0), of(0, 5.0)]);
        let expected = [0.3 - 0.7, 0.03 - 0.35, 0.15];
        for (rank, expected) in ranks.iter().zip(expected) {
            assert!((rank - expected).abs() < 1e-9, "{ranks:?}");
        }
    }

    #[test]
    fn frequency_decides_between_the_equally_old() {
        let ranks = ranks(&[of(100, 10.0), of(100, 2.0)]);
        assert!(ranks[1] < ranks[0]);
    }

    #[test]
    fn unused_ones_without_age_are_alike() {
        assert_eq!(ranks(&[of(0, 0.0), of(0, 0.0)]), [0.0, 0.0]);
    }
}
