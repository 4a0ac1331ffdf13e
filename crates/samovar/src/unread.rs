//! What an answer has said and its reader has not taken yet: bounded in bytes, and no slot waits for the reader.
//!
//! ```text
//!   drive ── push ──► Outbox ═══ events, bytes counted ═══► Answer ── next ──► reader
//!                       └─ past the bound: this answer ends, and no other one
//! ```
//!
//! The lease goes back when decoding ends, however slowly it is read: saying never waits. Work whose answer may be larger than
//! the bound asks for room before it has the next part of it computed, and that waits for the reader.

use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::byte_budget::{ByteBudget, Charge};
use samovar_core::generation::TokenLogprob;
use samovar_core::{ErrorKind, Failure};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, OwnedPermit};

use crate::answer::AnswerEvent;
use crate::wait::Wait;

/// Bytes of one answer that may wait for its reader.
pub(crate) const UNREAD_BYTES: u64 = 4 << 20;
/// Of these, bytes that may be said or promised by who asks for room: the rest is for what is said without.
const ROOM_BYTES: u64 = UNREAD_BYTES / 4 * 3;
/// Bytes that room is asked for at a time, at most: while one part is read, others are computed.
pub(crate) const PART_BYTES: u64 = UNREAD_BYTES / 4;
/// Events of one answer that may wait for its reader.
const UNREAD_EVENTS: usize = 32_768;
/// News of waiting is left out when so many events have not been read.
const UNREAD_NEWS: usize = 64;

/// An event and the bytes that it was counted with.
type Counted = (AnswerEvent, u64);

/// The end that an answer is written to.
pub(crate) struct Outbox {
    events: mpsc::Sender<Counted>,
    /// Kept for the last event, which always has a place.
    place: Option<OwnedPermit<Counted>>,
    held: Arc<Held>,
}

/// The end that an answer is read from.
#[derive(Debug)]
pub(crate) struct Inbox {
    events: mpsc::Receiver<Counted>,
    held: Arc<Held>,
}

/// What of an answer takes memory.
#[derive(Debug)]
struct Held {
    counts: Mutex<Counts>,
    /// Told whenever there is less of it.
    freed: Notify,
}

#[derive(Debug)]
struct Counts {
    /// What was said and is not read.
    unread: Charge,
    /// What there is room for, and was not said yet.
    promised_bytes: u64,
}

/// Room for a part of an answer. What was not said of it when this is dropped is others' again.
pub(crate) struct Room<'a> {
    outbox: &'a Outbox,
    bytes: u64,
}

/// News of waiting on their way to a reader; what it is too slow to read is left out.
#[derive(Clone)]
pub(crate) struct News {
    events: mpsc::Sender<Counted>,
}

/// Both ends of an answer to `client`.
pub(crate) fn channel(budget: &ByteBudget, client: &str) -> (Outbox, Inbox) {
    let (events, receiver) = mpsc::channel(UNREAD_EVENTS);
    let counts = Mutex::new(Counts { unread: budget.charge(client), promised_bytes: 0 });
    let held = Arc::new(Held { counts, freed: Notify::new() });
    let place = events.clone().try_reserve_owned().ok();
    let inbox = Inbox { events: receiver, held: Arc::clone(&held) };
    (Outbox { events, place, held }, inbox)
}

impl Outbox {
    /// Says something.
    ///
    /// # Errors
    /// `Cancelled` when the reader has left too much unread, `Busy` when the unread answers of all take all the memory
    /// that there is for them: the answer must end.
    pub(crate) fn push(&self, event: AnswerEvent) -> Result<(), Failure> {
        let bytes = weight(&event);
        let mut counts = self.held.counts();
        if counts.unread.bytes() + bytes > UNREAD_BYTES {
            return Err(left_unread());
        }
        counts.unread.grow(bytes)?;
        match self.events.try_send((event, bytes)) {
            // Who drives the answer is about to see that it is closed.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(left_unread()),
        }
    }

