//! How uses add up to figures: pure arithmetic that a wrong clock cannot harm.
//!
//! ```text
//!   rate      r ← r · e^(−Δt/τ) + n/τ      n uses, Δt days after the last ones, τ = 7 days
//!   averages  a ← a + α · (x − a)           α = 0.3; the first measurement counts in full
//! ```
//!
//! With λ uses a day for long, `rate` comes to λ; a week without any takes it to 37 %.

use samovar_core::footprint::Footprint;

use crate::artifact::Usage;

/// Days in which an unused artifact's rate falls to 37 %.
const RATE_DAYS: f64 = 7.0;
/// How much a new measurement counts in an average.
const ALPHA: f64 = 0.3;
/// Measurements of one kind that wait for being written; of more, the oldest are left out.
const SAMPLES: usize = 64;
/// No clock that is right says less: 2024-01-01.
const EARLIEST_MS: u64 = 1_704_067_200_000;
const DAY_MS: f64 = 86_400_000.0;

/// One use of an artifact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Use {
    /// It was there when it was asked for.
    Hit,
    /// It was asked for and had to be fetched.
    Miss,
    /// It was loaded: how long that took, and what the load holds and maps.
    Load {
        /// Milliseconds.
        ms: f64,
        /// As measured.
        footprint: Footprint,
    },
    /// Bytes of it were fetched.
    Fetched {
        /// Bytes that came over the wire.
        bytes: u64,
        /// Milliseconds that it took.
        ms: f64,
    },
}

/// Uses of one artifact that are not written yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    hits: u64,
    misses: u64,
    last_ms: u64,
    load_ms: Vec<f64>,
    loads: u64,
    footprint: Option<Footprint>,
    fetched_bytes_per_s: Vec<f64>,
}

impl Tally {
    /// Adds a use at this time.
    pub(super) fn add(&mut self, use_: Use, now_ms: u64) {
        self.last_ms = now_ms;
        match use_ {
            Use::Hit => self.hits += 1,
            Use::Miss => self.misses += 1,
            Use::Load { ms, footprint } => {
                if is_measured(ms) {
                    self.loads += 1;
                    push(&mut self.load_ms, ms);
                }
                self.footprint = Some(footprint);
            }
            Use::Fetched { bytes, ms } => {
                let rate = bytes as f64 / ms * 1e3;
                if is_measured(ms) && is_measured(rate) {
                    push(&mut self.fetched_bytes_per_s, rate);
                }
            }
        }
    }

    /// Adds what came later.
    pub(super) fn append(&mut self, later: Self) {
        self.hits += later.hits;
        self.misses += later.misses;
        self.last_ms = later.last_ms;
        self.loads += later.loads;
        later.load_ms.into_iter().for_each(|ms| push(&mut self.load_ms, ms));
        self.footprint = later.footprint.or(self.footprint);
        later.fetched_bytes_per_s.into_iter().for_each(|rate| push(&mut self.fetched_bytes_per_s, rate));
    }

    /// The figures after these uses.
    pub(super) fn apply(&self, before: Usage) -> Usage {
        let uses = self.hits.saturating_add(self.misses);
        let moment = at(self.last_ms, before.last_ms);
        Usage {
            hits: before.hits.saturating_add(self.hits),
            misses: before.misses.saturating_add(self.misses),
            last_ms: moment,
            rate: decayed(before.rate, before.last_ms, moment) + uses as f64 / RATE_DAYS,
            loads: before.loads.saturating_add(self.loads),
            load_ms: self.load_ms.iter().fold(before.load_ms, |average, ms| averaged(average, *ms)),
            footprint: self.footprint.unwrap_or(before.footprint),
            fetch_bytes_per_s: self
                .fetched_bytes_per_s
                .iter()
                .fold(before.fetch_bytes_per_s, |average, rate| averaged(average, *rate)),
        }
    }
}

/// The figures as they stand at this moment: the rate has gone on falling, and a last use that a wrong
/// clock put into the future counts as now.
pub(super) fn as_of(usage: Usage, now_ms: u64) -> Usage {
    let moment = at(now_ms, usage.last_ms);
    Usage { rate: decayed(usage.rate, usage.last_ms, moment), last_ms: usage.last_ms.min(moment), ..usage }
}

/// What a clock that says `now_ms` is taken for, after `last_ms` was believed before: a clock that was not
/// set yet is taken for standing still; one that went back is believed.
fn at(now_ms: u64, last_ms: u64) -> u64 {
    if now_ms < EARLIEST_MS { last_ms.max(now_ms) } else { now_ms }
}

fn decayed(rate: f64, from_ms: u64, to_ms: u64) -> f64 {
    rate * (-(to_ms.saturating_sub(from_ms) as f64) / DAY_MS / RATE_DAYS).exp()
}

fn averaged(average: f64, value: f64) -> f64 {
    if average > 0.0 { average + ALPHA * (value - average) } else { value }
}

