//! Time as the store saw it, so that a clock that jumps, or a long absence, does not make everything old at once.
//!
//! ```text
//!   wall clock   ──x──x───x──────────── jump or absence ───────────x──x──►   x = a process looked after the store
//!   store's time ──x──x───x────┤ counts as at most a week ├────────x──x──►
//! ```
//!
//! A stretch without a look counts as [`LONGEST_GAP_MS`] at most, or a quarter of the age limit if that
//! is less. Nothing ages from before the uptime history began, so that an index that is built again makes nothing old.

use serde::{Deserialize, Serialize};

const DAY_MS: u64 = 24 * 3_600_000;
/// What a stretch without a look counts at most.
const LONGEST_GAP_MS: u64 = 7 * DAY_MS;
/// Gaps that are remembered; with more the oldest are forgotten, and count in full.
const GAPS: usize = 64;

/// When the store was looked after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UptimeHistory {
    began_ms: u64,
    seen_ms: u64,
    gaps: Vec<Gap>,
}

/// A stretch of the wall clock that counts as less than it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Gap {
    from_ms: u64,
    to_ms: u64,
}

impl UptimeHistory {
    /// One that begins now.
    pub(crate) fn begin(now_ms: u64) -> Self {
        Self { began_ms: now_ms, seen_ms: now_ms, gaps: Vec::new() }
    }

    /// A process looks after the store at this moment.
    pub(crate) fn observe(&mut self, now_ms: u64, max_age_ms: Option<u64>) {
        let counts_ms = LONGEST_GAP_MS.min(max_age_ms.unwrap_or(u64::MAX) / 4);
        if now_ms < self.seen_ms {
            // The clock was put back: what lay ahead of it never happened.
            self.began_ms = self.began_ms.min(now_ms);
            self.gaps.retain(|gap| gap.from_ms < now_ms);
            self.gaps.iter_mut().for_each(|gap| gap.to_ms = gap.to_ms.min(now_ms));
        } else if now_ms - self.seen_ms > counts_ms {
            self.gaps.push(Gap { from_ms: self.seen_ms + counts_ms, to_ms: now_ms });
            let surplus = self.gaps.len().saturating_sub(GAPS);
            self.gaps.drain(..surplus);
        }
        self.seen_ms = now_ms;
    }

    /// How long ago `at_ms` is, in time that the store saw. What lies in the future is now.
    pub(crate) fn age_ms(&self, at_ms: u64) -> u64 {
        let from_ms = at_ms.max(self.began_ms);
        let skipped: u64 =
            self.gaps.iter().map(|gap| gap.to_ms.saturating_sub(gap.from_ms.max(from_ms))).sum();
        self.seen_ms.saturating_sub(from_ms).saturating_sub(skipped)
    }

    /// Whether it changed enough since `earlier` that it is worth writing.
    pub(crate) fn is_news_to(&self, earlier: &Self) -> bool {
        self.gaps != earlier.gaps || self.seen_ms.abs_diff(earlier.seen_ms) > DAY_MS / 24
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MONTH_MS: Option<u64> = Some(30 * DAY_MS);
    const START_MS: u64 = 20_000 * DAY_MS;

    #[test]
    fn without_gaps_it_is_the_wall_clock() {
        let mut uptime_history = UptimeHistory::begin(START_MS);
        (1..=40).for_each(|day| uptime_history.observe(START_MS + day * DAY_MS, MONTH_MS));
        assert_eq!(uptime_history.age_ms(START_MS), 40 * DAY_MS);
        assert_eq!(uptime_history.age_ms(START_MS + 39 * DAY_MS), DAY_MS);
    }

    #[test]
    fn ten_years_in_a_moment_are_a_week() {
        let mut uptime_history = UptimeHistory::begin(START_MS);
        uptime_history.observe(START_MS + DAY_MS, MONTH_MS);
        let then = START_MS + 3_650 * DAY_MS;
        uptime_history.observe(then, MONTH_MS);
        assert_eq!(uptime_history.age_ms(START_MS), 8 * DAY_MS);
        uptime_history.observe(then + DAY_MS, MONTH_MS);
        assert_eq!(uptime_history.age_ms(START_MS), 9 * DAY_MS);
        assert_eq!(uptime_history.age_ms(then), DAY_MS, "what was used since ages as ever");
    }

    #[test]
    fn a_short_age_limit_makes_gaps_short() {
        let mut uptime_history = UptimeHistory::begin(START_MS);
        uptime_history.observe(START_MS + 100 * DAY_MS, Some(DAY_MS));
        assert_eq!(uptime_history.age_ms(START_MS), DAY_MS / 4);
    }

    #[test]
    fn the_future_is_now_and_a_clock_put_back_is_believed() {
        let mut uptime_history = UptimeHistory::begin(START_MS);
        assert_eq!(uptime_history.age_ms(START_MS + DAY_MS), 0);
        uptime_history.observe(START_MS + 3_650 * DAY_MS, MONTH_MS);
        uptime_history.observe(START_MS + DAY_MS, MONTH_MS);
        assert_eq!(uptime_history.age_ms(START_MS), DAY_MS);
        uptime_history.observe(START_MS + 2 * DAY_MS, MONTH_MS);
        assert_eq!(uptime_history.age_ms(START_MS), 2 * DAY_MS);
    }

    #[test]
    fn nothing_is_older_than_the_uptime_history() {
        let mut uptime_history = UptimeHistory::begin(START_MS);
        uptime_history.observe(START_MS + DAY_MS, MONTH_MS);
        assert_eq!(uptime_history.age_ms(0), DAY_MS);
    }

    proptest! {
        #[test]
        fn no_single_step_of_the_clock_ages_anything_by_more_than_a_gap(
            steps in prop::collection::vec(0_u64..4_000, 1..200), at in 0_u64..100,
        ) {
            let mut uptime_history = UptimeHistory::begin(START_MS);
            let (mut now, at) = (START_MS, START_MS + at * DAY_MS);
            for days in steps.into_iter().take(GAPS) {
                let before = uptime_history.age_ms(at);
                now += days * DAY_MS;
                uptime_history.observe(now, MONTH_MS);
                prop_assert!(uptime_history.age_ms(at) <= before + LONGEST_GAP_MS);
            }
        }
    }
}
