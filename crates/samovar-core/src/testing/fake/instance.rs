//! One loaded fake model: what it is asked, and what all its requests share.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::answer::Answer;
use super::counts::Ledger;
use super::embedding::{self, Embedding};
use super::remembered::Remembered;
use super::script::Script;
use super::{remembered, vocabulary};
use crate::chat::Chat;
use crate::cores::{Cores, ThreadUse, ThreadsWhy};
use crate::embedding::{EmbedRequest, Pooling};
use crate::error::{ErrorKind, Failure};
use crate::footprint::{Arrangement, Footprint, LoadOptions, Measurement};
use crate::generation::{CachedPrefix, Generation, GenerationRequest, Prompt};
use crate::model::Descriptor;
use crate::port::{Capabilities, Instance, PromptControl};
use crate::scope::Scope;
use crate::testing::gate::Gate;

pub(super) struct FakeInstance {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The gates at which an instance waits.
pub(super) struct Gates {
    pub(super) tokens: Arc<Gate>,
    pub(super) requests: Arc<Gate>,
    pub(super) batches: Arc<Gate>,
}

/// What was loaded, and how that came out.
pub(super) struct Model {
    pub(super) script: Script,
    pub(super) capabilities: Capabilities,
    pub(super) arrangement: Arrangement,
}

pub(super) struct Shared {
    pub(super) script: Script,
    pub(super) descriptor: Descriptor,
    pub(super) capabilities: Capabilities,
    pub(super) pooling: Option<Pooling>,
    arrangement: Arrangement,
    pub(super) gates: Gates,
    pub(super) ledger: Arc<Ledger>,
    pub(super) is_stopped: AtomicBool,
    pub(super) is_dead: AtomicBool,
    pub(super) is_parked: AtomicBool,
    pub(super) tokens_said: AtomicU64,
    pub(super) inputs_embedded: AtomicU64,
    pub(super) embedding: Mutex<Embedding>,
    pub(super) state: Mutex<State>,
    pub(super) slot_freed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// Of one sequence at most.
    pub(super) context_tokens: u32,
    pub(super) slots: u32,
    /// When not parked.
    pub(super) footprint: Footprint,
    /// Requests that wait for a slot, oldest first.
    pub(super) queue: VecDeque<u64>,
    pub(super) next_ticket: u64,
    pub(super) busy_slots: u32,
    pub(super) kv_used_tokens: u32,
    pub(super) remembered: Remembered,
    pub(super) threads: ThreadUse,
}

impl State {
    fn sized(script: &Script, descriptor: &Descriptor, options: &LoadOptions) -> Self {
        let threads = ThreadUse { most: options.threads, ..ThreadUse::default() };
        let mut state = Self { threads, ..Self::default() };
        state.resize(script, descriptor, options);
        state
    }

    fn resize(&mut self, script: &Script, descriptor: &Descriptor, options: &LoadOptions) {
        self.context_tokens = options.context_tokens;
        self.slots = options.slots.max(1);
        self.footprint = super::footprint(script, descriptor, options);
    }
}

impl FakeInstance {
    pub(super) fn new(
        model: Model,
        descriptor: &Descriptor,
        options: &LoadOptions,
        gates: Gates,
        ledger: Arc<Ledger>,
    ) -> Self {
        let Model { script, capabilities, arrangement } = model;
        ledger.change(|counts| {
            counts.loads_finished += 1;
            counts.live_instances += 1;
        });
        let as_it_came_out = LoadOptions { layout: arrangement.layout, ..options.clone() };
        let shared = Shared {
            arrangement,
            descriptor: descriptor.clone(),
            capabilities,
            pooling: options.pooling,
            gates,
            ledger,
            is_stopped: AtomicBool::new(false),
            is_dead: AtomicBool::new(false),
            is_parked: AtomicBool::new(false),
            tokens_said: AtomicU64::new(0),
            inputs_embedded: AtomicU64::new(0),
            embedding: Mutex::default(),
            state: Mutex::new(State::sized(&script, descriptor, &as_it_came_out)),
            script,
            slot_freed: Condvar::new(),
        };
        Self { shared: Arc::new(shared), threads: Mutex::default() }
    }

