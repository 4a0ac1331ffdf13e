//! One request being served: from its prompt to its last event.
//!
//! ```text
//!   Unplaced ──share or open──► Prefill ──last prompt token──► Decode ──► finished
//!      └─ waits while another request computes the prefix that both share
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use samovar_core::generation::may_tell_progress;
use samovar_core::{Completion, FinishReason, Scope, TokenEvent, TokenLogprob, Usage};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::adapter_set::AdapterSet;
use crate::error::Error;
use crate::kv::{Computed, Sequence};
use crate::logprobs::Distribution;
use crate::sampler::Sampler;
use crate::schedule::Work;
use crate::stop::TextGate;
use crate::ticket::Ticket;

/// Between two reports of a prompt's progress.
const PROGRESS: Duration = Duration::from_millis(250);

/// A request that occupies a slot.
#[derive(Debug)]
pub(crate) struct Slot {
    ticket: Ticket,
    /// Prompt and answer; the last one is not computed yet.
    tokens: Vec<LlamaToken>,
    /// `None` while its place in the cache is not decided.
    sequence: Option<Sequence>,
    /// Places in the prompt, in their order, at which its state is to be kept.
    stops: VecDeque<usize>,
    sampler: Sampler,
    gate: TextGate,
    usage: Usage,
    prefill_ms: f64,
    /// When progress was told last.
    told: Instant,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    /// The last event, said when the slot is free again.
    final_event: Option<TokenEvent>,
}

/// The last word of an answer.
#[derive(Debug)]
#[must_use = "an answer without a last event looks like a dead engine"]
pub(crate) struct FinalEvent {
    events: Sender<TokenEvent>,
    event: Option<TokenEvent>,
}

impl FinalEvent {
    /// The last event for the caller that hears these.
    pub(crate) fn new(events: Sender<TokenEvent>, event: TokenEvent) -> Self {
        Self { events, event: Some(event) }
    }

    /// Says it. A caller that hears it finds the slot free.
    pub(crate) fn say(self) {
        if let Some(event) = self.event {
            send(&self.events, event);
        }
    }
}

/// What became of a slot after a token.
#[derive(Debug, PartialEq)]
pub(crate) enum SlotProgress {
    /// It goes on.
    Continues,
    /// Its answer is complete, or it has no reader any more.
    Ends,
}

impl Slot {
    /// A slot for a ticket; `banned` tokens are never chosen.
    pub(crate) fn new(mut ticket: Ticket, banned: &[LlamaToken]) -> Self {
        let mut sampler = Sampler::new(&ticket.sampling, banned);
        let tokens = std::mem::take(&mut ticket.prompt);
        for &token in &tokens {
            sampler.accept(token);
        }
        Self {
            tokens,
            sequence: None,
            stops: VecDeque::new(),
            sampler,
            gate: TextGate::new(&ticket.stop),
            usage: Usage::default(),
            prefill_ms: 0.0,
            told: ticket.arrived,
            first_token: None,
            last_token: None,
            final_event: None,
            ticket,
        }
        .counted()
    }

    fn counted(mut self) -> Self {
        self.usage.prompt_tokens = self.tokens.len() as u32;
        self
    }

    pub(crate) fn tokens(&self) -> &[LlamaToken] {
        &self.tokens
    }

    pub(crate) fn sequence(&self) -> Option<&Sequence> {
        self.sequence.as_ref()
    }

    pub(crate) fn sequence_mut(&mut self) -> Option<&mut Sequence> {
        self.sequence.as_mut()
    }

    pub(crate) fn adapters(&self) -> &AdapterSet {
        &self.ticket.adapters
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.ticket.scope
    }

    pub(crate) fn is_probe(&self) -> bool {
        self.ticket.is_probe
    }

    pub(crate) fn reuses_prefix(&self) -> bool {
        self.ticket.reuse_prefix
    }

