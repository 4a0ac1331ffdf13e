//! Who is at work: requests in flight, the last time anything was asked, and whether the server is leaving.
//!
//! ```text
//!   Serving ──shut_down()──► Draining ──drain is over──► Cut
//!                            (no new connections)        (answers end with what they have)
//! ```

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It takes requests.
    #[default]
    Serving,
    /// It takes no new ones and lets those that run end.
    Draining,
    /// Whatever still runs ends with what it has.
    Cut,
}

/// A running server as its owner sees it: how busy it is, and how to end it. Clones are the same server.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    in_flight: watch::Sender<u32>,
    /// Clients that stay connected between their requests.
    attending: AtomicU32,
    last_use: Mutex<Instant>,
    phase: watch::Sender<Phase>,
    /// How long the drain takes, once the end was asked for.
    leave: watch::Sender<Option<Leave>>,
}

/// The end was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leave {
    /// How long running requests may take; `None` = as configured.
    pub(crate) grace: Option<Duration>,
}

impl ServerHandle {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                in_flight: watch::Sender::new(0),
                attending: AtomicU32::new(0),
                last_use: Mutex::new(Instant::now()),
                phase: watch::Sender::default(),
                leave: watch::Sender::default(),
            }),
        }
    }

    /// Requests that use a model at this moment, streamed answers counted until their last byte.
    pub fn in_flight(&self) -> u32 {
        *self.shared.in_flight.borrow()
    }

    /// How long no request has used a model; zero while one does, and while a client stays connected to send some.
    pub fn idle_for(&self) -> Duration {
        let is_attended = self.shared.attending.load(Ordering::Relaxed) > 0;
        if is_attended { Duration::ZERO } else { self.unused_for() }
    }

    /// The same, whether clients are connected or not.
    fn unused_for(&self) -> Duration {
        if self.in_flight() > 0 { Duration::ZERO } else { self.last_use().elapsed() }
    }

    /// Resolves once no request has used a model for `after`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn idle(&self, after: Duration) {
        passes(after, || self.idle_for()).await;
    }

    /// Resolves once no request has used a model for `after`, whether clients are connected or not.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn unused(&self, after: Duration) {
        passes(after, || self.unused_for()).await;
    }

    /// Asks the server to leave. Running requests may take `grace`, or as long as configured; the first
    /// who asks decides.
    pub fn shut_down(&self, grace: Option<Duration>) {
        self.shared.leave.send_if_modified(|leave| {
            let is_first = leave.is_none();
            leave.get_or_insert(Leave { grace });
            is_first
        });
    }

    /// Whether the server is leaving.
    pub fn is_draining(&self) -> bool {
        *self.shared.phase.borrow() > Phase::Serving
    }

    /// Counts a request for as long as the result lives.
    pub(crate) fn begin(&self) -> InFlight {
        self.shared.in_flight.send_modify(|count| *count += 1);
        InFlight { server: self.clone() }
    }

    /// Counts a client that stays connected for as long as the result lives: the server is not idle, and may leave.
    pub(crate) fn attend(&self) -> Attending {
        self.shared.attending.fetch_add(1, Ordering::Relaxed);
        Attending { server: self.clone() }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.shared.phase.send_replace(phase);
    }

    /// Resolves once the server is in `phase` or beyond.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.shared.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Resolves when the end is asked for.
    pub(crate) async fn asked_to_leave(&self) -> Leave {
        let mut asked = self.shared.leave.subscribe();
        let leave = asked.wait_for(Option::is_some).await.ok().and_then(|leave| *leave);
        leave.unwrap_or(Leave { grace: None })
    }

    /// Resolves when no request uses a model.
    pub(crate) async fn quiet(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.shared.in_flight.subscribe().wait_for(|count| *count == 0).await;
    }

    fn last_use(&self) -> Instant {
        *self.shared.last_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves once so much time has passed as `passed` counts it, which may begin again.
async fn passes(after: Duration, passed: impl Fn() -> Duration) {
    loop {
        let so_far = passed();
        if so_far >= after {
            return;
        }
        tokio::time::sleep(after.saturating_sub(so_far)).await;
    }
}

/// A request in flight; dropped with the last byte of its answer.
#[derive(Debug)]
pub(crate) struct InFlight {
    server: ServerHandle,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        *self.server.shared.last_use.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.server.shared.in_flight.send_modify(|count| *count -= 1);
    }
}

/// A client that stays connected between its requests.
#[derive(Debug)]
pub(crate) struct Attending {
    server: ServerHandle,
}

impl Drop for Attending {
    fn drop(&mut self) {
        *self.server.shared.last_use.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.server.shared.attending.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stays_connected_keeps_the_server_from_being_idle_and_not_from_leaving() {
        let server = ServerHandle::new();
        let client = server.attend();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!((server.idle_for(), server.in_flight()), (Duration::ZERO, 0));
        server.quiet().await;
        server.unused(Duration::from_secs(100)).await;
        drop(client);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(server.idle_for(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn is_idle_only_after_the_last_request_ended() {
        let server = ServerHandle::new();
        let request = server.begin();
        let began = Instant::now();
        let idle = tokio::spawn({
            let server = server.clone();
            async move { server.idle(Duration::from_secs(60)).await }
        });
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!idle.is_finished());
        drop(request);
        idle.await.expect("ends");
        assert_eq!(began.elapsed().as_secs(), 160);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_a_pause_begins_the_pause_again() {
        let (server, began) = (ServerHandle::new(), Instant::now());
        let pause = tokio::spawn({
            let server = server.clone();
            async move { server.unused(Duration::from_secs(20)).await }
        });
        tokio::time::sleep(Duration::from_secs(19)).await;
        drop(server.begin());
        pause.await.expect("ends");
        assert_eq!(began.elapsed().as_secs(), 39);
    }

    #[tokio::test]
    async fn the_first_who_asks_for_the_end_decides_the_grace() {
        let server = ServerHandle::new();
        server.shut_down(Some(Duration::from_secs(1)));
        server.shut_down(None);
        assert_eq!(server.asked_to_leave().await, Leave { grace: Some(Duration::from_secs(1)) });
    }

    #[tokio::test]
    async fn is_quiet_when_all_requests_are_dropped() {
        let server = ServerHandle::new();
        let (one, two) = (server.begin(), server.begin());
        assert_eq!(server.in_flight(), 2);
        let quiet = server.quiet();
        drop((one, two));
        quiet.await;
        assert_eq!(server.in_flight(), 0);
    }
}
