//! Who waits for what of a worker: each gets exactly one end, be it the worker's answer or its death.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::mpsc::SyncSender;

use samovar_core::generation::TokenEvent;
use samovar_core::{ErrorKind, Failure};
use tokio::sync::mpsc;

use super::answer_reader::{AnswerReader, Heard, Inputs};
use super::lock;
use crate::protocol::{Answer, Event};

/// Requests and operations that one worker may have before it at the same time.
const MAX_WAITING: usize = 4096;

/// Where a worker is in its life.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum WorkerPhase {
    /// Until its job is done.
    Loading,
    /// It answers.
    Serving,
    /// It was told to go.
    Leaving,
    /// It is gone, and this is what all callers hear.
    Ended(Failure),
}

/// Who waits for what.
#[derive(Debug)]
pub(super) struct PendingCalls {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: WorkerPhase,
    next_id: u64,
    generations: HashMap<u64, AnswerReader>,
    operations: HashMap<u64, SyncSender<Result<Answer, Failure>>>,
}

/// What became of the events of a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Delivered {
    /// Whether anything was news to a caller.
    pub(super) is_news: bool,
    /// Requests that the worker says more to than was asked, or something else: they have been ended, and it should hear
    /// of that.
    pub(super) too_long: Vec<u64>,
}

impl Inner {
    fn new_id(&mut self) -> Result<u64, Failure> {
        match &self.phase {
            WorkerPhase::Ended(failure) => return Err(failure.clone()),
            WorkerPhase::Leaving => return Err(unloaded()),
            WorkerPhase::Loading | WorkerPhase::Serving => {}
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

impl PendingCalls {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                phase: WorkerPhase::Loading,
                next_id: 0,
                generations: HashMap::new(),
                operations: HashMap::new(),
            }),
        }
    }

    /// Enters a request for text.
    pub(super) fn enter_generation(&self, events: mpsc::Sender<TokenEvent>) -> Result<u64, Failure> {
        self.enter(AnswerReader::of_text(events))
    }

    /// Enters a request for vectors or scores of these inputs.
    pub(super) fn enter_embeddings(
        &self,
        events: mpsc::Sender<TokenEvent>,
        inputs: Inputs,
    ) -> Result<u64, Failure> {
        self.enter(AnswerReader::of_embeddings(events, inputs))
    }

    fn enter(&self, reader: AnswerReader) -> Result<u64, Failure> {
        let mut inner = lock(&self.inner);
        let id = inner.new_id()?;
        inner.generations.insert(id, reader);
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

    /// No caller waits any more; says whether the worker still works for it.
    pub(super) fn remove(&self, id: u64) -> bool {
        let mut inner = lock(&self.inner);
        inner.generations.remove(&id).is_some() | inner.operations.remove(&id).is_some()
    }

    /// Whether a caller still waits.
    pub(super) fn has(&self, id: u64) -> bool {
        let inner = lock(&self.inner);
        inner.generations.contains_key(&id) || inner.operations.contains_key(&id)
    }

    /// A request names these adapters, until it ends.
    pub(super) fn name_adapters(&self, id: u64, numbers: &[u64]) {
        if let Some(reader) = lock(&self.inner).generations.get_mut(&id) {
            reader.adapters = numbers.to_vec();
        }
    }

    /// The adapters that any request names.
    pub(super) fn named_adapters(&self) -> HashSet<u64> {
        let inner = lock(&self.inner);
        inner.generations.values().flat_map(|reader| &reader.adapters).copied().collect()
    }

    /// Delivers events. Those that no caller waits for are dropped.
    pub(super) fn deliver(&self, events: Vec<(u64, Event)>) -> Delivered {
        let mut inner = lock(&self.inner);
        let mut delivered = Delivered::default();
        for (id, event) in events {
            let Some(reader) = inner.generations.get_mut(&id) else { continue };
            if event.is_last() {
                let event = reader.checked_end(event);
                inner.end(id, event);
                delivered.is_news = true;
                continue;
            }
            match reader.hear(event) {
                Heard::News => delivered.is_news = true,
                Heard::Nothing => {}
                Heard::TooMuch => {
                    let lie = reader.lie();
                    inner.end(id, TokenEvent::Failed(lie));
                    delivered.too_long.push(id);
                }
            }
        }
        delivered
    }

    /// A request cannot be answered.
    pub(super) fn fail(&self, id: u64, failure: Failure) {
        lock(&self.inner).end(id, TokenEvent::Failed(failure));
    }

    /// Delivers an operation's answer. Says whether a caller waited for it.
    pub(super) fn answer(&self, id: u64, answer: Result<Answer, Failure>) -> bool {
        let waiting = lock(&self.inner).operations.remove(&id);
        waiting.is_some_and(|waiting| waiting.try_send(answer).is_ok())
    }

    /// Whether it has requests to answer.
    pub(super) fn is_answering(&self) -> bool {
        !lock(&self.inner).generations.is_empty()
    }

    /// Whether the worker has anything to do.
    pub(super) fn is_working(&self) -> bool {
        let inner = lock(&self.inner);
        inner.phase == WorkerPhase::Loading || !inner.generations.is_empty() || !inner.operations.is_empty()
    }

    /// The load is over.
    ///
    /// # Errors
    /// When the worker has died meanwhile.
    pub(super) fn serve(&self) -> Result<(), Failure> {
        let mut inner = lock(&self.inner);
        if let WorkerPhase::Ended(failure) = &inner.phase {
            return Err(failure.clone());
        }
        inner.phase = WorkerPhase::Serving;
        Ok(())
    }

    /// The worker is no longer wanted; callers that still wait hear so.
    pub(super) fn leave(&self) {
        let mut inner = lock(&self.inner);
        if !matches!(inner.phase, WorkerPhase::Ended(_)) {
            inner.phase = WorkerPhase::Leaving;
        }
        inner.end_all(&unloaded());
    }

    /// The worker is gone: all callers hear `failure`. Returns the phase in which that happened.
    pub(super) fn end(&self, failure: Failure) -> WorkerPhase {
        let mut inner = lock(&self.inner);
        inner.end_all(&failure);
        std::mem::replace(&mut inner.phase, WorkerPhase::Ended(failure))
    }

    /// Where the worker is in its life.
    pub(super) fn phase(&self) -> WorkerPhase {
        lock(&self.inner).phase.clone()
    }
}

