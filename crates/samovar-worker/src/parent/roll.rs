//! Who waits for what of a worker: each gets exactly one end, be it the worker's answer or its death.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::mpsc::SyncSender;

use samovar_core::generation::{TokenEvent, may_tell_progress};
use samovar_core::{ErrorKind, Failure};
use tokio::sync::mpsc;

use super::lock;
use crate::protocol::{Answer, Event};

/// Requests and operations that one worker may have before it at the same time.
const MAX_WAITING: usize = 4096;

/// Where a worker is in its life.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// Until its errand is done.
    Loading,
    /// It answers.
    Serving,
    /// It was told to go.
    Leaving,
    /// It is gone, and this is what everybody hears.
    Ended(Failure),
}

/// Who waits for what.
#[derive(Debug)]
pub(super) struct Roll {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    stage: Stage,
    next_id: u64,
    generations: HashMap<u64, Listener>,
    operations: HashMap<u64, SyncSender<Result<Answer, Failure>>>,
}

/// Who reads an answer. A place for its end is kept free from the beginning.
#[derive(Debug)]
struct Listener {
    events: mpsc::Sender<TokenEvent>,
    end: Option<mpsc::OwnedPermit<TokenEvent>>,
    /// The adapters that the request names, by the numbers that the worker knows.
    adapters: Vec<u64>,
}

impl Listener {
    fn new(events: mpsc::Sender<TokenEvent>) -> Self {
        Self { end: events.clone().try_reserve_owned().ok(), events, adapters: Vec::new() }
    }

    fn takes_progress(&self) -> bool {
        may_tell_progress(&self.events, usize::from(self.end.is_some()))
    }

    fn end(self, event: TokenEvent) {
        match self.end {
            Some(place) => drop(place.send(event)),
            None => drop(self.events.try_send(event)),
        }
    }
}

impl Inner {
    fn new_id(&mut self) -> Result<u64, Failure> {
        match &self.stage {
            Stage::Ended(failure) => return Err(failure.clone()),
            Stage::Leaving => return Err(unloaded()),
            Stage::Loading | Stage::Serving => {}
        }
        if self.generations.len() + self.operations.len() >= MAX_WAITING {
            let message = format!("{MAX_WAITING} requests wait for this instance already");
            return Err(Failure::new(ErrorKind::Busy, message)
                .with_hint("ask again when some of them have been answered"));
        }
        self.next_id += 1;
        Ok(self.next_id)
    }
}

