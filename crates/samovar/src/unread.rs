//! What an answer has said and its reader has not taken yet: bounded in bytes, and no slot waits for the reader.
//!
//! ```text
//!   drive ── push ──► Outbox ═══ events, bytes counted ═══► Answer ── next ──► reader
//!                       └─ past the bound: this answer ends, and no other one
//! ```
//!
//! The lease goes back when decoding ends, however slowly it is read. This never waits.

use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::byte_budget::{ByteBudget, Charge};
use samovar_core::generation::TokenLogprob;
use samovar_core::{ErrorKind, Failure};
use tokio::sync::mpsc::{self, OwnedPermit};

use crate::answer::AnswerEvent;
use crate::wait::Wait;

/// Bytes of one answer that may wait for its reader.
pub(crate) const UNREAD_BYTES: u64 = 4 << 20;
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
    held: Arc<Mutex<Charge>>,
}

/// The end that an answer is read from.
#[derive(Debug)]
pub(crate) struct Inbox {
    events: mpsc::Receiver<Counted>,
    held: Arc<Mutex<Charge>>,
}

/// News of waiting on their way to a reader; what it is too slow to read is left out.
#[derive(Clone)]
pub(crate) struct News {
    events: mpsc::Sender<Counted>,
}

/// Both ends of an answer to `client`.
pub(crate) fn channel(budget: &ByteBudget, client: &str) -> (Outbox, Inbox) {
    let (events, receiver) = mpsc::channel(UNREAD_EVENTS);
    let held = Arc::new(Mutex::new(budget.charge(client)));
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
        let mut held = lock(&self.held);
        if held.bytes() + bytes > UNREAD_BYTES {
            return Err(left_unread());
        }
        held.grow(bytes)?;
        match self.events.try_send((event, bytes)) {
            // Who drives the answer is about to see that it is closed.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(left_unread()),
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
            lock(&self.held).shrink(bytes);
        }
        Some(event)
    }
}

fn lock(held: &Mutex<Charge>) -> MutexGuard<'_, Charge> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory that the event takes, about.
fn weight(event: &AnswerEvent) -> u64 {
    let more = match event {
        AnswerEvent::Text { text, logprob } => text.len() + logprob.as_ref().map_or(0, weight_of_logprob),
        AnswerEvent::Granted { model, .. } => model.len(),
        _ => 0,
    };
    (size_of::<Counted>() + more) as u64
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
