//! One request being served: from its prompt to its last event.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use samovar_core::generation::may_tell_progress;
use samovar_core::logits::Distribution;
use samovar_core::{Completion, Failure, FinishReason, Sampling, Scope, TokenEvent, TokenLogprob, Usage};
use samovar_prompt::answer::{Answer, Words};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::error::Error;
use crate::prompts::Reading;
use crate::sampler::Sampler;
use crate::vocabulary::Vocabulary;

/// Between two reports of a prompt's progress.
const PROGRESS: Duration = Duration::from_millis(250);

/// A request with its prompt tokenized and its limits settled.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// At least one token, fewer than the context holds.
    pub(crate) prompt: Vec<u32>,
    pub(crate) sampling: Sampling,
    /// Tokens to generate at most; with the prompt they fit the context.
    pub(crate) max_tokens: u32,
    pub(crate) stop: Vec<String>,
    pub(crate) reading: Option<Box<Reading>>,
    pub(crate) logprobs: Option<u32>,
    pub(crate) ignore_eos: bool,
    pub(crate) reuse_prefix: bool,
    pub(crate) scope: Scope,
    pub(crate) arrived: Instant,
    /// Holds every event of the answer, so sending never blocks.
    pub(crate) events: Sender<TokenEvent>,
}

impl Ticket {
    /// Ends a request that never ran.
    pub(crate) fn refuse(self, error: Error) {
        send(&self.events, TokenEvent::Failed(error.into()));
    }
}

/// A request that occupies a sequence.
#[derive(Debug)]
pub(crate) struct Slot {
    events: Sender<TokenEvent>,
    /// Prompt and answer; the last one is not computed yet.
    tokens: Vec<u32>,
    /// How many of them are computed.
    pub(crate) computed: usize,
    max_tokens: u32,
    logprobs: Option<u32>,
    ignore_eos: bool,
    sampler: Sampler,
    answer: Answer,
    /// Tokens that come next, whatever the model would say.
    forced: VecDeque<u32>,
    close: Vec<u32>,
    thought_tokens_most: Option<u32>,
    /// What ends its thought has been said, and it is not over yet.
    is_closing: bool,
    usage: Usage,
    arrived: Instant,
    prefill_ms: f64,
    told: Instant,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    /// The last event, said when the slot is free again.
    final_event: Option<TokenEvent>,
}

impl Slot {
    /// A slot for a request, of whose prompt so many tokens are computed already; of these, so many are told.
    pub(crate) fn new(ticket: Ticket, computed: usize, told: usize, vocabulary: &Vocabulary) -> Self {
        let banned = if ticket.ignore_eos { vocabulary.ends_answer() } else { &[] };
        let mut sampler = Sampler::new(&ticket.sampling, banned);
        for token in &ticket.prompt {
            sampler.accept(*token);
        }
        let mut thought = (Vec::new(), None);
        let reader = ticket.reading.map(|reading| {
            let Reading { reader, close_text, close, budget_tokens } = *reading;
            thought = (close, budget_tokens);
            (reader, close_text)
        });
        let usage = Usage {
            prompt_tokens: ticket.prompt.len() as u32,
            cached_tokens: told as u32,
            ..Usage::default()
        };
        Self {
            events: ticket.events,
            tokens: ticket.prompt,
            computed,
            max_tokens: ticket.max_tokens,
            logprobs: ticket.logprobs,
            ignore_eos: ticket.ignore_eos,
            sampler,
            answer: Answer::new(&ticket.stop, reader),
            forced: VecDeque::new(),
            close: thought.0,
            thought_tokens_most: thought.1,
            is_closing: false,
            usage,
            arrived: ticket.arrived,
            prefill_ms: 0.0,
            told: ticket.arrived,
            first_token: None,
            last_token: None,
            final_event: None,
        }
    }

    /// Whether the caller has gone.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// What is still to be computed; at least one token.
    pub(crate) fn rest(&self) -> &[u32] {
        &self.tokens[self.computed..]
    }

    /// Tells how far its prompt is, a few times a second.
    pub(crate) fn tell_progress(&mut self) {
        if self.first_token.is_none() && self.told.elapsed() >= PROGRESS && may_tell_progress(&self.events, 0)
        {
            self.told = Instant::now();
            let (computed, of) = (self.computed as u32, self.usage.prompt_tokens);
            send(&self.events, TokenEvent::Prefilling { computed, of });
        }
    }