    /// Works on a thread that ends before this instance does.
    fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(work);
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }
}

impl Instance for FakeInstance {
    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure> {
        let shared = &self.shared;
        shared.gates.requests.pass(|| shared.check_usable().is_err());
        shared.check_usable()?;
        if !shared.capabilities.can_generate {
            return Err(Failure::new(ErrorKind::Unsupported, "this model writes no text"));
        }
        let only = shared.script.constrained(request.constraint.as_ref())?;
        let prompt = shared.prompt_tokens(&request.prompt)?;
        let room = lock(&shared.state).context_tokens.saturating_sub(prompt.len() as u32);
        let max_tokens = request.max_tokens.unwrap_or(room).min(room);
        let (sender, generation) = Generation::channel(max_tokens);
        shared.ledger.remember(&request);
        shared.ledger.change(|counts| {
            counts.generations_started += 1;
            counts.generations_queued += 1;
        });
        let ticket = shared.enqueue();
        let answer = Answer {
            shared: Arc::clone(shared),
            request,
            prompt,
            only,
            max_tokens,
            sender,
            ticket,
            arrived: Instant::now(),
        };
        self.spawn(move || answer.run());
        Ok(generation)
    }

    fn embed(&self, request: EmbedRequest, control: &dyn PromptControl) -> Result<Generation, Failure> {
        let shared = &self.shared;
        shared.gates.requests.pass(|| shared.check_usable().is_err() || !control.is_wanted());
        shared.check_usable()?;
        let (generation, needs_thread) = embedding::enter(shared, request, control)?;
        if needs_thread {
            let shared = Arc::clone(shared);
            self.spawn(move || embedding::compute(&shared));
        }
        Ok(generation)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        let mut tokens = if add_special { vec![vocabulary::BOS] } else { Vec::new() };
        tokens.extend(vocabulary::tokenize(text, parse_special));
        Ok(tokens)
    }

    fn encode(&self, prompt: &Prompt, _control: &dyn PromptControl) -> Result<Vec<u32>, Failure> {
        self.shared.prompt_tokens(prompt)
    }

    fn render(&self, chat: &Chat, _control: &dyn PromptControl) -> Result<String, Failure> {
        Ok(render(&chat.messages))
    }

