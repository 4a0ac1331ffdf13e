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
                if is_measured(ms) && bytes > 0 {
                    push(&mut self.fetched_bytes_per_s, bytes as f64 / ms * 1e3);
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

fn is_measured(ms: f64) -> bool {
    ms.is_finite() && ms > 0.0
}

fn push(samples: &mut Vec<f64>, value: f64) {
    if samples.len() == SAMPLES {
        samples.remove(0);
    }
    samples.push(value);
}
