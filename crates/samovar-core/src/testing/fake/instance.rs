//! One loaded fake model: slots, a thread for each request, and a scripted end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::counts::Ledger;
use super::script::Script;
use super::text::{Shown, Withheld};
use super::vocabulary;
use super::voice::{Choice, Voice};
use crate::error::{ErrorKind, Failure};
use crate::footprint::{Footprint, LoadOptions, Measurement};
use crate::generation::{Completion, FinishReason, Generation, GenerationRequest, Prompt, TokenEvent, Usage};
use crate::port::Instance;
use crate::testing::gate::Gate;

/// Finished sequences whose prompts count as cached.
const REMEMBERED: usize = 8;
/// Prompt tokens between two looks at cancellation.
const PREFILL_CHUNK: usize = 64;
const LOOK: Duration = Duration::from_millis(2);

pub(super) struct FakeInstance {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    script: Script,
    context_tokens: u32,
    slots: u32,
    footprint: Footprint,
    tokens: Arc<Gate>,
    ledger: Arc<Ledger>,
    is_stopped: AtomicBool,
    is_dead: AtomicBool,
    is_parked: AtomicBool,
    tokens_said: AtomicU64,
    state: Mutex<State>,
    slot_freed: Condvar,
}

#[derive(Default)]
struct State {
    /// Requests that wait for a slot, oldest first.
    queue: VecDeque<u64>,
    next_ticket: u64,
    busy_slots: u32,
    kv_used_tokens: u32,
    remembered: VecDeque<Vec<u32>>,
}

/// Why a request ended without `Done`.
enum Broken {
    /// Nobody listens any more.
    Left,
    /// The instance was dropped, parked or killed.
    Instance(Failure),
    /// The instance died and says nothing.
    Silent,
}

impl FakeInstance {
    pub(super) fn new(
        script: Script,
        options: &LoadOptions,
        footprint: Footprint,
        tokens: Arc<Gate>,
        ledger: Arc<Ledger>,
    ) -> Self {
        ledger.change(|counts| {
            counts.loads_finished += 1;
            counts.live_instances += 1;
        });
        let shared = Shared {
            script,
            context_tokens: options.context_tokens,
            slots: options.slots.max(1),
            footprint,
            tokens,
            ledger,
            is_stopped: AtomicBool::new(false),
            is_dead: AtomicBool::new(false),
            is_parked: AtomicBool::new(false),
            tokens_said: AtomicU64::new(0),
            state: Mutex::default(),
            slot_freed: Condvar::new(),
        };
        Self { shared: Arc::new(shared), threads: Mutex::default() }
    }
}

impl Instance for FakeInstance {
    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure> {
        let shared = &self.shared;
        shared.check_usable()?;
        let prompt = shared.prompt_tokens(&request.prompt)?;
        let room = shared.context_tokens - prompt.len() as u32;
        let max_tokens = request.max_tokens.unwrap_or(room).min(room);
        let (sender, generation) = Generation::channel(max_tokens);
        shared.ledger.change(|counts| {
            counts.generations_started += 1;
            counts.generations_queued += 1;
        });
        let ticket = shared.enqueue();
        let answer = Answer {
            shared: Arc::clone(shared),
            request,
            prompt,
            max_tokens,
            sender,
            ticket,
            arrived: Instant::now(),
        };
        let thread = std::thread::spawn(move || answer.run());
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(generation)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        let mut tokens = if add_special { vec![vocabulary::BOS] } else { Vec::new() };
        tokens.extend(vocabulary::tokenize(text, parse_special));
        Ok(tokens)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Failure> {
        check_ids(tokens)?;
        let shown = tokens.iter().filter(|token| !vocabulary::is_control(**token));
        Ok(shown.flat_map(|token| vocabulary::bytes_of(*token)).collect())
    }

    fn park(&self) -> Result<(), Failure> {
        if let Some(failure) = &self.shared.script.park_failure {
            return Err(failure.clone());
        }
        if !self.shared.is_parked.swap(true, Ordering::SeqCst) {
            lock(&self.shared.state).remembered.clear();
            self.shared.slot_freed.notify_all();
            self.shared.ledger.change(|counts| {
                counts.parks += 1;
                counts.parked_instances += 1;
            });
        }
        Ok(())
    }

    fn resume(&self) -> Result<(), Failure> {
        if let Some(failure) = &self.shared.script.resume_failure {
            return Err(failure.clone());
        }
        if self.shared.is_parked.swap(false, Ordering::SeqCst) {
            self.shared.ledger.change(|counts| {
                counts.resumes += 1;
                counts.parked_instances -= 1;
            });
        }
        Ok(())
    }

    fn measure(&self) -> Measurement {
        let shared = &self.shared;
        let state = lock(&shared.state);
        let is_parked = shared.is_parked.load(Ordering::SeqCst);
        let total = shared.context_tokens * shared.slots;
        Measurement {
            held_bytes: if is_parked { 0 } else { shared.footprint.held_bytes },
            mapped_bytes: shared.footprint.mapped_bytes,
            kv_used_tokens: if is_parked { 0 } else { state.kv_used_tokens },
            kv_total_tokens: if is_parked { 0 } else { total },
            busy_slots: state.busy_slots,
        }
    }

    fn probe(&self) -> Result<(), Failure> {
        self.shared.check_usable()?;
        match &self.shared.script.probe_failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }
}

impl Drop for FakeInstance {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        self.shared.slot_freed.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has already failed its own test.
            let _ = thread.join();
        }
        let was_parked = self.shared.is_parked.load(Ordering::SeqCst);
        self.shared.ledger.change(|counts| {
            counts.live_instances -= 1;
            counts.parked_instances -= u64::from(was_parked);
        });
    }
}

