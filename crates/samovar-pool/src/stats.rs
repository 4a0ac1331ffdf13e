//! Counting: what happened how often, and how long it took, in one life of a pool or in several.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use samovar_core::ModelKey;
use samovar_core::port::Millis;
use serde::{Deserialize, Serialize};

/// Times remembered for percentiles.
const REMEMBERED: usize = 256;
/// Of those, the latest ones that say what to expect: what was measured on a busy machine does not count for ever.
const EXPECTED_OF: usize = 8;

/// Times in milliseconds: the mean of all, percentiles of the last 256.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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

    /// Takes in the times that came before.
    fn follow(&mut self, earlier: &Self) {
        let mut recent: Vec<u64> = earlier.in_order().chain(self.in_order()).collect();
        recent.drain(..recent.len().saturating_sub(REMEMBERED));
        *self = Self {
            recent,
            next: 0,
            count: self.count.saturating_add(earlier.count),
            sum_ms: self.sum_ms.saturating_add(earlier.sum_ms),
        };
    }

    /// The recent times, the oldest first.
    fn in_order(&self) -> impl Iterator<Item = u64> {
        let (newer, older) = self.recent.split_at(self.next.min(self.recent.len()));
        older.iter().chain(newer).copied()
    }

    /// Remembers no more than so many recent times.
    fn shorten(&mut self, most: usize) {
        let mut recent: Vec<u64> = self.in_order().collect();
        recent.drain(..recent.len().saturating_sub(most));
        (self.recent, self.next) = (recent, 0);
    }

    /// The mean of all times, 0 when there are none.
    pub(crate) fn mean_ms(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_ms as f64 / self.count as f64 }
    }

    /// What to expect the next time, in whole milliseconds: the mean of the last eight times. While there are fewer,
    /// `before`, the experience of earlier lives, counts as one time more.
    pub(crate) fn expected_ms(&self, before: Option<u64>) -> Option<u64> {
        let latest = self.in_order().skip(self.recent.len().saturating_sub(EXPECTED_OF));
        let before = before.filter(|_| self.recent.len() < EXPECTED_OF);
        let add = |(count, sum_ms): (u64, u64), ms| (count + 1, sum_ms.saturating_add(ms));
        let (count, sum_ms) = latest.chain(before).fold((0, 0), add);
        sum_ms.checked_div(count)
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

/// A moving average that forgets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MovingMean {
    /// The mean, and when the last span was added to it.
    last: Option<(f64, Millis)>,
}

impl MovingMean {
    /// A new span counts for a fifth of the mean, and for more after a while without one: for half after a minute. So what
    /// was measured while the machine was busy is soon of no consequence.
    pub(crate) fn add(&mut self, ms: u64, now: Millis) {
        const MINUTE_MS: f64 = 60_000.0;
        let new = ms as f64;
        let mean = self.last.map_or(new, |(old, at)| {
            let age_ms = now.since(at) as f64;
            old + (new - old) * (age_ms / (age_ms + MINUTE_MS)).max(0.2)
        });
        self.last = Some((mean, now));
    }

    pub(crate) fn ms(self) -> Option<f64> {
        self.last.map(|(ms, _)| ms)
    }
}

/// What happened to one model, or to all, and how long it took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
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
    pub(crate) evictions: BTreeMap<Cow<'static, str>, u64>,
    pub(crate) load_times: Times,
    pub(crate) queue_times: Times,
}

impl Tally {
    pub(crate) fn evicted(&self) -> u64 {
        self.evictions.values().sum()
    }

    /// Takes in what was counted before.
    fn follow(&mut self, earlier: &Self) {
        let pairs = [
            (&mut self.requests, earlier.requests),
            (&mut self.hits, earlier.hits),
            (&mut self.misses, earlier.misses),
            (&mut self.coalesced, earlier.coalesced),
            (&mut self.refused, earlier.refused),
            (&mut self.cancelled, earlier.cancelled),
            (&mut self.loads, earlier.loads),
            (&mut self.load_failures, earlier.load_failures),
            (&mut self.parked, earlier.parked),
            (&mut self.resumed, earlier.resumed),
            (&mut self.grown, earlier.grown),
            (&mut self.died, earlier.died),
        ];
        for (now, before) in pairs {
            *now = now.saturating_add(before);
        }
        for (reason, before) in &earlier.evictions {
            let now = self.evictions.entry(reason.clone()).or_default();
            *now = now.saturating_add(*before);
        }
        self.load_times.follow(&earlier.load_times);
        self.queue_times.follow(&earlier.queue_times);
    }