fn is_measured(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn push(samples: &mut Vec<f64>, value: f64) {
    if samples.len() == SAMPLES {
        samples.remove(0);
    }
    samples.push(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_750_000_000_000;
    const DAY: u64 = 86_400_000;
    const YEAR_2100: u64 = 4_102_444_800_000;

    fn used(before: Usage, use_: Use, now_ms: u64) -> Usage {
        let mut tally = Tally::default();
        tally.add(use_, now_ms);
        tally.apply(before)
    }

    fn load(ms: f64) -> Use {
        Use::Load { ms, footprint: Footprint { held_bytes: 1, mapped_bytes: 2 } }
    }

    #[test]
    fn the_rate_comes_to_the_uses_a_day() {
        let hourly =
            (0..24 * 60).fold(Usage::default(), |usage, hour| used(usage, Use::Hit, NOW + hour * DAY / 24));
        assert!((23.0..25.0).contains(&hourly.rate), "{}", hourly.rate);
        let a_week_later = as_of(hourly, hourly.last_ms + 7 * DAY);
        assert!((a_week_later.rate / hourly.rate - (-1.0_f64).exp()).abs() < 1e-9);
        assert_eq!(a_week_later.last_ms, hourly.last_ms);
    }

    #[test]
    fn the_first_measurement_counts_in_full_and_later_ones_by_three_tenths() {
        let usage = used(used(Usage::default(), load(100.0), NOW), load(200.0), NOW);
        assert_eq!((usage.loads, usage.load_ms), (2, 130.0));
        let fetched = Use::Fetched { bytes: 1 << 20, ms: 500.0 };
        let bytes_per_s = used(usage, fetched, NOW).fetch_bytes_per_s;
        assert!((bytes_per_s - f64::from(1 << 21)).abs() < 1e-6, "{bytes_per_s}");
    }

    #[test]
    fn measurements_that_are_none_change_no_average() {
        let before = used(Usage::default(), load(100.0), NOW);
        for ms in [f64::NAN, f64::INFINITY, 0.0, -3.0] {
            let after = used(used(before, load(ms), NOW), Use::Fetched { bytes: 9, ms }, NOW);
            assert_eq!((after.loads, after.load_ms, after.fetch_bytes_per_s), (1, 100.0, 0.0), "{ms}");
        }
    }

    #[test]
    fn a_clock_that_went_back_is_believed_and_costs_nothing() {
        let before = used(Usage::default(), Use::Hit, NOW);
        let after = used(before, Use::Hit, NOW - 3 * DAY);
        assert_eq!(after.last_ms, NOW - 3 * DAY);
        assert!((after.rate - 2.0 * before.rate).abs() < 1e-12);
    }

    #[test]
    fn a_clock_that_was_never_set_is_taken_for_standing_still() {
        let before = used(Usage::default(), Use::Hit, NOW);
        let after = used(before, Use::Hit, 5_000);
        assert_eq!(after.last_ms, NOW);
        assert_eq!(as_of(after, 9_000), after);
    }

    #[test]
    fn a_visit_to_the_year_2100_is_forgotten_with_the_next_use() {
        let mut usage = used(Usage::default(), Use::Hit, NOW);
        usage = used(usage, Use::Hit, YEAR_2100);
        assert_eq!(as_of(usage, NOW + DAY).last_ms, NOW + DAY, "nothing was last used in the future");
        usage = used(usage, Use::Hit, NOW + DAY);
        assert_eq!(usage.last_ms, NOW + DAY);
        assert!(as_of(usage, NOW + 8 * DAY).rate < usage.rate, "it falls again");
    }

    fn any_use() -> impl Strategy<Value = Use> {
        prop_oneof![
            Just(Use::Hit),
            Just(Use::Miss),
            any::<f64>().prop_map(load),
            (any::<u64>(), any::<f64>()).prop_map(|(bytes, ms)| Use::Fetched { bytes, ms }),
        ]
    }

    proptest! {
        #[test]
        fn whatever_the_clock_says_the_figures_stay_figures(
            uses in prop::collection::vec((any_use(), any::<u64>()), 0..40),
            then in any::<u64>(),
        ) {
            let usage = uses.iter().fold(Usage::default(), |usage, (use_, at)| used(usage, *use_, *at));
            for usage in [usage, as_of(usage, then)] {
                for figure in [usage.rate, usage.load_ms, usage.fetch_bytes_per_s] {
                    prop_assert!(figure.is_finite() && figure >= 0.0, "{figure}");
                }
                prop_assert!(usage.rate <= uses.len() as f64 / RATE_DAYS);
            }
        }

        #[test]
        fn two_tallies_written_together_are_as_one_after_the_other(
            first in prop::collection::vec(any_use(), 0..20),
            later in prop::collection::vec(any_use(), 1..20),
        ) {
            let tally = |uses: &[Use]| uses.iter().fold(Tally::default(), |mut tally, use_| {
                tally.add(*use_, NOW);
                tally
            });
            let mut together = tally(&first);
            together.append(tally(&later));
            let mut all = first.clone();
            all.extend(&later);
            prop_assert_eq!(&together, &tally(&all));
        }
    }
}
