//! Looks at the machine's memory as long as the pool has anything in it, or has set memory aside, and tells the owner when
//! it is short.
//!
//! ```text
//!   owner ── is anything in memory, or in use? ──► plan ── a second, or five ──► gauge: MemAvailable, groups, stalls
//!     ▲                                                                            └─ short? ─┐
//!     └───────────────────────────────── Event::Pressure ────────────────────────────────────┘
//! ```
//!
//! A thread of its own does this: the files take microseconds, except on a machine that is in trouble. While nothing is in
//! use and much memory is left, it looks less often. Who leaves is decided elsewhere. Where the system says nothing,
//! nothing is watched.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod unknown;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

#[cfg(target_os = "linux")]
use linux::System;
#[cfg(not(target_os = "linux"))]
use unknown::System;

use crate::config::MemoryFloor;
use crate::effects::EffectResult;
use crate::protocol::Event;

/// What the machine says of its memory at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    /// What could be had: by this machine, and within the limits of this process's groups.
    available_bytes: u64,
    /// Share of time in which some task waited for memory, in percent.
    stall_percent: f32,
}

/// Where readings come from.
trait Gauge: Send + 'static {
    /// `None` where the system does not say.
    fn read(&mut self) -> Option<Reading>;
}

/// While nothing is in use, a look is taken once in so many intervals.
const REST: u32 = 5;

/// How the owner wants the machine to be watched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct WatchPlan {
    /// Between two looks, in milliseconds; 0 rests.
    pub(crate) every_ms: u64,
    /// Whether memory may be taken at any moment: something is being loaded, in use or set aside.
    pub(crate) is_busy: bool,
    /// What the owner wants to hear of.
    pub(crate) floor: MemoryFloor,
}

impl WatchPlan {
    /// How long to wait for the next look.
    fn interval(&self, rests: bool) -> Duration {
        Duration::from_millis(self.every_ms) * if rests { REST } else { 1 }
    }
}

/// The thread that watches; it ends when this is dropped.
pub(crate) struct PressureWatch {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    plan: WatchPlan,
    /// Whether the wait under way is a long one.
    rests: bool,
    /// Whether the wait under way is too long for the plan.
    is_changed: bool,
    is_over: bool,
}

impl PressureWatch {
    /// Starts the thread, which rests until there is a plan.
    pub(crate) fn start(outcomes: mpsc::Sender<EffectResult>) -> Self {
        Self::start_with(System::default(), outcomes)
    }

    fn start_with(gauge: impl Gauge, outcomes: mpsc::Sender<EffectResult>) -> Self {
        let shared = Arc::<Shared>::default();
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("pressure".to_owned());
        if let Err(error) = thread.spawn(move || watched.watch(gauge, &outcomes)) {
            tracing::warn!("the machine's memory is not watched: no thread for it: {error}");
        }
        Self { shared }
    }

