//! The frames of all listeners: each is written once, has a number, and stays in a bounded ring for those that read slowly or come
//! back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use samovar_core::{ErrorKind, Failure};
use serde_json::Value;
use tokio::sync::watch;

use super::state::State;

/// Listeners at the same time.
const LISTENERS_MAX: usize = 64;
/// Frames that are kept for listeners that have not read them.
const FRAMES_MAX: usize = 256;
/// Bytes of them.
const RING_BYTES_MAX: usize = 4 << 20;

/// What listeners are told, and how many listen.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Tells the numbers of this daemon from those of others.
    epoch: u64,
    inner: Mutex<Inner>,
    /// The number of the latest frame.
    latest: watch::Sender<u64>,
    /// How often the producer has looked.
    looks: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    /// The number of the latest frame.
    latest: u64,
    /// The latest frames, without a gap.
    ring: VecDeque<Bytes>,
    ring_bytes: usize,
    /// The snapshot of a number, once a listener needed it.
    snapshot: Option<(u64, Bytes)>,
    listeners: usize,
    /// How often the feed had been looked at when its producer began, if there is one.
    producer_since: Option<u64>,
}

/// A listener, until dropped.
#[derive(Debug)]
pub(super) struct Listener {
    feed: Arc<Feed>,
    /// The number of the last frame that it was given.
    seen: Option<u64>,
}