impl Shared {
    fn check_usable(&self) -> Result<(), Failure> {
        let gone = |message: &str| Err(Failure::new(ErrorKind::Unavailable, message));
        if self.is_dead.load(Ordering::SeqCst) {
            Err(Failure::new(ErrorKind::EngineFailed, "the instance has died"))
        } else if self.is_parked.load(Ordering::SeqCst) {
            gone("the instance is parked")
        } else if self.is_stopped.load(Ordering::SeqCst) {
            gone("the instance is gone")
        } else {
            Ok(())
        }
    }

    fn prompt_tokens(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        let tokens = match prompt {
            Prompt::Tokens(tokens) => tokens.clone(),
            Prompt::Text { text, add_special, parse_special } => {
                let bos = add_special.then_some(vocabulary::BOS);
                bos.into_iter().chain(vocabulary::tokenize(text, *parse_special)).collect()
            }
        };
        check_ids(&tokens)?;
        if tokens.is_empty() {
            return Err(Failure::new(ErrorKind::InvalidRequest, "the prompt is empty").with_param("prompt"));
        }
        if tokens.len() >= self.context_tokens as usize {
            let message =
                format!("the prompt has {} tokens, the context holds {}", tokens.len(), self.context_tokens);
            return Err(Failure::new(ErrorKind::ContextExceeded, message).with_param("prompt"));
        }
        Ok(tokens)
    }

    fn enqueue(&self) -> u64 {
        let mut state = lock(&self.state);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.queue.push_back(ticket);
        ticket
    }
}

/// One request on its own thread.
struct Answer {
    shared: Arc<Shared>,
    request: GenerationRequest,
    prompt: Vec<u32>,
    max_tokens: u32,
    sender: mpsc::Sender<TokenEvent>,
    ticket: u64,
    arrived: Instant,
}

impl Answer {
    fn run(self) {
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
            if state.busy_slots < self.shared.slots && state.queue.front() == Some(&self.ticket) {
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
            state.remembered.push_back(context);
            if state.remembered.len() > REMEMBERED {
                state.remembered.pop_front();
            }
        }
        outcome
    }

    fn prefill(&self) -> Result<Usage, Broken> {
        let cached = self.take_cached();
        for chunk in self.prompt[cached..].chunks(PREFILL_CHUNK) {
            self.check()?;
            self.spend(self.shared.script.prefill_time_per_token * chunk.len() as u32)?;
        }
        let usage = Usage {
            prompt_tokens: self.prompt.len() as u32,
            cached_tokens: cached as u32,
            completion_tokens: 0,
        };
        self.send(TokenEvent::Prefilled { usage, prefill_ms: ms(self.arrived.elapsed()) })?;
        Ok(usage)
    }

    /// Tokens of the prompt that an earlier sequence has in common; the last one is always computed.
    fn take_cached(&self) -> usize {
        let mut state = lock(&self.shared.state);
        state.kv_used_tokens += self.prompt.len() as u32;
        if !self.request.reuse_prefix {
            return 0;
        }
        let common =
            |earlier: &Vec<u32>| earlier.iter().zip(&self.prompt).take_while(|(a, b)| a == b).count();
        state.remembered.iter().map(common).max().unwrap_or(0).min(self.prompt.len() - 1)
    }

    fn decode(&self, context: &mut Vec<u32>, mut usage: Usage) -> Result<Completion, Broken> {
        let prefill_ms = ms(self.arrived.elapsed());
        let began = Instant::now();
        let request = &self.request;
        let choice = Choice {
            sampling: &request.sampling,
            logprobs: request.logprobs,
            ignores_end: request.ignore_eos,
        };
        let mut voice = Voice::new(&self.prompt, &request.sampling, self.shared.script.answer_tokens);
        let mut withheld = Withheld::new(&request.stop);
        let finish = loop {
            if usage.completion_tokens >= self.max_tokens {
                break FinishReason::Length;
            }
            self.say_one()?;
            let (token, logprob) = voice.next(context, usage.completion_tokens as usize, &choice);
            usage.completion_tokens += 1;
            context.push(token);
            if vocabulary::ends_generation(token) && !request.ignore_eos {
                break FinishReason::Stop;
            }
            let bytes = if vocabulary::is_control(token) { Vec::new() } else { vocabulary::bytes_of(token) };
            match withheld.push(&bytes) {
                Shown::Text(text) => self.send(TokenEvent::Token { text, logprob })?,
                Shown::Stopped(text) => {
                    self.send(TokenEvent::Token { text, logprob })?;
                    withheld = Withheld::default();
                    break FinishReason::Stop;
                }
            }
        };
        let text = withheld.finish();
        if !text.is_empty() {
            self.send(TokenEvent::Token { text, logprob: None })?;
        }
        Ok(Completion { finish, usage, prefill_ms, decode_ms: ms(began.elapsed()) })
    }

    /// Waits as long as one token takes, and dies or falls silent when the script says so.
    fn say_one(&self) -> Result<(), Broken> {
        self.check()?;
        if !self.shared.tokens.pass(|| self.check().is_err()) {
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

    /// Lets scripted work take its time, and stops when nobody wants it any more.
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

fn check_ids(tokens: &[u32]) -> Result<(), Failure> {
    match tokens.iter().find(|token| **token >= vocabulary::size()) {
        None => Ok(()),
        Some(token) => {
            let message = format!("token {token} is outside the vocabulary of {}", vocabulary::size());
            Err(Failure::new(ErrorKind::InvalidRequest, message))
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
