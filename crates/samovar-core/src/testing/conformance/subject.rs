//! What is tested, how it is asked, and what its answers must look like whatever is asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::error::Failure;
use crate::footprint::LoadOptions;
use crate::generation::{
    Completion, Generation, GenerationRequest, Prompt, Sampling, TokenEvent, TokenLogprob,
};
use crate::model::{Descriptor, ModelFiles};
use crate::port::{Capabilities, Engine, Instance, LoadControl, LoadRequest, PackedFile};

/// How long anything may take on a slow and busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Alternatives asked for where answers are compared.
pub(super) const ALTERNATIVES: u32 = 5;

/// An engine with a model that it can load.
pub struct Subject {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The model's files.
    pub files: ModelFiles,
    /// Its packed file and the source written in it, where the layout needs one.
    pub packed: Option<(PathBuf, String)>,
    /// Its facts.
    pub descriptor: Descriptor,
    /// How to load it: at least 2 slots, at least 256 tokens of context. With a pooling where vectors or scores are tested.
    pub options: LoadOptions,
    /// Where two tokens' log-probabilities are at most so far apart, either may be chosen when the
    /// batch around them differs. 0 = answers are equal whatever runs beside them.
    pub tie_gap: f32,
}

/// Everything that came of one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// The tokens, where logprobs were asked for.
    pub tokens: Vec<TokenLogprob>,
    /// `Token` events.
    pub token_events: u32,
    /// How it ended.
    pub completion: Completion,
}

impl Subject {
    /// What can be done with the model.
    pub fn capabilities(&self) -> Capabilities {
        self.engine.capabilities(&self.descriptor)
    }

    /// How it is loaded.
    pub fn request<'a>(&'a self, control: &'a LoadControl) -> LoadRequest<'a> {
        let packed = self.packed.as_ref().map(|(path, source)| PackedFile { path, source });
        LoadRequest::new(&self.files, &self.descriptor, &self.options, control).with_packed(packed)
    }

    /// A fresh instance.
    pub fn load(&self) -> Arc<dyn Instance> {
        assert!(self.options.slots >= 2, "the suite needs two slots");
        assert!(self.options.context_tokens >= 256, "the suite needs 256 tokens of context");
        self.engine
            .load(self.request(&LoadControl::silent()))
            .unwrap_or_else(|failure| panic!("loading failed: {failure:?}"))
    }

    /// Checks that two answers to the same request are the same, up to choices between near ties.
    pub fn assert_same(&self, what: &str, expected: &Answer, answer: &Answer) {
        if self.tie_gap <= 0.0 || expected.tokens.is_empty() {
            assert_eq!(answer.text, expected.text, "{what}");
            return;
        }
        let differs = |(a, b): (&TokenLogprob, &TokenLogprob)| a.token != b.token;
        let Some(at) = expected.tokens.iter().zip(&answer.tokens).position(differs) else {
            assert_eq!(answer.tokens.len(), expected.tokens.len(), "{what}: one answer is longer");
            return;
        };
        let (ours, theirs) = (&expected.tokens[at], &answer.tokens[at]);
        let alternative = ours.top.iter().find(|other| other.token == theirs.token);
        let gap = alternative.map_or(f32::INFINITY, |other| ours.logprob - other.logprob);
        assert!(
            gap <= self.tie_gap,
            "{what}: token {at} is {} instead of {}, less likely by {gap}\nexpected {:?}\n     got {:?}",
            theirs.token,
            ours.token,
            expected.text,
            answer.text
        );
    }
}

/// A prompt of exactly `count` tokens of ordinary text; different for different `salt`.
pub(super) fn prompt(instance: &Arc<dyn Instance>, count: usize, salt: u32) -> Prompt {
    let sentence = |index: usize| {
        let subject = ["fox", "kettle", "owl", "river"][(index + salt as usize) % 4];
        format!("Once there was a {subject} with {} friends. ", index as u32 * 7 + salt * 13)
    };
    let text: String = (0..count).map(sentence).collect();
    let mut tokens = instance.tokenize(&text, true, false).expect("invariant: ordinary text has tokens");
    assert!(tokens.len() >= count, "text of {count} sentences has {} tokens", tokens.len());
    tokens.truncate(count);
    Prompt::Tokens(tokens)
}

