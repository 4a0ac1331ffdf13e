//! The next token of one request: sampled, or what must come; and what its caller hears of it.
//!
//! ```text
//!   logits ─► must something come? ─ no ─► sample what is allowed ─► end? ─ no ─► say it ─► stopped, long enough, over?
//!                     └ yes ──────────────────────────────────────────────────────►┘
//! ```

use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use samovar_core::{Failure, FinishReason, TokenEvent};

use super::{Slot, SlotProgress};
use crate::binding::{Binding, Turn};
use crate::error::Error;
use crate::logprobs::describe;

/// So long the loop waits for rules that may tell what must come. They usually take a tenth of it, and a step a hundred times
/// that. A test waits until they are there.
const AT_ONCE: Duration = if cfg!(test) { Duration::from_secs(60) } else { Duration::from_micros(300) };

impl Slot {
    /// Takes the logits of its last token: chooses the next one and says it, or says all that must come.
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
        match self.turn() {
            Ok(Turn::Sample) => self.sample(logits, vocab),
            Ok(Turn::Forced) => self.say_forced(logits, vocab),
            Ok(Turn::Finished) => self.finish(FinishReason::Stop),
            Err(failure) => self.fail(failure),
        }
    }

    /// What comes next. What must come is in `forced` then.
    fn turn(&mut self) -> Result<Turn, Failure> {
        if self.forced.is_empty() {
            self.bound_thought()?;
        }
        if !self.forced.is_empty() {
            return Ok(Turn::Forced);
        }
        match &mut self.binding {
            Some(binding) => binding.turn(&mut self.forced),
            None => Ok(Turn::Sample),
        }
    }

    /// Ends a thought that has had its tokens, where that may be: nothing is put between the bytes of a character, nor where
    /// the rules of the answer allow something else only.
    fn bound_thought(&mut self) -> Result<(), Failure> {
        let is_spent = self.answer.is_thinking() && self.thought.is_spent(self.usage.thinking_tokens);
        if !is_spent || !self.answer.is_whole() {
            return Ok(());
        }
        let close = self.thought.close();
        let most = self.left_tokens().saturating_sub(close.len());
        let may_be = match &mut self.binding {
            Some(binding) => binding.put(close, most)?,
            None => true,
        };
        if may_be {
            self.forced.extend(close);
            self.thought.note_closing();
        }
        Ok(())
    }

    fn sample(&mut self, logits: &[f32], vocab: &LlamaVocab<'_>) -> SlotProgress {
        let allowed = self.binding.as_deref().and_then(Binding::allowed);
        let Some(mut token) = self.sampler.sample(logits, allowed) else {
            // Where no token may end the answer, it ends when nothing else may come.
            let is_at_end = allowed.is_some_and(|allowed| self.banned.iter().any(|end| allowed.has(*end)));
            return if is_at_end { self.finish(FinishReason::Stop) } else { self.fail(Error::NoToken) };
        };
        if self.is_before_binding() {
            match self.within_thought(token, logits, vocab) {
                Some(within) => token = within,
                None => return self.fail(Error::NoToken),
            }
        }
        if !self.ticket.ignore_eos && vocab.is_eog(token) {
            return self.end(token, logits, vocab);
        }
        let most = self.left_tokens().saturating_sub(1);
        if let Some(binding) = &mut self.binding {
            self.forced.extend(binding.choose(token, vocab.is_control(token), most));
        }
        match self.take(token, logits, vocab) {
            SlotProgress::Continues => self.go_on_at_once(logits, vocab),
            SlotProgress::Ends => SlotProgress::Ends,
        }
    }

    /// Says what must come behind the token that was just said, or ends, if the rules tell it almost at once, as they mostly do:
    /// otherwise a step would compute that token alone.
    fn go_on_at_once(&mut self, logits: &[f32], vocab: &LlamaVocab<'_>) -> SlotProgress {
        let is_alone = self.ticket.logprobs.is_some() || self.is_before_binding();
        let binding = self.binding.as_mut().filter(|_| !is_alone);
        if !binding.is_some_and(|binding| binding.is_known_within(AT_ONCE)) {
            return SlotProgress::Continues;
        }
        match self.turn() {
            Ok(Turn::Sample) => SlotProgress::Continues,
            Ok(Turn::Forced) => self.say_forced(logits, vocab),
            Ok(Turn::Finished) => self.finish(FinishReason::Stop),
            Err(failure) => self.fail(failure),
        }
    }

    /// Whether a thought comes before what is bound.
    fn is_before_binding(&self) -> bool {
        self.binding.as_deref().is_some_and(Binding::is_waiting)
    }

    /// This token, or another one where it would end the thought and say something behind it, which nothing would bind.
    fn within_thought(
        &mut self,
        sampled: LlamaToken,
        logits: &[f32],
        vocab: &LlamaVocab<'_>,
    ) -> Option<LlamaToken> {
        let mut token = sampled;
        let mut others = Vec::new();
        while self.answer.would_pass_thought(&self.piece(token, vocab)) {
            if others.is_empty() {
                others = logits.to_vec();
            }
            others[token.0 as usize] = f32::NEG_INFINITY;
            token = self.sampler.sample(&others, None)?;
        }
        Some(token)
    }

    /// The model has ended its answer. Where that is bound and has not begun, its thought ends, and it must answer still.
    fn end(&mut self, token: LlamaToken, logits: &[f32], vocab: &LlamaVocab<'_>) -> SlotProgress {
        if self.is_before_binding() {
            if self.thought.can_close() {
                self.forced.extend(self.thought.close());
                self.thought.note_closing();
                return self.say_forced(logits, vocab);
            }
            let most = self.left_tokens();
            if let Some(binding) = &mut self.binding {
                binding.begin(most);
            }
            return self.advance(logits, vocab);
        }
        // It may end a call at the same time.
        let name = vocab.token_to_piece(token, true, None);
        if std::str::from_utf8(&name).is_ok_and(|name| self.answer.wants_control(name)) {
            let said = self.answer.push(&name);
            if !said.words.is_empty() {
                self.say(said.words, None);
            }
        }
        self.finish(FinishReason::Stop)
    }

    /// Says what must come: all of it, to be computed in one batch, or one token after the other, if each is to have the
    /// probability that the model gave it.
    fn say_forced(&mut self, logits: &[f32], vocab: &LlamaVocab<'_>) -> SlotProgress {
        while let Some(token) = self.forced.pop_front() {
            if self.take(token, logits, vocab) == SlotProgress::Ends {
                return SlotProgress::Ends;
            }
            if self.ticket.logprobs.is_some() {
                break;
            }
        }
        if self.binding.as_deref().is_some_and(Binding::is_finished) {
            return self.finish(FinishReason::Stop);
        }
        SlotProgress::Continues
    }

    /// Takes a token into the answer and says it.
    fn take(&mut self, token: LlamaToken, logits: &[f32], vocab: &LlamaVocab<'_>) -> SlotProgress {
        let is_before_binding = self.is_before_binding();
        self.usage.completion_tokens += 1;
        self.sampler.accept(token);
        self.tokens.push(token);
        let piece = self.piece(token, vocab);
        let said = self.answer.push(&piece);
        self.usage.thinking_tokens += u32::from(said.is_thought);
        if is_before_binding && said.words.have_text() {
            return self.fail(Error::Unbound);
        }
        // Those of thoughts and calls belong to no text: clients lay them over the text.
        let asked = self.ticket.logprobs.filter(|_| said.is_text);
        let logprob = asked.map(|count| describe(token, logits, count, vocab));
        self.say(said.words, logprob);
        if said.is_last {
            return self.finish(FinishReason::Stop);
        }
        if self.usage.completion_tokens >= self.ticket.max_tokens {
            return self.finish(FinishReason::Length);
        }
        if !self.answer.is_thinking() {
            self.thought.note_end();
            let most = self.left_tokens();
            if let Some(binding) = self.binding.as_mut().filter(|_| self.forced.is_empty()) {
                binding.begin(most);
            }
        }
        SlotProgress::Continues
    }

    /// What a token adds to the answer: nothing, if it is a control token, unless its text is one of the marks that are read.
    fn piece(&self, token: LlamaToken, vocab: &LlamaVocab<'_>) -> Vec<u8> {
        let piece = vocab.token_to_piece(token, false, None);
        if piece.is_empty() && self.answer.is_read() {
            let name = vocab.token_to_piece(token, true, None);
            if std::str::from_utf8(&name).is_ok_and(|name| self.answer.wants_control(name)) {
                return name;
            }
        }
        piece
    }
}