    /// Whether the caller has gone.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.ticket.events.is_closed()
    }

    /// Gives it a place in the cache, with whatever is computed there already. Of that, no more than `own_tokens` are
    /// its client's own, who is told of no others.
    pub(crate) fn place(&mut self, sequence: Sequence, own_tokens: usize) {
        if self.first_token.is_none() {
            self.usage.cached_tokens = sequence.computed().min(own_tokens) as u32;
        }
        self.sequence = Some(sequence);
    }

    /// The prompt is computed up to each of these places before it goes on.
    pub(crate) fn stop_at(&mut self, stops: impl IntoIterator<Item = usize>) {
        self.stops = stops.into_iter().collect();
    }

    /// Takes its place in the cache away: its prompt, and what it has said, are computed again when it has another.
    pub(crate) fn begin_anew(&mut self) -> Option<Sequence> {
        self.stops.clear();
        self.sequence.take()
    }

    /// What it has computed, if that is to be kept now.
    pub(crate) fn checkpoint(&mut self) -> Option<Computed> {
        let computed = self.computed();
        if self.stops.front().is_none_or(|stop| *stop > computed) {
            return None;
        }
        self.stops.pop_front();
        let tokens = self.tokens[..computed].to_vec();
        self.reuses_prefix().then(|| Computed {
            tokens,
            adapters: self.adapters().clone(),
            scope: *self.scope(),
        })
    }

    /// Tokens in the cache.
    pub(crate) fn computed(&self) -> usize {
        self.sequence.as_ref().map_or(0, Sequence::computed)
    }

    /// What it has to compute next.
    pub(crate) fn work(&self) -> Work {
        match &self.sequence {
            None => Work::Wait,
            Some(sequence) => {
                let end = self.stops.front().copied().unwrap_or(self.tokens.len());
                match end - sequence.computed() {
                    1 if self.first_token.is_some() => Work::Decode,
                    tokens => Work::Prefill { tokens },
                }
            }
        }
    }

    /// Tells how far its prompt is, a few times a second.
    pub(crate) fn tell_progress(&mut self) {
        let events = &self.ticket.events;
        if self.first_token.is_none() && self.told.elapsed() >= PROGRESS && may_tell_progress(events, 0) {
            self.told = Instant::now();
            let (computed, of) = (self.computed() as u32, self.usage.prompt_tokens);
            self.send(TokenEvent::Prefilling { computed, of });
        }
    }

    /// Takes the logits of its last token: chooses the next one and says it.
    pub(crate) fn advance(&mut self, logits: &[f32], vocab: &LlamaVocab<'_>) -> SlotProgress {
        let now = Instant::now();
        if self.first_token.is_none() {
            self.first_token = Some(now);
            self.prefill_ms = now.duration_since(self.ticket.arrived).as_secs_f64() * 1e3;
            self.send(TokenEvent::Prefilled { usage: self.usage, prefill_ms: self.prefill_ms });
        }
        self.last_token = Some(now);
        if self.ticket.max_tokens == 0 {
            return self.finish(FinishReason::Length);
        }
        let Some(token) = self.sampler.sample(logits) else { return self.fail(Error::NoToken) };
        if !self.ticket.ignore_eos && vocab.is_eog(token) {
            return self.finish(FinishReason::Stop);
        }
        self.usage.completion_tokens += 1;
        self.sampler.accept(token);
        self.tokens.push(token);
        let passed = self.gate.push(&vocab.token_to_piece(token, false, None));
        let logprob = self.ticket.logprobs.map(|count| describe(token, logits, count, vocab));
        self.send(TokenEvent::Token { text: passed.text, logprob });
        if passed.is_stopped {
            self.finish(FinishReason::Stop)
        } else if self.usage.completion_tokens >= self.ticket.max_tokens {
            self.finish(FinishReason::Length)
        } else {
            SlotProgress::Continues
        }
    }

    /// Ends the answer: shows what is held back, and says why.
    pub(crate) fn finish(&mut self, finish: FinishReason) -> SlotProgress {
        let text = self.gate.flush();
        if !text.is_empty() {
            self.send(TokenEvent::Token { text, logprob: None });
        }
        let decode_ms = match (self.first_token, self.last_token) {
            (Some(first), Some(last)) => last.duration_since(first).as_secs_f64() * 1e3,
            _ => 0.0,
        };
        let (usage, prefill_ms) = (self.usage, self.prefill_ms);
        self.final_event = Some(TokenEvent::Done(Completion { finish, usage, prefill_ms, decode_ms }));
        SlotProgress::Ends
    }

    /// Breaks the answer off.
    pub(crate) fn fail(&mut self, error: Error) -> SlotProgress {
        self.final_event = Some(TokenEvent::Failed(error.into()));
        SlotProgress::Ends
    }

    /// Keeps what it computed from all other requests.
    pub(crate) fn forget_prefix(&mut self) {
        self.ticket.reuse_prefix = false;
    }

    /// What remains of it in the cache, the tokens of that, and its last word.
    pub(crate) fn into_parts(self) -> (Option<Sequence>, Computed, FinalEvent) {
        let final_event = FinalEvent { events: self.ticket.events, event: self.final_event };
        let computed =
            Computed { tokens: self.tokens, adapters: self.ticket.adapters, scope: self.ticket.scope };
        (self.sequence, computed, final_event)
    }

    fn send(&self, event: TokenEvent) {
        send(&self.ticket.events, event);
    }
}

/// Sends an event to the reader, if it still listens.
pub(crate) fn send(events: &Sender<TokenEvent>, event: TokenEvent) {
    if let Err(TrySendError::Full(_)) = events.try_send(event) {
        tracing::error!("an answer's channel is full, though it has room for every event of the answer");
    }
}

/// A token with its probability and the alternatives to it. Its own bytes are those of the answer, where
/// control tokens show nothing; alternatives are named whatever they are.
fn describe(token: LlamaToken, logits: &[f32], count: u32, vocab: &LlamaVocab<'_>) -> TokenLogprob {
    let distribution = Distribution::new(logits);
    let entry = |token: LlamaToken, logprob: f32, is_named: bool| TokenLogprob {
        token: token.0 as u32,
        bytes: vocab.token_to_piece(token, is_named, None),
        logprob,
        top: Vec::new(),
    };
    let top = distribution.top(count as usize).into_iter();
    let top = top.map(|(token, logprob)| entry(LlamaToken(token as i32), logprob, true)).collect();
    TokenLogprob { top, ..entry(token, distribution.logprob(token.0 as u32), false) }
}
