//! One request on its own thread: it waits for a slot, speaks, and ends as the script or its client says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::instance::{Shared, lock};
use super::script::{Recital, event, is_thought};
use super::text::{Shown, Withheld};
use super::vocabulary;
use super::voice::{Choice, Voice};
use crate::error::{ErrorKind, Failure};
use crate::generation::{Completion, FinishReason, GenerationRequest, TokenEvent, Usage, may_tell_progress};
use crate::testing::gate::Gate;

/// Prompt tokens between two looks at cancellation.
const PREFILL_CHUNK: usize = 64;
/// Between two reports of a prompt's progress.
const PROGRESS: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(2);

/// One request on its own thread.
pub(super) struct Answer {
    pub(super) shared: Arc<Shared>,
    pub(super) request: GenerationRequest,
    pub(super) prompt: Vec<u32>,
    /// The tokens that a constraint allows.
    pub(super) only: Option<Vec<u32>>,
    pub(super) max_tokens: u32,
    pub(super) sender: mpsc::Sender<TokenEvent>,
    pub(super) ticket: u64,
    pub(super) arrived: Instant,
}

/// Why a request ended without `Done`.
enum Broken {
    /// The reader has gone.
    Left,
    /// The instance was dropped, parked or killed.
    Instance(Failure),
    /// The instance died and says nothing.
    Silent,
}

impl Answer {
    pub(super) fn run(self) {
        let outcome = self.wait_for_slot().and_then(|()| {
            let outcome = self.speak();
            self.release_slot();
            outcome
        });
        let counted = |finished: u64, cancelled: u64| {
            self.shared.ledger.change(|counts| {
                counts.generations_finished += finished;
                counts.generations_cancelled += cancelled;
            });
        };
        match outcome {
            Ok(completion) => {
                counted(1, 0);
                self.send(TokenEvent::Done(completion)).ok();
            }
            Err(Broken::Left) => counted(0, 1),
            Err(Broken::Instance(failure)) => {
                self.send(TokenEvent::Failed(failure)).ok();
            }
            Err(Broken::Silent) => (),
        }
    }

    fn send(&self, event: TokenEvent) -> Result<(), Broken> {
        // The channel holds the whole answer: it can only be closed, never full.
        self.sender.try_send(event).map_err(|_| Broken::Left)
    }

    fn check(&self) -> Result<(), Broken> {
        if self.sender.is_closed() {
            return Err(Broken::Left);
        }
        match self.shared.check_usable() {
            Ok(()) => Ok(()),
            Err(failure) if failure.kind == ErrorKind::EngineFailed => Err(Broken::Silent),
            Err(failure) => Err(Broken::Instance(failure)),
        }
    }

    /// Blocks until it is this request's turn; requests are served in the order of their arrival.
    fn wait_for_slot(&self) -> Result<(), Broken> {
        let mut state = lock(&self.shared.state);
        let outcome = loop {
            if let Err(broken) = self.check() {
                break Err(broken);
            }
            if state.busy_slots < state.slots && state.queue.front() == Some(&self.ticket) {
                state.busy_slots += 1;
                break Ok(());
            }
            state = match self.shared.slot_freed.wait_timeout(state, LOOK) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        };
        state.queue.retain(|ticket| *ticket != self.ticket);
        drop(state);
        self.shared.slot_freed.notify_all();
        self.shared.ledger.change(|counts| {
            counts.generations_queued -= 1;
            counts.generations_running += u64::from(outcome.is_ok());
        });
        outcome
    }

    fn release_slot(&self) {
        lock(&self.shared.state).busy_slots -= 1;
        self.shared.slot_freed.notify_all();
        self.shared.ledger.change(|counts| counts.generations_running -= 1);
    }

    fn speak(&self) -> Result<Completion, Broken> {
        let mut context = self.prompt.clone();
        let outcome = self.prefill().and_then(|usage| self.decode(&mut context, usage));
        let mut state = lock(&self.shared.state);
        state.kv_used_tokens = state.kv_used_tokens.saturating_sub(self.prompt.len() as u32);
        if self.request.reuse_prefix && outcome.is_ok() {
            state.remembered.add(context, self.request.scope);
        }
        outcome
    }

    fn prefill(&self) -> Result<Usage, Broken> {
        let (cached, own_cached) = self.take_cached();
        let (mut computed, of) = (cached, self.prompt.len() as u32);
        let mut told = Instant::now();
        for chunk in self.prompt[cached..].chunks(PREFILL_CHUNK) {
            self.check()?;
            self.spend(self.shared.script.prefill_time_per_token * chunk.len() as u32)?;
            computed += chunk.len();
            if told.elapsed() >= PROGRESS && may_tell_progress(&self.sender, 0) {
                told = Instant::now();
                self.send(TokenEvent::Prefilling { computed: computed as u32, of })?;
            }
        }
        let usage = Usage {
            prompt_tokens: self.prompt.len() as u32,
            cached_tokens: own_cached as u32,
            completion_tokens: 0,
            thinking_tokens: 0,
        };
        self.send(TokenEvent::Prefilled { usage, prefill_ms: ms(self.arrived.elapsed()) })?;
        Ok(usage)
    }

