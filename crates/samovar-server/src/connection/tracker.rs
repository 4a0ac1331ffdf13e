//! What a connection is doing, as seen from outside of the parser: how long it may do that, and whether it may be closed
//! for another connection.
//!
//! ```text
//!   Fresh ─bytes─► Head ─complete─► Body ─complete─► Serving ─written─► Idle ─bytes─► Head …
//! ```

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Limits;

/// What a connection is doing. In the order in which connections are closed for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doing {
    /// No byte has come.
    Fresh,
    /// The last request is answered, and no other one has begun.
    Idle,
    /// The head of a request comes in.
    Head,
    /// The body of a request comes in.
    Body,
    /// A request is complete, and its answer has not been written to the end.
    Serving,
}

impl Doing {
    /// The word in metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Body => "body",
            Self::Serving => "serving",
        }
    }
}

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) doing: Doing,
    pub(crate) since: Instant,
    /// Since when its reader has taken none of the bytes that are ready for it.
    pub(crate) stalled: Option<Instant>,
    /// It is to be closed for another connection.
    pub(crate) is_dismissed: bool,
    /// The parser has the last piece of the answer, and may not have written it.
    is_handed_on: bool,
}

/// The tracker of one connection. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionTracker {
    state: watch::Sender<State>,
}

impl ConnectionTracker {
    pub(crate) fn new() -> Self {
        let state = State {
            doing: Doing::Fresh,
            since: Instant::now(),
            stalled: None,
            is_dismissed: false,
            is_handed_on: false,
        };
        Self { state: watch::Sender::new(state) }
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    #[cfg(test)]
    pub(super) fn is_serving(&self) -> bool {
        self.state.borrow().doing == Doing::Serving
    }

    /// Bytes have come.
    pub(super) fn heard(&self) {
        self.go(|doing| matches!(doing, Doing::Fresh | Doing::Idle).then_some(Doing::Head));
    }

    /// The head of a request is complete.
    pub(super) fn head_complete(&self, has_body: bool) {
        self.state.send_modify(|state| {
            state.doing = if has_body { Doing::Body } else { Doing::Serving };
            (state.since, state.is_handed_on) = (Instant::now(), false);
        });
    }

    /// The body of a request is complete.
    pub(super) fn body_complete(&self) {
        self.go(|doing| (doing == Doing::Body).then_some(Doing::Serving));
    }

    /// The parser has the last piece of the answer, or the answer was given up.
    pub(super) fn handed_on(&self) {
        self.state.send_if_modified(|state| {
            state.is_handed_on = true;
            // No task waits for this.
            false
        });
    }

    /// Everything that the parser had has been written.
    pub(super) fn written(&self) {
        if self.state.borrow().is_handed_on {
            self.state.send_modify(|state| {
                (state.doing, state.since, state.is_handed_on) = (Doing::Idle, Instant::now(), false);
            });
        }
    }

    /// Whether its reader takes what there is for it.
    pub(super) fn writes(&self, is_stalled: bool) {
        self.state.send_if_modified(|state| {
            let changes = state.stalled.is_some() != is_stalled;
            if changes {
                state.stalled = is_stalled.then(Instant::now);
            }
            changes
        });
    }

    /// Whether requests are under way on a connection that is not HTTP.
    pub(crate) fn serves(&self, is_busy: bool) {
        let next = if is_busy { Doing::Serving } else { Doing::Idle };
        self.go(|doing| ((doing == Doing::Serving) != is_busy).then_some(next));
    }

    /// Resolves when it is to be closed for another connection.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn dismissed(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.state.subscribe().wait_for(|state| state.is_dismissed).await;
    }

    /// It is to be closed for another connection.
    pub(crate) fn dismiss(&self) {
        self.state.send_modify(|state| state.is_dismissed = true);
    }

    /// Resolves when it is to be closed: for another connection, or because what it does takes too long.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn over(&self, limits: &Limits) -> Doing {
        let mut changes = self.state.subscribe();
        loop {
            let state = *changes.borrow_and_update();
            if state.is_dismissed {
                return state.doing;
            }
            let due = time_limit(state.doing, limits).map(|span| state.since + span);
            tokio::select! {
                // The sender lives in `self`, so waiting cannot fail.
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(due.unwrap_or(state.since)), if due.is_some() => return state.doing,
            }
        }
    }

    /// Resolves when it does not do that.
    pub(super) async fn ended(&self, doing: Doing) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.state.subscribe().wait_for(|state| state.doing != doing).await;
    }

    #[cfg(test)]
    pub(crate) fn begin_for_tests(&self) {
        self.head_complete(false);
    }

    #[cfg(test)]
    pub(crate) fn head_for_tests(&self) {
        self.heard();
    }

    #[cfg(test)]
    pub(crate) fn idle_for_tests(&self) {
        self.handed_on();
        self.written();
    }

    #[cfg(test)]
    pub(crate) fn stall_for_tests(&self) {
        self.writes(true);
    }

    fn go(&self, to: impl FnOnce(Doing) -> Option<Doing>) {
        self.state.send_if_modified(|state| {
            let next = to(state.doing);
            if let Some(doing) = next {
                (state.doing, state.since) = (doing, Instant::now());
            }
            next.is_some()
        });
    }
}

/// How long a connection may do that; bodies and answers have bounds of their own.
fn time_limit(doing: Doing, limits: &Limits) -> Option<Duration> {
    match doing {
        Doing::Fresh | Doing::Head => Some(limits.head_timeout),
        Doing::Idle => Some(limits.idle_timeout),
        Doing::Body | Doing::Serving => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn heads_have_seconds_and_idle_connections_more_than_a_minute() {
        let (tracker, limits) = (ConnectionTracker::new(), Limits::default());
        let began = Instant::now();
        assert_eq!(tracker.over(&limits).await, Doing::Fresh);
        assert_eq!(began.elapsed(), limits.head_timeout);
        tracker.heard();
        assert_eq!(tracker.over(&limits).await, Doing::Head);
        assert_eq!(began.elapsed(), 2 * limits.head_timeout);
        tracker.head_complete(true);
        tracker.body_complete();
        let patient = tokio::time::timeout(Duration::from_secs(86_400), tracker.over(&limits)).await;
        assert!(patient.is_err(), "an answer takes as long as it takes");
        tracker.handed_on();
        let patient = tokio::time::timeout(Duration::from_secs(86_400), tracker.over(&limits)).await;
        assert!(patient.is_err(), "and so does writing it");
        let before = Instant::now();
        tracker.written();
        assert_eq!(tracker.over(&limits).await, Doing::Idle);
        assert_eq!(before.elapsed(), limits.idle_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_has_one_time_for_all_of_its_bytes() {
        let (tracker, limits) = (ConnectionTracker::new(), Limits::default());
        tracker.heard();
        let began = Instant::now();
        let slow = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                tracker.heard();
            }
        };
        tokio::select! {
            doing = tracker.over(&limits) => assert_eq!(doing, Doing::Head),
            () = slow => {}
        }
        assert_eq!(began.elapsed(), limits.head_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_dismissed_hears_at_once() {
        let (tracker, limits) = (ConnectionTracker::new(), Limits::default());
        tracker.head_complete(false);
        tracker.dismiss();
        assert_eq!(tracker.over(&limits).await, Doing::Serving);
    }
}