impl Roll {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                stage: Stage::Loading,
                next_id: 0,
                generations: HashMap::new(),
                operations: HashMap::new(),
            }),
        }
    }

    /// Enters a request.
    pub(super) fn enter_generation(&self, events: mpsc::Sender<TokenEvent>) -> Result<u64, Failure> {
        let mut inner = lock(&self.inner);
        let id = inner.new_id()?;
        inner.generations.insert(id, Listener::new(events));
        Ok(id)
    }

    /// Enters an operation.
    pub(super) fn enter_operation(
        &self,
        answer: SyncSender<Result<Answer, Failure>>,
    ) -> Result<u64, Failure> {
        let mut inner = lock(&self.inner);
        let id = inner.new_id()?;
        inner.operations.insert(id, answer);
        Ok(id)
    }

    /// Nobody waits any more; says whether the worker still works for it.
    pub(super) fn strike(&self, id: u64) -> bool {
        let mut inner = lock(&self.inner);
        inner.generations.remove(&id).is_some() | inner.operations.remove(&id).is_some()
    }

    /// Whether somebody still waits.
    pub(super) fn has(&self, id: u64) -> bool {
        let inner = lock(&self.inner);
        inner.generations.contains_key(&id) || inner.operations.contains_key(&id)
    }

    /// A request names these adapters, until it ends.
    pub(super) fn name_adapters(&self, id: u64, numbers: &[u64]) {
        if let Some(listener) = lock(&self.inner).generations.get_mut(&id) {
            listener.adapters = numbers.to_vec();
        }
    }

    /// The adapters that any request names.
    pub(super) fn named_adapters(&self) -> HashSet<u64> {
        let inner = lock(&self.inner);
        inner.generations.values().flat_map(|listener| &listener.adapters).copied().collect()
    }

    /// Delivers events. Those that nobody waits for are dropped. Returns the requests that the worker says more to than
    /// was asked: they have been ended, and it should hear of that.
    pub(super) fn deliver(&self, events: Vec<(u64, Event)>) -> Vec<u64> {
        let mut inner = lock(&self.inner);
        let mut too_long = Vec::new();
        for (id, event) in events {
            if event.is_last() {
                inner.end(id, event.into());
                continue;
            }
            let Some(listener) = inner.generations.get(&id) else { continue };
            if matches!(event, Event::Prefilling { .. }) && !listener.takes_progress() {
                continue;
            }
            // The channel holds a whole answer. A closed one is struck by whoever closed it.
            if let Err(mpsc::error::TrySendError::Full(_)) = listener.events.try_send(event.into()) {
                inner.end(id, TokenEvent::Failed(endless()));
                too_long.push(id);
            }
        }
        too_long
    }

    /// A request cannot be answered.
    pub(super) fn fail(&self, id: u64, failure: Failure) {
        lock(&self.inner).end(id, TokenEvent::Failed(failure));
    }

    /// Delivers an operation's answer.
    pub(super) fn answer(&self, id: u64, answer: Result<Answer, Failure>) {
        let waiting = lock(&self.inner).operations.remove(&id);
        if let Some(waiting) = waiting {
            waiting.try_send(answer).ok();
        }
    }

    /// Whether it has requests to answer.
    pub(super) fn is_answering(&self) -> bool {
        !lock(&self.inner).generations.is_empty()
    }

    /// Whether the worker has anything to do.
    pub(super) fn is_working(&self) -> bool {
        let inner = lock(&self.inner);
        inner.stage == Stage::Loading || !inner.generations.is_empty() || !inner.operations.is_empty()
    }

    /// The load is over.
    ///
    /// # Errors
    /// When the worker has died meanwhile.
    pub(super) fn serve(&self) -> Result<(), Failure> {
        let mut inner = lock(&self.inner);
        if let Stage::Ended(failure) = &inner.stage {
            return Err(failure.clone());
        }
        inner.stage = Stage::Serving;
        Ok(())
    }

    /// Nobody wants the worker any more; whoever still waits hears so.
    pub(super) fn leave(&self) {
        let mut inner = lock(&self.inner);
        if !matches!(inner.stage, Stage::Ended(_)) {
            inner.stage = Stage::Leaving;
        }
        inner.end_all(&unloaded());
    }

    /// The worker is gone: everybody hears `failure`. Returns the stage in which that happened.
    pub(super) fn end(&self, failure: Failure) -> Stage {
        let mut inner = lock(&self.inner);
        inner.end_all(&failure);
        std::mem::replace(&mut inner.stage, Stage::Ended(failure))
    }

    /// Where the worker is in its life.
    pub(super) fn stage(&self) -> Stage {
        lock(&self.inner).stage.clone()
    }
}

impl Inner {
    fn end(&mut self, id: u64, event: TokenEvent) {
        if let Some(listener) = self.generations.remove(&id) {
            listener.end(event);
        }
    }

    fn end_all(&mut self, failure: &Failure) {
        for (_, listener) in self.generations.drain() {
            listener.end(TokenEvent::Failed(failure.clone()));
        }
        for (_, waiting) in self.operations.drain() {
            waiting.try_send(Err(failure.clone())).ok();
        }
    }
}

fn endless() -> Failure {
    Failure::new(
        ErrorKind::EngineFailed,
        "the worker says more than it was asked, and was not listened to further",
    )
    .with_hint("what it had said until then has been delivered")
}