    /// Tokens of the prompt that an earlier sequence has in common, and how many of them are told; the last one is
    /// always computed.
    fn take_cached(&self) -> (usize, usize) {
        let mut state = lock(&self.shared.state);
        state.kv_used_tokens += self.prompt.len() as u32;
        if !self.request.reuse_prefix {
            return (0, 0);
        }
        let most = self.prompt.len() - 1;
        let (taken, own) = state.remembered.longest_common(&self.prompt, &self.request.scope);
        (taken.min(most), own.min(most))
    }

    fn decode(&self, context: &mut Vec<u32>, mut usage: Usage) -> Result<Completion, Broken> {
        let prefill_ms = ms(self.arrived.elapsed());
        let began = Instant::now();
        let (finish, stopped_by) = match self.recite(&mut usage)? {
            Some(finish) => (finish, None),
            None => self.say_own_words(context, &mut usage)?,
        };
        Ok(Completion { finish, stopped_by, usage, prefill_ms, decode_ms: ms(began.elapsed()) })
    }

    /// Says what the script has for this request; how the answer ends with that, or `None` where its own words follow.
    fn recite(&self, usage: &mut Usage) -> Result<Option<FinishReason>, Broken> {
        let Recital { tokens, finish } = self.shared.script.recital(&self.request);
        for deltas in tokens {
            if usage.completion_tokens >= self.max_tokens {
                return Ok(Some(FinishReason::Length));
            }
            self.say_one()?;
            usage.completion_tokens += 1;
            usage.thinking_tokens += u32::from(is_thought(&deltas));
            self.send(event(deltas))?;
        }
        Ok(finish)
    }

    /// Says the fake's own words; how the answer ends with them, and the place of the stop string that ended it.
    fn say_own_words(
        &self,
        context: &mut Vec<u32>,
        usage: &mut Usage,
    ) -> Result<(FinishReason, Option<u32>), Broken> {
        let request = &self.request;
        let choice = Choice {
            sampling: &request.sampling,
            logprobs: request.logprobs,
            ignores_end: request.ignore_eos,
        };
        let (answer_tokens, only) = (self.shared.script.answer_tokens, self.only.clone());
        let mut voice = Voice::new(&self.prompt, &request.sampling, answer_tokens, only);
        let mut withheld = Withheld::new(&request.stop);
        let mut said = 0;
        let finish = loop {
            if usage.completion_tokens >= self.max_tokens {
                break (FinishReason::Length, None);
            }
            self.say_one()?;
            let (token, logprob) = voice.next(context, said, &choice);
            said += 1;
            usage.completion_tokens += 1;
            context.push(token);
            if vocabulary::ends_generation(token) && (voice.is_bound() || !request.ignore_eos) {
                break (FinishReason::Stop, None);
            }
            let bytes = if vocabulary::is_control(token) { Vec::new() } else { vocabulary::bytes_of(token) };
            match withheld.push(&bytes) {
                Shown::Text(text) => self.send(TokenEvent::Token { text, logprob })?,
                Shown::Stopped(text, place) => {
                    self.send(TokenEvent::Token { text, logprob })?;
                    withheld = Withheld::default();
                    break (FinishReason::Stop, Some(place));
                }
            }
        };
        let text = withheld.finish();
        if !text.is_empty() {
            self.send(TokenEvent::Token { text, logprob: None })?;
        }
        Ok(finish)
    }

    /// Waits as long as one token takes, and dies or falls silent when the script says so.
    fn say_one(&self) -> Result<(), Broken> {
        self.check()?;
        if !self.shared.gates.tokens.pass(|| self.check().is_err()) {
            self.check()?;
        }
        self.spend(self.shared.script.time_per_token)?;
        let said = self.shared.tokens_said.fetch_add(1, Ordering::SeqCst);
        if self.shared.script.crash_after_tokens.is_some_and(|limit| said >= limit) {
            self.shared.is_dead.store(true, Ordering::SeqCst);
            return Err(Broken::Silent);
        }
        if self.shared.script.hang_after_tokens.is_some_and(|limit| said >= limit) {
            Gate::closed().pass(|| self.shared.is_stopped.load(Ordering::SeqCst));
            return Err(Broken::Silent);
        }
        self.shared.ledger.change(|counts| counts.tokens += 1);
        Ok(())
    }

    /// Lets scripted work take its time, and stops when it is no longer wanted.
    fn spend(&self, time: Duration) -> Result<(), Broken> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
            self.check()?;
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