impl Inner {
    fn end(&mut self, id: u64, event: TokenEvent) {
        if let Some(reader) = self.generations.remove(&id) {
            reader.end(event);
        }
    }

    fn end_all(&mut self, failure: &Failure) {
        for (_, reader) in self.generations.drain() {
            reader.end(TokenEvent::Failed(failure.clone()));
        }
        for (_, waiting) in self.operations.drain() {
            waiting.try_send(Err(failure.clone())).ok();
        }
    }
}

fn unloaded() -> Failure {
    Failure::new(ErrorKind::Unavailable, "the instance was unloaded")
        .with_hint("the next request loads it again")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use samovar_core::generation::Generation;

    use super::super::answer_reader::PROMPT_STEPS;
    use super::*;

    /// Of a worker that says more than was asked.
    fn endless() -> Failure {
        AnswerReader::of_text(Generation::channel(0).0).lie()
    }

    fn death() -> Failure {
        Failure::new(ErrorKind::EngineFailed, "it died")
    }

    #[test]
    fn everybody_who_waits_hears_of_the_end_once() {
        let pending_calls = PendingCalls::new();
        pending_calls.serve().unwrap();
        let (sender, mut generation) = Generation::channel(4);
        let id = pending_calls.enter_generation(sender).unwrap();
        let (reply, answer) = sync_channel(1);
        pending_calls.enter_operation(reply).unwrap();
        assert_eq!(pending_calls.end(death()), WorkerPhase::Serving);
        pending_calls.deliver(vec![(id, TokenEvent::Failed(death()).into())]);
        assert_eq!(generation.blocking_next(), Some(TokenEvent::Failed(death())));
        assert_eq!(generation.blocking_next(), None);
        assert_eq!(answer.recv().unwrap().unwrap_err(), death());
        assert!(answer.recv().is_err());
        let (sender, _generation) = Generation::channel(4);
        assert_eq!(pending_calls.enter_generation(sender).unwrap_err(), death());
    }

    #[test]
    fn an_answer_that_ended_hears_nothing_more() {
        let pending_calls = PendingCalls::new();
        let (sender, mut generation) = Generation::channel(4);
        let id = pending_calls.enter_generation(sender).unwrap();
        let token = |text: &str| TokenEvent::Token { text: text.to_owned(), logprob: None };
        let over = TokenEvent::Failed(Failure::new(ErrorKind::ContextExceeded, "long"));
        pending_calls.deliver(vec![
            (id, token("a").into()),
            (id, over.clone().into()),
            (id, token("b").into()),
        ]);
        pending_calls.end(death());
        assert_eq!(generation.blocking_next(), Some(token("a")));
        assert_eq!(generation.blocking_next(), Some(over));
        assert_eq!(generation.blocking_next(), None);
        assert!(!pending_calls.remove(id));
    }

    #[test]
    fn who_says_more_than_was_asked_is_ended_with_a_reason_and_told() {
        let pending_calls = PendingCalls::new();
        let (sender, mut generation) = Generation::channel(1);
        let id = pending_calls.enter_generation(sender).unwrap();
        let word = || TokenEvent::Token { text: "x".to_owned(), logprob: None };
        // The channel has room for five, one of which is kept for the end.
        assert_eq!(pending_calls.deliver((0..4).map(|_| (id, word().into())).collect()).too_long, [0; 0]);
        assert!(pending_calls.has(id));
        assert_eq!(pending_calls.deliver(vec![(id, word().into()), (id, word().into())]).too_long, [id]);
        assert!(!pending_calls.has(id));
        let heard: Vec<_> = std::iter::from_fn(|| generation.blocking_next()).collect();
        assert_eq!(heard.len(), 5);
        assert_eq!(heard.last(), Some(&TokenEvent::Failed(endless())));
    }

    #[test]
    fn a_reader_that_keeps_up_hears_no_more_than_was_asked() {
        let pending_calls = PendingCalls::new();
        let (sender, mut generation) = Generation::channel(2);
        let id = pending_calls.enter_generation(sender).unwrap();
        let word = || TokenEvent::Token { text: "x".to_owned(), logprob: None };
        let mut heard = 0;
        while pending_calls.deliver(vec![(id, word().into())]).is_news {
            assert_eq!(generation.blocking_next(), Some(word()));
            heard += 1;
        }
        assert_eq!(heard, 5, "two tokens, and what may stand before and after them");
        assert_eq!(generation.blocking_next(), Some(TokenEvent::Failed(endless())));
        assert_eq!(generation.blocking_next(), None);
    }

    #[test]
    fn what_nobody_waits_for_is_no_news_and_changes_nothing() {
        let pending_calls = PendingCalls::new();
        let (sender, mut generation) = Generation::channel(4);
        let id = pending_calls.enter_generation(sender).unwrap();
        let (reply, answer) = sync_channel(1);
        let operation = pending_calls.enter_operation(reply).unwrap();
        let word = || TokenEvent::Token { text: "x".to_owned(), logprob: None };
        let over = || TokenEvent::Failed(death());
        // Ids that were never given, that of an operation, and an answer to a request.
        for wrong in [0, operation, operation + 1, u64::MAX] {
            let events = vec![(wrong, word().into()), (wrong, over().into())];
            assert_eq!(pending_calls.deliver(events), Delivered::default(), "{wrong}");
        }
        for wrong in [0, id, operation + 1, u64::MAX] {
            assert!(!pending_calls.answer(wrong, Ok(Answer::Done)), "{wrong}");
        }
        assert!(pending_calls.has(id) && pending_calls.has(operation));
        // The second end of both, and whatever follows it.
        assert!(pending_calls.deliver(vec![(id, over().into()), (id, over().into())]).is_news);
        assert_eq!(
            pending_calls.deliver(vec![(id, word().into()), (id, over().into())]),
            Delivered::default()
        );
        assert!(
            pending_calls.answer(operation, Ok(Answer::Done))
                && !pending_calls.answer(operation, Ok(Answer::Size(1)))
        );
        assert_eq!(generation.blocking_next(), Some(over()));
        assert_eq!(generation.blocking_next(), None);
        assert!(matches!(answer.recv(), Ok(Ok(Answer::Done))) && answer.recv().is_err());
    }

    #[test]
    fn progress_is_news_only_when_it_is_further_than_before() {
        let pending_calls = PendingCalls::new();
        let (sender, _generation) = Generation::channel(4);
        let id = pending_calls.enter_generation(sender).unwrap();
        let tell = |computed| {
            pending_calls.deliver(vec![(id, TokenEvent::Prefilling { computed, of: 10 }.into())]).is_news
        };
        assert!(tell(5) && !tell(5) && !tell(3) && tell(6));
    }

    #[test]
    fn progress_by_a_hair_or_past_the_prompts_end_or_of_another_prompt_is_no_news() {
        let pending_calls = PendingCalls::new();
        let (sender, mut generation) = Generation::channel(4);
        let id = pending_calls.enter_generation(sender).unwrap();
        let tell = |computed, of| {
            pending_calls.deliver(vec![(id, TokenEvent::Prefilling { computed, of }.into())]).is_news
        };
        let of = 10 * PROMPT_STEPS;
        assert!(!tell(of + 1, of) && tell(10, of) && !tell(11, of) && !tell(19, of) && tell(20, of));
        assert!(!tell(1000, of - 1) && !tell(u32::MAX, u32::MAX));
        assert_eq!((1..=of).filter(|computed| tell(*computed, of)).count(), PROMPT_STEPS as usize - 2);
        assert_eq!(generation.blocking_next(), Some(TokenEvent::Prefilling { computed: 10, of }));
    }

    #[test]
    fn progress_that_nobody_reads_is_dropped_and_takes_no_place() {
        let pending_calls = PendingCalls::new();
        let (sender, mut generation) = Generation::channel(1);
        let id = pending_calls.enter_generation(sender).unwrap();
        let progress = |computed| TokenEvent::Prefilling { computed, of: 1000 };
        let told = (1..100).map(|computed| (id, progress(computed).into())).collect();
        assert_eq!(pending_calls.deliver(told).too_long, [0; 0]);
        let word = || TokenEvent::Token { text: "x".to_owned(), logprob: None };
        assert_eq!(pending_calls.deliver((0..3).map(|_| (id, word().into())).collect()).too_long, [0; 0]);
        pending_calls.end(death());
        let heard: Vec<_> = std::iter::from_fn(|| generation.blocking_next()).collect();
        assert_eq!((heard.len(), &heard[0]), (5, &progress(1)));
    }

    #[test]
    fn a_full_channel_still_has_room_for_a_death() {
        let pending_calls = PendingCalls::new();
        let (sender, mut generation) = Generation::channel(0);
        let id = pending_calls.enter_generation(sender).unwrap();
        let word = || TokenEvent::Token { text: String::new(), logprob: None };
        pending_calls.deliver((0..3).map(|_| (id, word().into())).collect());
        pending_calls.end(death());
        let heard: Vec<_> = std::iter::from_fn(|| generation.blocking_next()).collect();
        assert_eq!(heard.last(), Some(&TokenEvent::Failed(death())));
    }

    #[test]
    fn an_answer_that_nobody_reads_stays_until_its_reader_strikes_it() {
        let pending_calls = PendingCalls::new();
        let (sender, generation) = Generation::channel(4);
        let id = pending_calls.enter_generation(sender).unwrap();
        drop(generation);
        let word = TokenEvent::Token { text: String::new(), logprob: None };
        assert_eq!(pending_calls.deliver(vec![(id, word.into())]), Delivered::default());
        assert!(pending_calls.remove(id), "else the worker would not be told to stop");
    }

    #[test]
    fn a_flood_of_requests_meets_a_limit() {
        let pending_calls = PendingCalls::new();
        let (sender, _generation) = Generation::channel(1);
        for _ in 0..MAX_WAITING {
            pending_calls.enter_generation(sender.clone()).unwrap();
        }
        assert_eq!(pending_calls.enter_generation(sender).unwrap_err().kind, ErrorKind::Busy);
    }

    #[test]
    fn vectors_that_are_lies_end_their_request_alone_and_the_worker_is_told() {
        use samovar_core::embedding::{EmbedInput, EmbedOutput, EmbedRequest, Embedded, Truncate, Urgency};
        let pending_calls = PendingCalls::new();
        let request = EmbedRequest {
            inputs: vec![EmbedInput::Tokens(vec![1]); 2],
            output: EmbedOutput::Score,
            truncate: Truncate::Refuse,
            urgency: Urgency::Interactive,
        };
        let [(first, mut lied_to), (second, mut honest)] = [(); 2].map(|()| {
            let (events, generation) = Generation::channel_for_inputs(2);
            (pending_calls.enter_embeddings(events, Inputs::new(&request, 8)).unwrap(), generation)
        });
        let score = |index| Event::Embedded(Embedded { index, tokens: 1, was_cut: false, values: vec![0.5] });
        let said = vec![(first, score(0)), (second, score(1)), (first, score(0)), (second, score(0))];
        let delivered = pending_calls.deliver(said);
        assert!(delivered.is_news);
        assert_eq!(delivered.too_long, [first]);
        assert!(!pending_calls.has(first) && pending_calls.has(second));
        let heard: Vec<_> = std::iter::from_fn(|| lied_to.blocking_next()).collect();
        let Some(TokenEvent::Failed(failure)) = heard.last() else { panic!("{heard:?}") };
        assert_eq!((heard.len(), failure.kind), (2, ErrorKind::EngineFailed));
        pending_calls.end(death());
        let heard: Vec<_> = std::iter::from_fn(|| honest.blocking_next()).collect();
        assert_eq!((heard.len(), heard.last()), (3, Some(&TokenEvent::Failed(death()))));
    }
}
