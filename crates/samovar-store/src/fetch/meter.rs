//! How one fetch gets on, told to all that watch it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::fetch::progress::{Progress, Transfer, Watch};

/// How often watchers are told, at most.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// The time over which the rate is averaged.
const RATE_OVER_S: f64 = 3.0;

/// Counts the bytes of one fetch and tells its watchers.
#[derive(Default)]
pub(crate) struct Meter {
    watches: Mutex<Watches>,
    state: Mutex<State>,
}

#[derive(Default)]
struct Watches {
    next: u64,
    list: Vec<(u64, Watch)>,
}

#[derive(Default)]
struct State {
    now: Option<Progress>,
    transfer: Transfer,
    /// Bytes of the files that are settled.
    settled: u64,
    fetched: u64,
    /// Time in which those came, without the waits for others and the checks between files.
    fetching: Duration,
    last: Option<Instant>,
    /// Time between the last two things that happened.
    gap: Duration,
    told: Option<Instant>,
    rate: Rate,
}

/// A moving average of bytes a second.
#[derive(Default)]
struct Rate {
    since: Option<Instant>,
    bytes: u64,
    bytes_per_s: f64,
}

/// A watcher that is told, until dropped.
pub(crate) struct Watching {
    meter: Arc<Meter>,
    id: u64,
}

impl Meter {
    /// Tells `watch` too from now on, and at once how it stands.
    pub(crate) fn attach(self: &Arc<Self>, watch: Watch) -> Watching {
        let now = lock(&self.state).now.clone();
        if let Some(now) = now {
            watch(now);
        }
        let mut watches = lock(&self.watches);
        watches.next += 1;
        let id = watches.next;
        watches.list.push((id, watch));
        Watching { meter: Arc::clone(self), id }
    }

    /// How it stands; `None` before anything was told.
    pub(crate) fn now(&self) -> Option<Progress> {
        lock(&self.state).now.clone()
    }

    /// The source is being asked.
    pub(crate) fn resolving(&self) {
        self.tell(true, |_| Progress::Resolving);
    }

    /// The source does not answer, for this reason.
    pub(crate) fn unanswered(&self, reason: &str) {
        self.tell(true, |_| Progress::Unanswered { reason: reason.to_owned() });
    }

    /// So many files with so many bytes are to come.
    pub(crate) fn begin(&self, files: u32, total_bytes: u64) {
        self.tell(true, |state| {
            state.transfer = Transfer { total_bytes, files, ..Transfer::default() };
            Progress::Fetching(state.transfer)
        });
    }

    /// A file is here, with all of its bytes.
    pub(crate) fn settled(&self, bytes: u64) {
        self.tell(true, |state| {
            state.settled += bytes;
            state.transfer.done_bytes = state.settled;
            state.transfer.total_bytes = state.transfer.total_bytes.max(state.settled);
            state.transfer.by_another_process = false;
            Progress::Fetching(state.transfer)
        });
    }

    /// This process fetches the current file, of which so many bytes are there.
    pub(crate) fn fetching(&self, done: u64) {
        self.tell(true, |state| {
            state.transfer.by_another_process = false;
            state.transfer.done_bytes = state.settled + done;
            Progress::Fetching(state.transfer)
        });
    }

    /// Bytes came in; `done` says how many of the current file are there, and is asked when a watcher is told.
    pub(crate) fn arrived(&self, bytes: u64, done: impl Fn() -> u64) {
        self.tell(false, |state| {
            state.fetched += bytes;
            state.fetching += state.gap;
            state.count(bytes, false, &done);
            Progress::Fetching(state.transfer)
        });
    }

    /// Another process has so many bytes of the current file.
    pub(crate) fn of_another(&self, done: u64) {
        self.tell(false, |state| {
            let before = state.transfer.done_bytes.saturating_sub(state.settled);
            state.count(done.saturating_sub(before), true, &|| done);
            Progress::Fetching(state.transfer)
        });
    }

    /// The current file is whole and is being checked.
    pub(crate) fn verifying(&self) {
        self.tell(true, |state| Progress::Verifying(state.transfer));
    }

    /// Bytes that this process fetched.
    pub(crate) fn fetched_bytes(&self) -> u64 {
        lock(&self.state).fetched
    }

    /// Milliseconds in which those came.
    pub(crate) fn fetching_ms(&self) -> f64 {
        lock(&self.state).fetching.as_secs_f64() * 1e3
    }

    fn tell(&self, is_news: bool, step: impl FnOnce(&mut State) -> Progress) {
        let mut state = lock(&self.state);
        let now = Instant::now();
        state.gap = state.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        let progress = step(&mut state);
        let is_due = is_news || state.told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        state.now = Some(progress.clone());
        if !is_due {
            return;
        }
        state.told = Some(Instant::now());
        drop(state);
        let watches: Vec<Watch> =
            lock(&self.watches).list.iter().map(|(_, watch)| Arc::clone(watch)).collect();
        for watch in watches {
            watch(progress.clone());
        }
    }
}

impl State {
    fn count(&mut self, bytes: u64, is_another: bool, done: &dyn Fn() -> u64) {
        self.rate.add(bytes);
        self.transfer.bytes_per_s = self.rate.bytes_per_s;
        self.transfer.by_another_process = is_another;
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.transfer.done_bytes = self.settled + done();
            self.transfer.total_bytes = self.transfer.total_bytes.max(self.transfer.done_bytes);
        }
    }
}

impl Rate {
    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        let Some(since) = self.since else {
            self.since = Some(Instant::now());
            return;
        };
        let seconds = since.elapsed().as_secs_f64();
        if seconds < TELL_EVERY.as_secs_f64() {
            return;
        }
        let latest = self.bytes as f64 / seconds;
        let weight = if self.bytes_per_s > 0.0 { (-seconds / RATE_OVER_S).exp() } else { 0.0 };
        self.bytes_per_s = self.bytes_per_s * weight + latest * (1.0 - weight);
        self.since = Some(Instant::now());
        self.bytes = 0;
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        lock(&self.meter.watches).list.retain(|(id, _)| *id != self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> (Watch, Arc<Mutex<Vec<Progress>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        (Arc::new(move |progress| sink.lock().unwrap().push(progress)), seen)
    }

    #[test]
    fn late_watchers_learn_at_once_how_it_stands_and_the_gone_learn_nothing() {
        let meter = Arc::new(Meter::default());
        let (first, seen) = watch();
        let watching = meter.attach(first);
        meter.begin(2, 10);
        drop(watching);
        meter.settled(4);
        assert_eq!(seen.lock().unwrap().len(), 1);
        let (late, seen) = watch();
        let _watching = meter.attach(late);
        let Progress::Fetching(transfer) = seen.lock().unwrap()[0].clone() else { panic!("not fetching") };
        assert_eq!((transfer.done_bytes, transfer.total_bytes, transfer.files), (4, 10, 2));
    }

    #[test]
    fn bytes_are_told_a_few_times_a_second_and_counted_always() {
        let meter = Arc::new(Meter::default());
        let (sink, seen) = watch();
        let _watching = meter.attach(sink);
        meter.begin(1, 1_000);
        for done in 0..1_000 {
            meter.arrived(1, || done);
        }
        assert_eq!(meter.fetched_bytes(), 1_000);
        assert!(meter.fetching_ms() > 0.0);
        assert!(seen.lock().unwrap().len() < 20);
    }
}
