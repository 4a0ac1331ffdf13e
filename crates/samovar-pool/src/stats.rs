//! Counting: what happened how often, and how long it took.

use std::collections::BTreeMap;

/// Times remembered for percentiles.
const REMEMBERED: usize = 256;

/// Times in milliseconds: the mean of all, percentiles of the last 256.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    recent: Vec<u64>,
    next: usize,
    count: u64,
    sum_ms: u64,
}

impl Times {
    pub(crate) fn add(&mut self, ms: u64) {
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
        if self.recent.len() < REMEMBERED {
            self.recent.push(ms);
        } else {
            self.recent[self.next] = ms;
            self.next = (self.next + 1) % REMEMBERED;
        }
    }

    /// The mean of all times, 0 when there are none.
    pub(crate) fn mean_ms(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_ms as f64 / self.count as f64 }
    }

    /// What to expect the next time, in whole milliseconds: the mean of all times and of `before`, the
    /// experience of earlier lives, which counts as one time more.
    pub(crate) fn expected_ms(&self, before: Option<u64>) -> Option<u64> {
        let sum_ms = self.sum_ms.saturating_add(before.unwrap_or(0));
        sum_ms.checked_div(self.count + u64::from(before.is_some()))
    }

    /// Percentiles of the recent times by nearest rank, 0 when there are none.
    pub(crate) fn percentiles_ms<const N: usize>(&self, percents: [u32; N]) -> [f64; N] {
        let mut sorted = self.recent.clone();
        sorted.sort_unstable();
        percents.map(|percent| {
            let rank = (sorted.len() * percent as usize).div_ceil(100).max(1) - 1;
            sorted.get(rank).map_or(0.0, |ms| *ms as f64)
        })
    }
}

/// A moving average that forgets: each new time counts for a fifth.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MovingMean {
    ms: Option<f64>,
}

impl MovingMean {
    pub(crate) fn add(&mut self, ms: u64) {
        let new = ms as f64;
        self.ms = Some(self.ms.map_or(new, |old| old + (new - old) / 5.0));
    }

    pub(crate) fn ms(self) -> Option<f64> {
        self.ms
    }
}

/// What happened to one model, or to all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) coalesced: u64,
    pub(crate) refused: u64,
    pub(crate) cancelled: u64,
    pub(crate) loads: u64,
    pub(crate) load_failures: u64,
    pub(crate) parked: u64,
    pub(crate) resumed: u64,
    pub(crate) grown: u64,
    pub(crate) died: u64,
    pub(crate) evictions: BTreeMap<&'static str, u64>,
    pub(crate) load_times: Times,
    pub(crate) queue_times: Times,
}

impl Tally {
    pub(crate) fn evicted(&self) -> u64 {
        self.evictions.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_recent_times_and_the_mean_is_of_all() {
        let mut times = Times::default();
        let percentiles =
            |times: &Times, percents: [u32; 3]| times.percentiles_ms(percents).map(|ms| ms as u64);
        assert_eq!(percentiles(&times, [50, 99, 100]), [0, 0, 0]);
        (1..=100).for_each(|ms| times.add(ms));
        assert_eq!(percentiles(&times, [50, 99, 100]), [50, 99, 100]);
        (0..REMEMBERED).for_each(|_| times.add(7));
        assert_eq!(percentiles(&times, [1, 50, 99]), [7, 7, 7]);
        assert_eq!(times.expected_ms(None), Some((5050 + 7 * REMEMBERED as u64) / (100 + REMEMBERED as u64)));
    }

    #[test]
    fn a_moving_mean_follows() {
        let mut mean = MovingMean::default();
        assert_eq!(mean.ms(), None);
        mean.add(100);
        mean.add(0);
        assert_eq!(mean.ms(), Some(80.0));
    }
}