    /// Room for so many bytes, [`PART_BYTES`] at most, as soon as the reader has taken most of what was said before.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn room(&self, bytes: u64) -> Room<'_> {
        let bytes = bytes.min(PART_BYTES);
        loop {
            // Made before the look: what is freed meanwhile is told to it.
            let freed = self.held.freed.notified();
            if self.held.promise(bytes) {
                return Room { outbox: self, bytes };
            }
            freed.await;
        }
    }

    pub(crate) fn news(&self) -> News {
        News { events: self.events.clone() }
    }

    /// Resolves when the reader has gone.
    pub(crate) async fn closed(&self) {
        self.events.closed().await;
    }

    /// Says the last thing.
    pub(crate) fn finish(mut self, last: AnswerEvent) {
        if let Some(place) = self.place.take() {
            place.send((last, 0));
        }
    }
}

impl Room<'_> {
    /// Says a part of what there is room for.
    ///
    /// # Errors
    /// Those of [`Outbox::push`]; nothing was left unread where the room was enough.
    pub(crate) fn push(&mut self, event: AnswerEvent) -> Result<(), Failure> {
        self.give_back(weight(&event).min(self.bytes));
        self.outbox.push(event)
    }

    fn give_back(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.outbox.held.counts().promised_bytes -= bytes;
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.give_back(self.bytes);
        self.outbox.held.freed.notify_waiters();
    }
}