    /// Takes the logits of its last token: chooses the next one and says it. Whether the answer goes on.
    pub(crate) fn advance(&mut self, logits: &[f32], vocabulary: &Vocabulary) -> bool {
        let now = Instant::now();
        if self.first_token.is_none() {
            self.first_token = Some(now);
            self.prefill_ms = now.duration_since(self.arrived).as_secs_f64() * 1e3;
            send(&self.events, TokenEvent::Prefilled { usage: self.usage, prefill_ms: self.prefill_ms });
        }
        self.last_token = Some(now);
        if self.max_tokens == 0 {
            return self.finish(FinishReason::Length);
        }
        self.bound_thought();
        let token = match self.forced.pop_front() {
            Some(token) => token,
            None => match self.sampler.sample(logits) {
                Some(token) => token,
                None => return self.fail(Error::NoToken),
            },
        };
        if !self.ignore_eos && vocabulary.ends_answer().contains(&token) {
            return self.end(token, vocabulary);
        }
        self.take(token, logits, vocabulary)
    }

    /// Ends a thought that has had its tokens. Nothing is put between the bytes of a character.
    fn bound_thought(&mut self) {
        let is_spent = self.thought_tokens_most.is_some_and(|most| self.usage.thinking_tokens >= most);
        let may_close = self.answer.is_thinking() && self.answer.is_whole() && !self.is_closing;
        if is_spent && may_close && self.forced.is_empty() {
            self.forced.extend(&self.close);
            self.is_closing = true;
        }
    }

    /// The model has ended its answer, and perhaps a call at the same time.
    fn end(&mut self, token: u32, vocabulary: &Vocabulary) -> bool {
        if let Some(name) = vocabulary.control_text(token).filter(|name| self.answer.wants_control(name)) {
            let said = self.answer.push(name.as_bytes());
            if !said.words.is_empty() {
                self.say(said.words, None);
            }
        }
        self.finish(FinishReason::Stop)
    }

    fn take(&mut self, token: u32, logits: &[f32], vocabulary: &Vocabulary) -> bool {
        self.usage.completion_tokens += 1;
        self.sampler.accept(token);
        self.tokens.push(token);
        let wanted = vocabulary.control_text(token).filter(|name| self.answer.wants_control(name));
        let said = self.answer.push(wanted.map_or_else(|| vocabulary.bytes(token, false), str::as_bytes));
        self.usage.thinking_tokens += u32::from(said.is_thought);
        self.is_closing &= self.answer.is_thinking();
        // Those of thoughts and calls belong to no text.
        let asked = self.logprobs.filter(|_| said.is_text);
        let logprob = asked.map(|count| describe(token, logits, count, vocabulary));
        self.say(said.words, logprob);
        if said.is_last {
            return self.finish(FinishReason::Stop);
        }
        if self.usage.completion_tokens >= self.max_tokens {
            return self.finish(FinishReason::Length);
        }
        true
    }

    /// Ends the answer: shows what is held back, and says why.
    fn finish(&mut self, finish: FinishReason) -> bool {
        let (words, finish) = self.answer.end(finish);
        let stopped_by = self.answer.stopped_by().filter(|_| finish == FinishReason::Stop);
        if !words.is_empty() {
            self.say(words, None);
        }
        let decode_ms = match (self.first_token, self.last_token) {
            (Some(first), Some(last)) => last.duration_since(first).as_secs_f64() * 1e3,
            _ => 0.0,
        };
        let (usage, prefill_ms) = (self.usage, self.prefill_ms);
        self.final_event =
            Some(TokenEvent::Done(Completion { finish, stopped_by, usage, prefill_ms, decode_ms }));
        false
    }

    /// Breaks the answer off.
    pub(crate) fn fail(&mut self, failure: impl Into<Failure>) -> bool {
        self.final_event = Some(TokenEvent::Failed(failure.into()));
        false
    }

    /// Says its last word. A caller that hears it finds the slot free.
    pub(crate) fn say_end(self) {
        if let Some(event) = self.final_event {
            send(&self.events, event);
        }
    }

    fn say(&self, words: Words, logprob: Option<TokenLogprob>) {
        for event in words.events(logprob) {
            send(&self.events, event);
        }
    }
}

/// A token with its probability and the alternatives to it. Its own bytes are those of the answer; alternatives are named whatever
/// they are.
fn describe(token: u32, logits: &[f32], count: u32, vocabulary: &Vocabulary) -> TokenLogprob {
    let distribution = Distribution::new(logits);
    let entry = |token: u32, logprob: f32, is_named: bool| TokenLogprob {
        token,
        bytes: vocabulary.bytes(token, is_named).to_vec(),
        logprob,
        top: Vec::new(),
    };
    let top = distribution.top(count as usize).into_iter();
    let top = top.map(|(token, logprob)| entry(token, logprob, true)).collect();
    TokenLogprob { top, ..entry(token, distribution.logprob(token), false) }
}

/// Sends an event to the reader, if it still listens.
pub(crate) fn send(events: &Sender<TokenEvent>, event: TokenEvent) {
    if let Err(TrySendError::Full(_)) = events.try_send(event) {
        tracing::error!("an answer's channel is full, though it has room for every event of the answer");
    }
}