fn unloaded() -> Failure {
    Failure::new(ErrorKind::Unavailable, "the instance was unloaded")
        .with_hint("the next request loads it again")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use samovar_core::generation::Generation;

    use super::*;

    fn death() -> Failure {
        Failure::new(ErrorKind::EngineFailed, "it died")
    }

    #[test]
    fn everybody_who_waits_hears_of_the_end_once() {
        let roll = Roll::new();
        roll.serve().unwrap();
        let (sender, mut generation) = Generation::channel(4);
        let id = roll.enter_generation(sender).unwrap();
        let (reply, answer) = sync_channel(1);
        roll.enter_operation(reply).unwrap();
        assert_eq!(roll.end(death()), Stage::Serving);
        roll.deliver(vec![(id, TokenEvent::Failed(death()).into())]);
        assert_eq!(generation.blocking_next(), Some(TokenEvent::Failed(death())));
        assert_eq!(generation.blocking_next(), None);
        assert_eq!(answer.recv().unwrap().unwrap_err(), death());
        assert!(answer.recv().is_err());
        let (sender, _generation) = Generation::channel(4);
        assert_eq!(roll.enter_generation(sender).unwrap_err(), death());
    }

    #[test]
    fn an_answer_that_ended_hears_nothing_more() {
        let roll = Roll::new();
        let (sender, mut generation) = Generation::channel(4);
        let id = roll.enter_generation(sender).unwrap();
        let token = |text: &str| TokenEvent::Token { text: text.to_owned(), logprob: None };
        let over = TokenEvent::Failed(Failure::new(ErrorKind::ContextExceeded, "long"));
        roll.deliver(vec![(id, token("a").into()), (id, over.clone().into()), (id, token("b").into())]);
        roll.end(death());
        assert_eq!(generation.blocking_next(), Some(token("a")));
        assert_eq!(generation.blocking_next(), Some(over));
        assert_eq!(generation.blocking_next(), None);
        assert!(!roll.strike(id));
    }

    #[test]
    fn who_says_more_than_was_asked_is_ended_with_a_reason_and_told() {
        let roll = Roll::new();
        let (sender, mut generation) = Generation::channel(1);
        let id = roll.enter_generation(sender).unwrap();
        let word = || TokenEvent::Token { text: "x".to_owned(), logprob: None };
        // The channel has room for five, one of which is kept for the end.
        assert_eq!(roll.deliver((0..4).map(|_| (id, word().into())).collect()), [0; 0]);
        assert!(roll.has(id));
        assert_eq!(roll.deliver(vec![(id, word().into()), (id, word().into())]), [id]);
        assert!(!roll.has(id));
        let heard: Vec<_> = std::iter::from_fn(|| generation.blocking_next()).collect();
        assert_eq!(heard.len(), 5);
        assert_eq!(heard.last(), Some(&TokenEvent::Failed(endless())));
    }

    #[test]
    fn progress_that_nobody_reads_is_dropped_and_takes_no_place() {
        let roll = Roll::new();
        let (sender, mut generation) = Generation::channel(1);
        let id = roll.enter_generation(sender).unwrap();
        let progress = |computed| TokenEvent::Prefilling { computed, of: 1000 };
        assert_eq!(roll.deliver((1..100).map(|computed| (id, progress(computed).into())).collect()), [0; 0]);
        let word = || TokenEvent::Token { text: "x".to_owned(), logprob: None };
        assert_eq!(roll.deliver((0..3).map(|_| (id, word().into())).collect()), [0; 0]);
        roll.end(death());
        let heard: Vec<_> = std::iter::from_fn(|| generation.blocking_next()).collect();
        assert_eq!((heard.len(), &heard[0]), (5, &progress(1)));
    }

    #[test]
    fn a_full_channel_still_has_room_for_a_death() {
        let roll = Roll::new();
        let (sender, mut generation) = Generation::channel(0);
        let id = roll.enter_generation(sender).unwrap();
        let word = || TokenEvent::Token { text: String::new(), logprob: None };
        roll.deliver((0..3).map(|_| (id, word().into())).collect());
        roll.end(death());
        let heard: Vec<_> = std::iter::from_fn(|| generation.blocking_next()).collect();
        assert_eq!(heard.last(), Some(&TokenEvent::Failed(death())));
    }

    #[test]
    fn an_answer_that_nobody_reads_stays_until_its_reader_strikes_it() {
        let roll = Roll::new();
        let (sender, generation) = Generation::channel(4);
        let id = roll.enter_generation(sender).unwrap();
        drop(generation);
        let word = TokenEvent::Token { text: String::new(), logprob: None };
        assert_eq!(roll.deliver(vec![(id, word.into())]), [0; 0]);
        assert!(roll.strike(id), "else nobody would tell the worker to stop");
    }

    #[test]
    fn a_flood_of_requests_meets_a_limit() {
        let roll = Roll::new();
        let (sender, _generation) = Generation::channel(1);
        for _ in 0..MAX_WAITING {
            roll.enter_generation(sender.clone()).unwrap();
        }
        assert_eq!(roll.enter_generation(sender).unwrap_err().kind, ErrorKind::Busy);
    }
}