impl Held {
    /// Promises so many bytes, if there is room for them.
    fn promise(&self, bytes: u64) -> bool {
        let mut counts = self.counts();
        let has_room = counts.unread.bytes() + counts.promised_bytes + bytes <= ROOM_BYTES;
        if has_room {
            counts.promised_bytes += bytes;
        }
        has_room
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl News {
    pub(crate) fn tell(&self, wait: Wait) {
        let unread = self.events.max_capacity() - self.events.capacity();
        if unread <= UNREAD_NEWS {
            // A reader that has gone needs no news.
            self.events.try_send((AnswerEvent::Waiting(wait), 0)).ok();
        }
    }
}

impl Inbox {
    /// The next event; `None` after the last.
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost.
    pub(crate) async fn next(&mut self) -> Option<AnswerEvent> {
        let (event, bytes) = self.events.recv().await?;
        if bytes > 0 {
            self.held.counts().unread.shrink(bytes);
            self.held.freed.notify_waiters();
        }
        Some(event)
    }
}

/// Memory that the event takes, about.
fn weight(event: &AnswerEvent) -> u64 {
    let more = match event {
        AnswerEvent::Text { text, logprob } => text.len() + logprob.as_ref().map_or(0, weight_of_logprob),
        AnswerEvent::Thinking { text } | AnswerEvent::ToolArguments { text, .. } => text.len(),
        AnswerEvent::ToolCall { id, name, .. } => id.len() + name.len(),
        AnswerEvent::Granted { model, .. } => model.len(),
        AnswerEvent::Embedded(embedded) => return weight_of_values(embedded.values.len()),
        _ => 0,
    };
    (size_of::<Counted>() + more) as u64
}

/// Memory that an event with so many numbers takes, about.
pub(crate) const fn weight_of_values(values: usize) -> u64 {
    (size_of::<Counted>() + values * size_of::<f32>()) as u64
}

/// Memory on the heap that the probabilities of a token take, about.
fn weight_of_logprob(logprob: &TokenLogprob) -> usize {
    let of_top = |one: &TokenLogprob| size_of::<TokenLogprob>() + weight_of_logprob(one);
    logprob.bytes.len() + logprob.top.iter().map(of_top).sum::<usize>()
}

fn left_unread() -> Failure {
    let message =
        format!("the answer was ended: its reader left more than {UNREAD_BYTES} bytes of it unread");
    Failure::new(ErrorKind::Cancelled, message)
        .with_hint("read the answer as it comes, or ask for fewer tokens or probabilities")
}

#[cfg(test)]
mod tests {
    use samovar_core::embedding::Embedded;

    use super::*;

    fn text(bytes: usize) -> AnswerEvent {
        AnswerEvent::Text { text: "x".repeat(bytes), logprob: None }
    }

    fn failed() -> AnswerEvent {
        AnswerEvent::Failed(Failure::new(ErrorKind::Internal, "the end"))
    }

    #[tokio::test]
    async fn what_is_read_is_given_back_and_what_is_dropped_as_well() {
        let budget = ByteBudget::new(64 << 20);
        let (outbox, mut inbox) = channel(&budget, "a");
        outbox.push(text(1_000)).expect("fits");
        outbox.push(text(1_000)).expect("fits");
        assert!(budget.used_bytes() >= 2_000);
        inbox.next().await.expect("an event");
        assert!((1_000..2_000).contains(&budget.used_bytes()));
        drop(outbox);
        drop(inbox);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_ends_its_answer_and_hears_why() {
        let budget = ByteBudget::new(64 << 20);
        let (outbox, mut inbox) = channel(&budget, "a");
        let mut said = 0;
        let failure = loop {
            match outbox.push(text(1_000)) {
                Ok(()) => said += 1,
                Err(failure) => break failure,
            }
        };
        assert_eq!(failure.kind, ErrorKind::Cancelled);
        assert!((3_000..5_000).contains(&said), "{said}");
        outbox.finish(AnswerEvent::Failed(failure.clone()));
        for _ in 0..said {
            assert!(matches!(inbox.next().await, Some(AnswerEvent::Text { .. })));
        }
        assert_eq!(inbox.next().await, Some(AnswerEvent::Failed(failure)));
        assert_eq!(inbox.next().await, None);
    }

    #[tokio::test]
    async fn tiny_events_are_bounded_as_well_and_the_last_has_a_place() {
        let budget = ByteBudget::new(1 << 30);
        let (outbox, mut inbox) = channel(&budget, "a");
        while outbox.push(text(0)).is_ok() {}
        let news = outbox.news();
        outbox.finish(failed());
        news.tell(Wait::Resuming);
        drop(news);
        let mut last = None;
        while let Some(event) = inbox.next().await {
            last = Some(event);
        }
        assert_eq!(last, Some(failed()), "no news for who is so slow");
    }

    fn vector(width: usize) -> AnswerEvent {
        AnswerEvent::Embedded(Embedded { index: 0, tokens: 1, was_cut: false, values: vec![0.0; width] })
    }

    #[tokio::test]
    async fn a_large_answer_waits_for_its_reader_and_loses_nothing() {
        const EVENTS: usize = 500;
        let width = PART_BYTES as usize / 8 / size_of::<f32>();
        let budget = ByteBudget::new(64 << 20);
        let (outbox, mut inbox) = channel(&budget, "a");
        let saying = async move {
            for _ in 0..EVENTS {
                let mut room = outbox.room(weight_of_values(width)).await;
                room.push(vector(width)).expect("there was room");
            }
            outbox.finish(failed());
        };
        let reading = async {
            let mut read = 0;
            while let Some(event) = inbox.next().await {
                assert!(budget.used_bytes() <= ROOM_BYTES);
                read += usize::from(matches!(event, AnswerEvent::Embedded(_)));
            }
            read
        };
        assert_eq!(tokio::join!(saying, reading).1, EVENTS);
    }

    #[tokio::test]
    async fn room_that_nobody_used_is_others_again() {
        let budget = ByteBudget::new(64 << 20);
        let (outbox, _inbox) = channel(&budget, "a");
        let mut parts = Vec::new();
        for _ in 0..ROOM_BYTES / PART_BYTES {
            parts.push(outbox.room(PART_BYTES).await);
        }
        let mut next = std::pin::pin!(outbox.room(PART_BYTES));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(next.as_mut().poll(&mut context).is_pending());
        parts.pop();
        assert!(next.as_mut().poll(&mut context).is_ready());
    }

    #[tokio::test]
    async fn many_unread_answers_share_one_budget() {
        let budget = ByteBudget::new(8 << 20);
        let unread: Vec<_> = (0..20).map(|_| channel(&budget, "a")).collect();
        let refused = unread.iter().find_map(|(outbox, _)| {
            std::iter::repeat_with(|| outbox.push(text(50_000))).take(40).find_map(Result::err)
        });
        assert_eq!(refused.map(|failure| failure.kind), Some(ErrorKind::Busy));
        assert!(budget.used_bytes() <= 4 << 20);
        let (outbox, _inbox) = channel(&budget, "a");
        outbox.push(text(1_000)).expect("a short answer is for everyone");
    }
}