    fn shorten(&mut self, most: usize) {
        self.load_times.shorten(most);
        self.queue_times.shorten(most);
    }

    /// The same for people and programs.
    pub fn counters(&self) -> Counters {
        let [load_ms_p50, load_ms_p99] = self.load_times.percentiles_ms([50, 99]);
        let [queue_ms_p50, queue_ms_p99] = self.queue_times.percentiles_ms([50, 99]);
        Counters {
            requests: self.requests,
            hits: self.hits,
            misses: self.misses,
            coalesced: self.coalesced,
            refused: self.refused,
            cancelled: self.cancelled,
            loads: self.loads,
            load_failures: self.load_failures,
            evictions: self.evicted(),
            evictions_by_reason: self.evictions.clone(),
            parked: self.parked,
            resumed: self.resumed,
            grown: self.grown,
            died: self.died,
            load_ms_p50,
            load_ms_mean: self.load_times.mean_ms(),
            load_ms_p99,
            queue_ms_p50,
            queue_ms_mean: self.queue_times.mean_ms(),
            queue_ms_p99,
        }
    }
}

/// What happened how often, and how long it took, in milliseconds. Percentiles are of the last 256 times at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counters {
    /// Requests for a slot.
    pub requests: u64,
    /// Requests granted on an instance that was ready or parked when they came.
    pub hits: u64,
    /// Requests granted on an instance that was loaded for them.
    pub misses: u64,
    /// Requests granted on an instance that was already being loaded when they came.
    pub coalesced: u64,
    /// Requests refused.
    pub refused: u64,
    /// Requests whose caller went away before the grant.
    pub cancelled: u64,
    /// Loads finished well.
    pub loads: u64,
    /// Loads that failed.
    pub load_failures: u64,
    /// Instances unloaded by the pool's own decision.
    pub evictions: u64,
    /// The same by reason.
    pub evictions_by_reason: BTreeMap<Cow<'static, str>, u64>,
    /// Instances parked.
    pub parked: u64,
    /// Instances resumed.
    pub resumed: u64,
    /// Instances that came back with more context or slots than they had.
    pub grown: u64,
    /// Instances that died.
    pub died: u64,
    /// Median time of a load.
    pub load_ms_p50: f64,
    /// Mean time of a load.
    pub load_ms_mean: f64,
    /// 99th percentile of the time of a load.
    pub load_ms_p99: f64,
    /// Median wait for a slot; loads are not part of it.
    pub queue_ms_p50: f64,
    /// Mean wait for a slot; loads are not part of it.
    pub queue_ms_mean: f64,
    /// 99th percentile of the wait for a slot; loads are not part of it.
    pub queue_ms_p99: f64,
}

/// What pools counted: one in its life, or several in theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// How long they lived together, in milliseconds.
    pub uptime_ms: u64,
    /// Of all models.
    pub total: Tally,
    /// Of each model, those that were asked for last first.
    pub models: Vec<ModelTally>,
}

/// What happened to one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelTally {
    /// Identity of its bytes.
    pub key: ModelKey,
    /// What people called it last.
    pub name: String,
    /// What happened to it.
    pub tally: Tally,
}

impl Statistics {
    /// These, and what was counted before them.
    #[must_use]
    pub fn after(mut self, earlier: &Self) -> Self {
        self.uptime_ms = self.uptime_ms.saturating_add(earlier.uptime_ms);
        self.total.follow(&earlier.total);
        let known: BTreeSet<ModelKey> = self.models.iter().map(|model| model.key.clone()).collect();
        for model in &mut self.models {
            let before = earlier.models.iter().find(|before| before.key == model.key);
            if let Some(before) = before {
                model.tally.follow(&before.tally);
            }
        }
        let others = earlier.models.iter().filter(|model| !known.contains(&model.key));
        self.models.extend(others.cloned());
        self
    }