impl Feed {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch, inner: Mutex::default(), latest: watch::Sender::new(0), looks: watch::Sender::new(0) }
    }

    /// Begins to listen after the frame of this id; `produce` is called where there is no producer yet.
    ///
    /// # Errors
    /// `Busy` when there are too many listeners.
    pub(super) async fn listen(
        self: &Arc<Self>,
        last_event_id: Option<&str>,
        produce: impl FnOnce(),
    ) -> Result<Listener, Failure> {
        let mut looks = self.looks.subscribe();
        let looked = *looks.borrow_and_update();
        let (since, needs_producer) = {
            let mut inner = self.inner();
            if inner.listeners >= LISTENERS_MAX {
                let message = format!("{LISTENERS_MAX} programs listen to events already");
                return Err(Failure::new(ErrorKind::Busy, message)
                    .with_hint("close some of them, or ask for /admin/stats now and then")
                    .with_retry_after_ms(5_000));
            }
            inner.listeners += 1;
            let needs_producer = inner.producer_since.is_none();
            (*inner.producer_since.get_or_insert(looked), needs_producer)
        };
        let listener = Listener { feed: Arc::clone(self), seen: self.number_of(last_event_id) };
        if needs_producer {
            produce();
        }
        // Before its first look, what is known is as old as the last listener. The sender lives in `self`, so waiting cannot fail.
        let _ = looks.wait_for(|now| *now > since).await;
        Ok(listener)
    }

    /// The state that listeners know.
    pub(super) fn state(&self) -> State {
        self.inner().state.clone()
    }

    /// Whether the producer is to end, because no listener is left; then the next listener starts another one.
    pub(super) fn is_unheard(&self) -> bool {
        let mut inner = self.inner();
        if inner.listeners == 0 {
            inner.producer_since = None;
        }
        inner.listeners == 0
    }

    /// Takes in the state of this moment.
    pub(super) fn take_in(&self, state: State) {
        let latest = {
            let mut inner = self.inner();
            if let Some(delta) = state.since(&inner.state) {
                inner.latest += 1;
                let frame = self.frame(inner.latest, "delta", &delta);
                inner.ring_bytes += frame.len();
                inner.ring.push_back(frame);
                while inner.ring.len() > FRAMES_MAX || inner.ring_bytes > RING_BYTES_MAX {
                    let Some(oldest) = inner.ring.pop_front() else { break };
                    inner.ring_bytes -= oldest.len();
                }
            }
            inner.state = state;
            inner.latest
        };
        self.latest.send_if_modified(|told| std::mem::replace(told, latest) != latest);
        self.looks.send_modify(|looks| *looks += 1);
    }

    /// The number of a frame of this daemon that may still be gone on from.
    fn number_of(&self, id: Option<&str>) -> Option<u64> {
        let (epoch, number) = id?.trim().split_once('-')?;
        let is_ours = epoch.parse::<u64>() == Ok(self.epoch);
        number.parse().ok().filter(|_| is_ours)
    }

    /// What comes after the frame `seen`, with its number: the next frame, or a snapshot where that one is gone. `None` where nothing
    /// does.
    fn next(&self, seen: Option<u64>) -> Option<(u64, Bytes)> {
        let mut inner = self.inner();
        let latest = inner.latest;
        if seen == Some(latest) {
            return None;
        }
        let behind =
            seen.and_then(|seen| latest.checked_sub(seen)).and_then(|behind| usize::try_from(behind).ok());
        let place = behind.and_then(|behind| inner.ring.len().checked_sub(behind));
        if let (Some(seen), Some(place)) = (seen, place) {
            return Some((seen + 1, inner.ring[place].clone()));
        }
        let known = inner.snapshot.as_ref().filter(|(number, _)| *number == latest);
        if let Some((_, bytes)) = known {
            return Some((latest, bytes.clone()));
        }
        let bytes = self.frame(latest, "snapshot", &inner.state.snapshot());
        inner.snapshot = Some((latest, bytes.clone()));
        Some((latest, bytes))
    }

    fn frame(&self, number: u64, event: &str, data: &Value) -> Bytes {
        // JSON has no line breaks outside of strings, and none unescaped within.
        Bytes::from(format!("id: {}-{number}\nevent: {event}\ndata: {data}\n\n", self.epoch))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// The next frame, as soon as there is one.
    ///
    /// # Cancel safety
    /// Cancel safe: no frame is lost.
    pub(super) async fn next(&mut self) -> Bytes {
        let mut latest = self.feed.latest.subscribe();
        loop {
            latest.borrow_and_update();
            if let Some((number, bytes)) = self.feed.next(self.seen) {
                self.seen = Some(number);
                return bytes;
            }
            // The sender lives in the feed, so waiting cannot fail.
            let _ = latest.changed().await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.feed.inner().listeners -= 1;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::json;

    use super::*;

    fn state(loads: usize, text_bytes: usize) -> State {
        let pool = json!({ "loads": loads, "text": "x".repeat(text_bytes) });
        State { values: [("pool", pool)].into(), ..State::default() }
    }

    fn feed() -> Arc<Feed> {
        Arc::new(Feed::new(7))
    }

    async fn listener(feed: &Arc<Feed>, last_event_id: Option<&str>) -> Listener {
        let producer = Arc::clone(feed);
        let produce = move || producer.take_in(State::default());
        feed.listen(last_event_id, produce).await.expect("there is room")
    }

    /// The id, the event's name and the data of what is there at once.
    fn told(listener: &mut Listener) -> Option<(String, String, Value)> {
        let frame = listener.next().now_or_never()?;
        let frame = String::from_utf8(frame.to_vec()).expect("UTF-8");
        let mut lines = frame.strip_suffix("\n\n").expect("ends with an empty line").lines();
        let mut field =
            |name: &str| lines.next().and_then(|line| line.strip_prefix(name)).expect(name).to_owned();
        let (id, event, data) = (field("id: "), field("event: "), field("data: "));
        Some((id, event, serde_json::from_str(&data).expect("JSON")))
    }

    #[tokio::test]
    async fn a_snapshot_comes_first_then_deltas_with_rising_ids() {
        let feed = feed();
        let mut listener = listener(&feed, None).await;
        let (id, event, data) = told(&mut listener).expect("a snapshot");
        assert_eq!((id.as_str(), event.as_str(), data), ("7-0", "snapshot", json!({ "decisions": [] })));
        assert_eq!(told(&mut listener), None);
        feed.take_in(state(1, 0));
        feed.take_in(state(1, 0));
        feed.take_in(state(2, 0));
        for number in 1..=2 {
            let (id, event, data) = told(&mut listener).expect("a delta");
            assert_eq!((id, event.as_str()), (format!("7-{number}"), "delta"));
            assert_eq!(data["set"]["pool"]["loads"], number);
        }
        assert_eq!(told(&mut listener), None, "what is the same is not told again");
    }

    #[tokio::test]
    async fn a_listener_that_comes_back_goes_on_where_it_was() {
        let feed = feed();
        drop(listener(&feed, None).await);
        (1..=5).for_each(|loads| feed.take_in(state(loads, 0)));
        let mut back = listener(&feed, Some("7-3")).await;
        let (id, event, _) = told(&mut back).expect("the next one");
        assert_eq!((id.as_str(), event.as_str()), ("7-4", "delta"));
        for unknown in ["7-99", "8-3", "7-", "3", "", "7-3-1", "x-y"] {
            let mut stranger = listener(&feed, Some(unknown)).await;
            let (_, event, data) = told(&mut stranger).expect("a snapshot");
            assert_eq!((event.as_str(), &data["pool"]["loads"]), ("snapshot", &json!(5)), "{unknown}");
        }
    }

    #[tokio::test]
    async fn a_listener_that_falls_behind_gets_a_snapshot_and_costs_no_memory() {
        let feed = feed();
        let mut slow = listener(&feed, None).await;
        told(&mut slow).expect("a snapshot");
        (1..=1_000).for_each(|loads| feed.take_in(state(loads, 0)));
        assert_eq!(feed.inner().ring.len(), FRAMES_MAX);
        let (id, event, data) = told(&mut slow).expect("a snapshot");
        assert_eq!(
            (id.as_str(), event.as_str(), &data["pool"]["loads"]),
            ("7-1000", "snapshot", &json!(1_000))
        );
        assert_eq!(told(&mut slow), None);
        (1..=10).for_each(|loads| feed.take_in(state(loads, RING_BYTES_MAX / 2)));
        assert!(feed.inner().ring_bytes <= RING_BYTES_MAX);
        let kept: usize = feed.inner().ring.iter().map(Bytes::len).sum();
        assert_eq!(kept, feed.inner().ring_bytes);
    }

    #[tokio::test]
    async fn one_producer_serves_all_and_ends_with_the_last_listener() {
        let feed = feed();
        let first = listener(&feed, None).await;
        let second = feed.listen(None, || panic!("there is a producer")).await.expect("there is room");
        assert!(!feed.is_unheard());
        drop((first, second));
        assert!(feed.is_unheard());
        let mut produced = false;
        let producer = Arc::clone(&feed);
        let produce = || {
            produced = true;
            producer.take_in(state(9, 0));
        };
        let mut third = feed.listen(None, produce).await.expect("there is room");
        assert_eq!(told(&mut third).expect("a snapshot").2["pool"]["loads"], 9, "it is of this moment");
        assert!(produced);
    }

    #[tokio::test]
    async fn a_listener_that_comes_during_the_first_look_waits_for_it() {
        let feed = feed();
        let mut first = std::pin::pin!(feed.listen(None, || ()));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = std::pin::pin!(feed.listen(None, || panic!("there is a producer")));
        assert!(second.as_mut().now_or_never().is_none());
        feed.take_in(state(9, 0));
        for listener in [first.await, second.await] {
            let mut listener = listener.expect("there is room");
            assert_eq!(told(&mut listener).expect("a snapshot").2["pool"]["loads"], 9);
        }
    }

    #[tokio::test]
    async fn listeners_are_bounded() {
        let feed = feed();
        let mut listeners = Vec::new();
        for _ in 0..LISTENERS_MAX {
            listeners.push(listener(&feed, None).await);
        }
        let refused = feed.listen(None, || ()).await.expect_err("there are enough");
        assert_eq!(refused.kind, ErrorKind::Busy);
        listeners.pop();
        listener(&feed, None).await;
    }
}