/// A greedy request that goes on for `max_tokens` whatever the model says.
pub(super) fn greedy(prompt: Prompt, max_tokens: u32) -> GenerationRequest {
    GenerationRequest {
        sampling: Sampling::greedy(),
        max_tokens: Some(max_tokens),
        ignore_eos: true,
        logprobs: Some(ALTERNATIVES),
        reuse_prefix: false,
        ..GenerationRequest::new(prompt)
    }
}

/// Asks and waits for the whole answer.
pub(super) fn ask(instance: &Arc<dyn Instance>, request: GenerationRequest) -> Answer {
    collect(start(instance, request))
}

/// Asks and returns the events.
pub(super) fn start(instance: &Arc<dyn Instance>, request: GenerationRequest) -> Generation {
    instance.generate(request).unwrap_or_else(|failure| panic!("the request was refused: {failure:?}"))
}

/// Asks and waits for the whole answer, or for the refusal: at once, or as the only event.
pub(super) fn try_ask(instance: &Arc<dyn Instance>, request: GenerationRequest) -> Result<Answer, Failure> {
    let events = events(instance.generate(request)?);
    match events.as_slice() {
        [TokenEvent::Failed(failure)] => Err(failure.clone()),
        events => Ok(whole(events)),
    }
}

/// Asks for what cannot be had, and returns the refusal.
pub(super) fn refusal(instance: &Arc<dyn Instance>, request: GenerationRequest) -> Failure {
    match try_ask(instance, request) {
        Err(failure) => failure,
        Ok(answer) => panic!("an answer instead of a refusal: {answer:?}"),
    }
}

/// Reads an answer to its end and checks the order of its events.
pub(super) fn collect(generation: Generation) -> Answer {
    whole(&events(generation))
}

/// Every event of an answer.
pub(super) fn events(generation: Generation) -> Vec<TokenEvent> {
    within_limit("an answer", move || {
        let mut generation = generation;
        let mut events = Vec::new();
        while let Some(event) = generation.blocking_next() {
            events.push(event);
        }
        events
    })
}

/// The answer that these events are; checks their order.
fn whole(events: &[TokenEvent]) -> Answer {
    let progress = events.iter().take_while(|event| matches!(event, TokenEvent::Prefilling { .. })).count();
    let events = &events[progress..];
    assert!(matches!(events.first(), Some(TokenEvent::Prefilled { .. })), "begins with {:?}", events.first());
    let Some((TokenEvent::Done(completion), before)) = events.split_last() else {
        panic!("ends with {:?} instead of Done", events.last());
    };
    let mut answer =
        Answer { text: String::new(), tokens: Vec::new(), token_events: 0, completion: *completion };
    for event in &before[1..] {
        let TokenEvent::Token { text, logprob } = event else { panic!("{event:?} among the tokens") };
        answer.text.push_str(text);
        answer.tokens.extend(logprob.clone());
        answer.token_events += 1;
    }
    answer
}

/// Waits for the next event.
pub(super) fn next_event(mut generation: Generation) -> (Option<TokenEvent>, Generation) {
    within_limit("an event", move || (generation.blocking_next(), generation))
}

/// Runs `work` on a thread of its own and panics when it takes too long.
pub(super) fn within_limit<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = sync_channel(1);
    let thread = std::thread::spawn(move || sender.send(work()).ok());
    match receiver.recv_timeout(LIMIT) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => panic!("no {what} within {LIMIT:?}"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(_) => panic!("{what} ended without a result"),
        },
    }
}

/// Waits until the instance says that no slot is busy. There is no event for it, so it is asked.
pub(super) fn wait_until_idle(instance: &Arc<dyn Instance>) {
    let deadline = Instant::now() + LIMIT;
    while instance.measure().busy_slots > 0 {
        assert!(Instant::now() < deadline, "slots are still busy: {:?}", instance.measure());
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