    /// The same with so many models at most, and so many times of each for percentiles: the rest is in the
    /// total and in the means.
    #[must_use]
    pub fn shortened(mut self, models: usize, times: usize) -> Self {
        self.models.truncate(models);
        for model in &mut self.models {
            model.tally.shorten(times);
        }
        self
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
    }

    #[test]
    fn the_latest_times_say_what_to_expect() {
        let mut times = Times::default();
        assert_eq!((times.expected_ms(None), times.expected_ms(Some(30))), (None, Some(30)));
        times.add(60_000);
        assert_eq!(times.expected_ms(Some(0)), Some(30_000));
        (0..EXPECTED_OF).for_each(|_| times.add(10));
        assert_eq!(times.expected_ms(Some(30)), Some(10), "one load on a busy machine");
        (0..REMEMBERED).for_each(|_| times.add(20));
        assert_eq!(times.expected_ms(None), Some(20));
    }

    #[test]
    fn a_moving_mean_follows() {
        let mut mean = MovingMean::default();
        assert_eq!(mean.ms(), None);
        mean.add(100, Millis(0));
        mean.add(0, Millis(10));
        assert_eq!(mean.ms(), Some(80.0));
        mean.add(20, Millis(60_010));
        assert_eq!(mean.ms(), Some(50.0), "what is a minute old counts for half");
    }

    fn counted(loads_ms: &[u64], evicted: u64) -> Tally {
        let mut tally = Tally { loads: loads_ms.len() as u64, ..Tally::default() };
        for ms in loads_ms {
            tally.load_times.add(*ms);
        }
        tally.evictions.insert(Cow::Borrowed("expired"), evicted);
        tally
    }

    fn model(name: &str, tally: Tally) -> ModelTally {
        ModelTally { key: ModelKey::new(name), name: name.to_owned(), tally }
    }

    #[test]
    fn lives_add_up_and_the_latest_models_come_first() {
        let earlier = Statistics {
            uptime_ms: 5,
            total: counted(&[1, 2, 3], 4),
            models: vec![model("a", counted(&[1, 2], 4)), model("b", counted(&[3], 0))],
        };
        let now = Statistics {
            uptime_ms: 7,
            total: counted(&[10, 20], 1),
            models: vec![model("c", counted(&[10], 0)), model("a", counted(&[20], 1))],
        };
        let all = now.after(&earlier);
        let total = all.total.counters();
        assert_eq!((all.uptime_ms, total.loads, total.evictions), (12, 5, 5));
        assert!((total.load_ms_mean - 7.2).abs() < 1e-9 && (total.load_ms_p50 - 3.0).abs() < 1e-9);
        let names: Vec<&str> = all.models.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["c", "a", "b"]);
        assert_eq!(all.models[1].tally, counted(&[1, 2, 20], 5));
    }

    #[test]
    fn what_was_written_is_read_again_and_what_is_new_there_is_passed_over() {
        let statistics = Statistics {
            uptime_ms: 5,
            total: counted(&[1, 2, 3], 4),
            models: vec![model("a", counted(&[1, 2], 4))],
        };
        let json = serde_json::to_string(&statistics).expect("serializes");
        assert_eq!(serde_json::from_str::<Statistics>(&json).expect("reads"), statistics);
        let of_another_version = json.replace("\"uptime_ms\"", "\"brand_new\":1,\"uptime_ms\"");
        assert_eq!(serde_json::from_str::<Statistics>(&of_another_version).expect("reads"), statistics);
    }

    #[test]
    fn the_latest_times_survive_shortening_and_the_mean_is_of_all() {
        let mut times = Times::default();
        (0..300).for_each(|ms| times.add(ms));
        times.shorten(10);
        assert_eq!(times.in_order().collect::<Vec<_>>(), (290..300).collect::<Vec<_>>());
        assert!((times.mean_ms() - 149.5).abs() < 1e-9);
        times.add(1_000);
        assert_eq!(times.in_order().last(), Some(1_000));
    }
}
