//! How a job gives way: while models answer on the same cores, it rests between its steps.
//!
//! ```text
//!   none answers ───► step ─► step ─► GiveWay(true) ─► rest, 15 times as long as the step ─► step ─► rest ─► …
//!                                                        └─ GiveWay(false): it ends at once
//! ```
//!
//! It never interrupts a step, and never stops a job for good.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lock;

/// While others answer, one part of so many and one is its own.
const RESTS: u32 = 15;
/// No rest is longer, so that it is not taken for the end.
const REST_MOST: Duration = Duration::from_secs(1);

/// Makes a job rest.
#[derive(Debug, Default)]
pub(super) struct Courtesy {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    gives_way: bool,
    /// When the step that runs now began; nothing before the first.
    begun: Option<Instant>,
}

impl Courtesy {
    /// Whether others answer from now on.
    pub(super) fn give_way(&self, gives_way: bool) {
        lock(&self.inner).gives_way = gives_way;
        self.changed.notify_all();
    }

    /// Called between two steps: returns when the next may begin.
    pub(super) fn rest(&self) {
        let inner = lock(&self.inner);
        let rest = rest_after(inner.begun.map_or(Duration::ZERO, |begun| begun.elapsed()));
        self.rest_for(inner, rest);
    }

    /// Returns after so long, or when no model answers any more.
    fn rest_for(&self, inner: MutexGuard<'_, Inner>, rest: Duration) {
        let (mut inner, _) = self
            .changed
            .wait_timeout_while(inner, rest, |inner| inner.gives_way)
            .unwrap_or_else(PoisonError::into_inner);
        inner.begun = Some(Instant::now());
    }
}

/// How long to rest after a step that took so long.
fn rest_after(step: Duration) -> Duration {
    step.saturating_mul(RESTS).min(REST_MOST)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, sync_channel};

    use super::*;

    #[test]
    fn a_sixteenth_of_the_time_is_its_own_and_no_rest_is_endless() {
        assert_eq!(rest_after(Duration::ZERO), Duration::ZERO);
        assert_eq!(rest_after(Duration::from_millis(10)), Duration::from_millis(150));
        assert_eq!(rest_after(Duration::MAX), REST_MOST);
    }

    #[test]
    fn a_step_begins_when_the_rest_before_it_is_over() {
        let courtesy = Courtesy::default();
        courtesy.give_way(true);
        // Before the first step there is nothing to rest from.
        courtesy.rest();
        let first = lock(&courtesy.inner).begun;
        courtesy.give_way(false);
        courtesy.rest();
        assert!(first.is_some() && lock(&courtesy.inner).begun >= first);
    }

    #[test]
    fn a_rest_ends_when_nobody_answers_any_more_and_not_before() {
        let courtesy = Courtesy::default();
        courtesy.give_way(true);
        let (says, hears) = sync_channel(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let inner = lock(&courtesy.inner);
                says.send("rests").expect("the test listens");
                courtesy.rest_for(inner, Duration::from_secs(3600));
                let gives_way = lock(&courtesy.inner).gives_way;
                says.send(if gives_way { "too early" } else { "over" }).expect("the test listens");
            });
            assert_eq!(hears.recv(), Ok("rests"));
            // A job that does not rest says so at once.
            assert_eq!(hears.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
            courtesy.give_way(false);
            assert_eq!(hears.recv(), Ok("over"));
        });
        assert!(lock(&courtesy.inner).begun.is_some(), "the next step has begun");
    }
}
