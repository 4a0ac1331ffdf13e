//! One request being served: from its prompt to its last event.
//!
//! ```text
//!   Unplaced ──share or open──► Prefill ──last prompt token──► Decode ──► finished
//!      └─ waits while another request computes the prefix that both share
//! ```
//!
//! How it chooses and says its next token is in `next_token`.

mod next_token;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;
use samovar_core::generation::may_tell_progress;
use samovar_core::{Completion, Failure, FinishReason, Scope, TokenEvent, TokenLogprob, Usage};
use samovar_prompt::answer::{Answer, Words};

use crate::adapter_set::AdapterSet;
use crate::binding::Binding;
use crate::drafts::Drafts;
use crate::kv::{Computed, Sequence};
use crate::last_event::{FinalEvent, send};
use crate::reading::Reading;
use crate::sampler::Sampler;
use crate::schedule::Work;
use crate::speculate::Costs;
use crate::thought::Thought;
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
    /// Never chosen.
    banned: Vec<LlamaToken>,
    answer: Answer,
    thought: Thought,
    binding: Option<Box<Binding>>,
    /// Of its last token, while others go on and its rules do not say yet what may follow.
    logits: Option<Vec<f32>>,
    /// Tokens that come next, whatever the model would say.
    forced: VecDeque<LlamaToken>,
    drafts: Drafts,
    usage: Usage,
    prefill_ms: f64,
    /// When progress was told last.
    told: Instant,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    /// The last event, said when the slot is free again.
    final_event: Option<TokenEvent>,
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
        let (reader, thought) = match ticket.reading.take() {
            Some(reading) => {
                let Reading { reader, budget_tokens, close, close_text, .. } = *reading;
                (Some((reader, close_text)), Thought::new(budget_tokens, close))
            }
            None => (None, Thought::default()),
        };
        for &token in &tokens {
            sampler.accept(token);
        }
        // What probabilities are asked for is computed one token at a time.
        let is_plain = !ticket.speculates || ticket.logprobs.is_some();
        Self {
            tokens,
            sequence: None,
            stops: VecDeque::new(),
            sampler,
            banned: banned.to_vec(),
            answer: Answer::new(&ticket.stop, reader),
            thought,
            binding: ticket.binding.take(),
            logits: None,
            forced: VecDeque::new(),
            drafts: Drafts::new(is_plain),
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
        // They come again.
        self.logits = None;
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
            Some(_) if self.is_held_up() => Work::Wait,
            Some(sequence) => {
                let end = self.stops.front().copied().unwrap_or(self.tokens.len());
                match end - sequence.computed() {
                    1 if self.first_token.is_some() => Work::Decode,
                    tokens => Work::Prefill { tokens },
                }
            }
        }
    }

    /// Whether it waits for its rules, and has its logits already.
    pub(crate) fn is_held_up(&self) -> bool {
        self.logits.is_some()
    }

    /// Whether its rules do not even say by then what may follow.
    pub(crate) fn has_late_rules(&mut self, by: Instant) -> bool {
        let Some(binding) = &mut self.binding else { return false };
        !binding.is_known_within(by.saturating_duration_since(Instant::now()))
    }

    /// Keeps the logits of its last token until its rules say what may follow.
    pub(crate) fn hold_up(&mut self, logits: &[f32]) {
        self.logits = Some(logits.to_vec());
    }

    /// The logits that it kept, if its rules say now what may follow, or if it `has_time` until they do.
    pub(crate) fn take_logits(&mut self, has_time: bool) -> Option<Vec<f32>> {
        let binding = self.binding.as_mut().filter(|_| self.logits.is_some())?;
        let is_ready = has_time || binding.is_known_within(Duration::ZERO);
        self.logits.take_if(|_| is_ready)
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

    /// Drafts what may follow its last token, at most so many tokens.
    pub(crate) fn make_draft(&mut self, most: usize, costs: &Costs) {
        let most = most.min(self.draftable_tokens());
        self.drafts.make(&self.tokens, most, costs);
    }

    /// Tokens that a draft may have: the step says one in any case.
    pub(crate) fn draftable_tokens(&self) -> usize {
        if self.drafts.is_off() { 0 } else { self.left_tokens().saturating_sub(1) }
    }

    /// Its drafts.
    pub(crate) fn drafts(&self) -> &Drafts {
        &self.drafts
    }

    pub(crate) fn drafts_mut(&mut self) -> &mut Drafts {
        &mut self.drafts
    }

    /// Tokens that it may still say.
    fn left_tokens(&self) -> usize {
        self.ticket.max_tokens.saturating_sub(self.usage.completion_tokens) as usize
    }

    /// Ends the answer: shows what is held back, and says why.
    pub(crate) fn finish(&mut self, finish: FinishReason) -> SlotProgress {
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
        let completion = Completion { finish, stopped_by, usage, prefill_ms, decode_ms };
        self.final_event = Some(TokenEvent::Done(completion));
        SlotProgress::Ends
    }

    /// Breaks the answer off.
    pub(crate) fn fail(&mut self, failure: impl Into<Failure>) -> SlotProgress {
        self.final_event = Some(TokenEvent::Failed(failure.into()));
        SlotProgress::Ends
    }

    /// Keeps what it computed from all other requests.
    pub(crate) fn forget_prefix(&mut self) {
        self.ticket.reuse_prefix = false;
    }

    /// What remains of it in the cache, the tokens of that, and its last word.
    pub(crate) fn into_parts(self) -> (Option<Sequence>, Computed, FinalEvent) {
        let final_event = FinalEvent::new(self.ticket.events, self.final_event);
        let computed =
            Computed { tokens: self.tokens, adapters: self.ticket.adapters, scope: self.ticket.scope };
        (self.sequence, computed, final_event)
    }

    fn say(&self, words: Words, logprob: Option<TokenLogprob>) {
        for event in words.events(logprob) {
            self.send(event);
        }
    }

    fn send(&self, event: TokenEvent) {
        send(&self.ticket.events, event);
    }
}