    fn count(&self, prompt: &Prompt, _control: &dyn PromptControl) -> Result<u32, Failure> {
        Ok(self.shared.tokens_of(prompt)?.len() as u32)
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
            lock(&self.shared.state).remembered.forget();
            self.shared.slot_freed.notify_all();
            self.shared.ledger.change(|counts| {
                counts.parks += 1;
                counts.parked_instances += 1;
            });
        }
        Ok(())
    }

    fn resume(&self, options: &LoadOptions) -> Result<(), Failure> {
        if let Some(failure) = &self.shared.script.resume_failure {
            return Err(failure.clone());
        }
        let mut state = lock(&self.shared.state);
        if self.shared.is_parked.swap(false, Ordering::SeqCst) {
            let options = LoadOptions { layout: self.shared.arrangement.layout, ..options.clone() };
            state.resize(&self.shared.script, &self.shared.descriptor, &options);
            self.shared.ledger.change(|counts| {
                counts.resumes += 1;
                counts.parked_instances -= 1;
            });
        }
        Ok(())
    }

    fn arrangement(&self) -> Arrangement {
        self.shared.arrangement.clone()
    }

    fn measure(&self) -> Measurement {
        let shared = &self.shared;
        let state = lock(&shared.state);
        let is_parked = shared.is_parked.load(Ordering::SeqCst);
        let total = state.context_tokens * state.slots;
        let embedding = lock(&shared.embedding).running();
        Measurement {
            held_bytes: if is_parked { 0 } else { state.footprint.held_bytes },
            mapped_bytes: state.footprint.mapped_bytes,
            kv_used_tokens: if is_parked { 0 } else { state.kv_used_tokens },
            kv_total_tokens: if is_parked { 0 } else { total },
            busy_slots: (state.busy_slots + embedding).min(state.slots),
            threads: state.threads,
        }
    }

    /// Its next step is at once.
    fn share_cores(&self, cores: Cores) {
        let threads = &mut lock(&self.shared.state).threads;
        threads.used = cores.share.min(threads.most);
        threads.why = if threads.used < threads.most { ThreadsWhy::OtherModels } else { ThreadsWhy::All };
    }

    fn probe(&self) -> Result<(), Failure> {
        self.shared.check_usable()?;
        match &self.shared.script.probe_failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    fn prefixes(&self) -> Result<Vec<CachedPrefix>, Failure> {
        let state = lock(&self.shared.state);
        Ok(state.remembered.iter().cloned().collect())
    }

    fn save_prefix(&self, prefix: &CachedPrefix, into: &File) -> Result<u64, Failure> {
        if !self.prefixes()?.iter().any(|kept| kept.id == prefix.id) {
            return Err(Failure::new(ErrorKind::NotFound, "this prompt state has been given up meanwhile"));
        }
        remembered::write(&self.shared.descriptor, &prefix.tokens, into)
    }

    fn restore_prefix(&self, tokens: &[u32], scope: Scope, from: &File) -> Result<(), Failure> {
        self.shared.check_usable()?;
        remembered::check(&self.shared.descriptor, tokens, from)?;
        lock(&self.shared.state).remembered.add(tokens.to_vec(), scope);
        Ok(())
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
    pub(super) fn check_usable(&self) -> Result<(), Failure> {
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

    /// The tokens of a prompt, however many they are.
    fn tokens_of(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        let tokens = match prompt {
            Prompt::Tokens(tokens) => tokens.clone(),
            Prompt::Chat(chat) => vocabulary::tokenize(&render(&chat.messages), true),
            Prompt::Text { text, add_special, parse_special } => {
                let bos = add_special.then_some(vocabulary::BOS);
                bos.into_iter().chain(vocabulary::tokenize(text, *parse_special)).collect()
            }
            Prompt::Infill(infill) => {
                let none = || Failure::new(ErrorKind::InvalidRequest, "this model has no FIM tokens");
                let marks = self.descriptor.infill.ok_or_else(none)?;
                let context = lock(&self.state).context_tokens;
                let read = |text: &str, _, _| Ok::<_, Failure>(vocabulary::tokenize(text, false));
                infill.tokens(&marks, Some(vocabulary::BOS), context, read)?
            }
        };
        check_ids(&tokens)?;
        Ok(tokens)
    }

    /// The same of one that fits.
    fn prompt_tokens(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        let tokens = self.tokens_of(prompt)?;
        if tokens.is_empty() {
            return Err(Failure::new(ErrorKind::InvalidRequest, "the prompt is empty").with_param("prompt"));
        }
        let context = lock(&self.state).context_tokens;
        if tokens.len() >= context as usize {
            let message = format!(
                "prompt is too long: it has {} tokens, but the context holds {context}",
                tokens.len()
            );
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

/// `ChatML` of messages that have a role and a text, in this order and nothing else; whatever a text escapes stays so.
fn render(messages: &str) -> String {
    let messages = messages.trim_start_matches('[').trim_end_matches(']');
    let turns = messages.replace(r#"{"role":""#, "<|im_start|>").replace(r#"","content":""#, "\n");
    turns.replace(r#""},"#, "<|im_end|>\n").replace(r#""}"#, "<|im_end|>\n") + "<|im_start|>assistant\n"
}

pub(super) fn check_ids(tokens: &[u32]) -> Result<(), Failure> {
    match tokens.iter().find(|token| **token >= vocabulary::size()) {
        None => Ok(()),
        Some(token) => {
            let message = format!("token {token} is outside the vocabulary of {}", vocabulary::size());
            Err(Failure::new(ErrorKind::InvalidRequest, message))
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