    /// From now on it watches like this.
    pub(crate) fn set(&self, plan: WatchPlan) {
        if self.shared.lock().set(plan) {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for PressureWatch {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_one();
    }
}

impl Inner {
    /// Whether the thread must hear of it now.
    fn set(&mut self, plan: WatchPlan) -> bool {
        let before = std::mem::replace(&mut self.plan, plan);
        let is_needed_sooner = self.rests && plan.is_busy;
        if before.every_ms == plan.every_ms && before.floor == plan.floor && !is_needed_sooner {
            return false;
        }
        self.rests = false;
        self.is_changed = true;
        true
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, mut gauge: impl Gauge, outcomes: &mpsc::Sender<EffectResult>) {
        let mut is_nearly_short = false;
        while let Some(floor) = self.next_look(is_nearly_short) {
            let Some(Reading { available_bytes, stall_percent }) = gauge.read() else { return };
            is_nearly_short = floor.is_nearly_short(available_bytes, stall_percent);
            if floor.is_short(available_bytes, stall_percent) {
                let event = Event::Pressure { available_bytes, stall_percent };
                // An owner that is busy hears of the next one.
                if let Err(mpsc::error::TrySendError::Closed(_)) = outcomes.try_send(event.into()) {
                    return;
                }
            }
        }
    }

    /// Returns when a look is due, with what is to be told; `None` when it is all over.
    fn next_look(&self, is_nearly_short: bool) -> Option<MemoryFloor> {
        let mut inner = self.lock();
        loop {
            let is_idle = |inner: &mut Inner| inner.plan.every_ms == 0 && !inner.is_over;
            inner = self.changed.wait_while(inner, is_idle).unwrap_or_else(PoisonError::into_inner);
            inner.is_changed = false;
            inner.rests = !inner.plan.is_busy && !is_nearly_short;
            let interval = inner.plan.interval(inner.rests);
            let is_as_planned = |inner: &mut Inner| !inner.is_changed && !inner.is_over;
            let (guard, waited) = self
                .changed
                .wait_timeout_while(inner, interval, is_as_planned)
                .unwrap_or_else(PoisonError::into_inner);
            inner = guard;
            if inner.is_over {
                return None;
            }
            if waited.timed_out() {
                inner.rests = false;
                return Some(inner.plan.floor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Readings of available memory, one after the other, and then none.
    struct Scripted(VecDeque<u64>);

    impl Gauge for Scripted {
        fn read(&mut self) -> Option<Reading> {
            self.0.pop_front().map(|available_bytes| Reading { available_bytes, stall_percent: 0.5 })
        }
    }

    fn scripted(readings: &[u64]) -> Scripted {
        Scripted(readings.iter().copied().collect())
    }

    fn plan(every_ms: u64, is_busy: bool) -> WatchPlan {
        WatchPlan { every_ms, is_busy, floor: MemoryFloor { available_bytes: 100, stall_percent_max: 10.0 } }
    }

    #[test]
    fn the_owner_hears_of_short_memory_and_of_nothing_else() {
        let (outcomes, mut heard) = mpsc::channel(8);
        let watch = PressureWatch::start_with(scripted(&[1_000, 150, 99, 0, 100, 7]), outcomes);
        watch.set(plan(1, true));
        let told = std::iter::from_fn(|| heard.blocking_recv()).map(|outcome| match outcome.event {
            Event::Pressure { available_bytes, .. } => available_bytes,
            _ => panic!("nothing else is told"),
        });
        assert_eq!(told.collect::<Vec<_>>(), [99, 0, 7]);
    }

    #[test]
    fn without_a_plan_nothing_is_read_and_the_thread_ends_with_its_owner() {
        let (outcomes, mut heard) = mpsc::channel(8);
        let watch = PressureWatch::start_with(scripted(&[0; 8]), outcomes);
        watch.set(plan(0, true));
        drop(watch);
        assert!(heard.blocking_recv().is_none());
    }

    #[test]
    fn while_nothing_is_in_use_it_looks_less_often_and_use_ends_the_long_wait() {
        let (second, minutes) = (plan(1_000, true), plan(60_000, true));
        assert_eq!((second.interval(false).as_secs(), second.interval(true).as_secs()), (1, 5));
        let mut inner = Inner { plan: plan(1_000, false), rests: true, ..Inner::default() };
        assert!(!inner.set(plan(1_000, false)), "nothing is new");
        assert!(inner.set(second), "something runs");
        assert!(!inner.set(plan(1_000, false)) && !inner.set(second), "the short wait goes on");
        assert!(inner.set(minutes), "another interval");
    }

    #[test]
    fn memory_is_nearly_short_before_it_is_short() {
        let floor = plan(1, true).floor;
        let is = |available_bytes, stall_percent| {
            (
                floor.is_nearly_short(available_bytes, stall_percent),
                floor.is_short(available_bytes, stall_percent),
            )
        };
        assert_eq!(
            [is(200, 5.0), is(199, 0.0), is(200, 5.1)],
            [(false, false), (true, false), (true, false)]
        );
        assert_eq!([is(99, 0.0), is(u64::MAX, 10.1)], [(true, true), (true, true)]);
    }
}
