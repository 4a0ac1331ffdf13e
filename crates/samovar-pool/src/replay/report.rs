//! What came of a replay.

use serde::Serialize;

/// What came of a replay. Times are virtual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Requests.
    pub requests: u64,
    /// Those that found their model ready.
    pub ready: u64,
    /// Those that found it parked.
    pub parked: u64,
    /// Those that joined a load under way.
    pub joined: u64,
    /// Those for which it was loaded.
    pub loaded: u64,
    /// Those that were turned down.
    pub refused: u64,
    /// Loads.
    pub loads: u64,
    /// Resumes of parked models.
    pub resumes: u64,
    /// Models that left memory for good by the pool's own decision.
    pub evictions: u64,
    /// What loads and resumes took together, in milliseconds.
    pub load_ms: u64,
    /// Median time from the request to its slot, in milliseconds; refused ones do not count.
    pub wait_ms_p50: u64,
    /// 99th percentile of the same.
    pub wait_ms_p99: u64,
}

impl Report {
    /// Fills in the percentiles.
    pub(super) fn waited(&mut self, mut waits_ms: Vec<u64>) {
        waits_ms.sort_unstable();
        let rank = |percent: usize| (waits_ms.len() * percent).div_ceil(100).max(1) - 1;
        let at = |percent| waits_ms.get(rank(percent)).copied().unwrap_or(0);
        (self.wait_ms_p50, self.wait_ms_p99) = (at(50), at(99));
    }

    /// Share of the requests that were served without loading anything, 0 to 1.
    pub fn hit_rate(&self) -> f64 {
        (self.ready + self.parked) as f64 / self.requests.max(1) as f64
    }
}
