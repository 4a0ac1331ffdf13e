//! The thread that owns a model and its state: it takes commands, computes steps, and says what comes of them.
//!
//! ```text
//!   commands ─► waiting ─► slots ─► step: one token of each answer, and a part of the prompts ─► sampled, said
//!                   └► queue ─► one text at a time ─► vectors
//! ```
//!
//! Between two steps it looks who has gone. Matrices are computed by a pool of threads of this instance alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};

use candle_core::{Storage, Tensor};
use rayon::{ThreadPool, ThreadPoolBuilder};
use samovar_core::{Descriptor, Pooling};

use crate::decoder::{Decoder, Part};
use crate::embedding::{EmbedQueue, EmbedTicket};
use crate::encoder::Encoder;
use crate::error::Error;
use crate::figures::Figures;
use crate::footprint;
use crate::kv::{Placed, Workspace};
use crate::slot::{Slot, Ticket};
use crate::vocabulary::Vocabulary;

/// Tokens of prompts in one step: so long no answer waits for more, and no cancellation.
pub(crate) const PREFILL_TOKENS: usize = 128;
/// Requests that wait for a slot, or for their vectors, at most.
pub(crate) const WAITING: usize = 1024;
/// Any token will do.
const PROBE_TOKEN: u32 = 0;

/// The weights.
#[derive(Debug)]
pub(crate) enum Network {
    Decoder(Box<Decoder>),
    Encoder(Box<Encoder>),
}

/// How large a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContextSize {
    pub(crate) slots: usize,
    pub(crate) context_tokens: usize,
}

/// Answers a command.
pub(crate) type Reply = SyncSender<Result<(), Error>>;

/// What the thread can be asked. It ends when all senders are gone.
#[derive(Debug)]
pub(crate) enum Command {
    Generate(Box<Ticket>),
    Embed(Box<EmbedTicket>),
    Probe(Reply),
    Park(Reply),
    Resume(ContextSize, Reply),
}

/// What the thread owns.
pub(crate) struct Computer {
    network: Network,
    vocabulary: Arc<Vocabulary>,
    pooling: Pooling,
    figures: Arc<Figures>,
    descriptor: Descriptor,
    /// Bytes of weights and vocabulary.
    fixed_bytes: u64,
    /// Bytes of what a step of this context computes in; 0 = it is parked.
    step_bytes: u64,
    pool: ThreadPool,
    /// `None` = parked, or there is none.
    workspace: Option<Workspace>,
    /// Each with the sequence of the same place.
    slots: Vec<Option<Slot>>,
    waiting: VecDeque<Ticket>,
    queue: EmbedQueue,
}

impl Computer {
    pub(crate) fn new(
        network: Network,
        vocabulary: Arc<Vocabulary>,
        pooling: Pooling,
        figures: Arc<Figures>,
        descriptor: Descriptor,
        fixed_bytes: u64,
        threads: u32,
    ) -> Result<Self, Error> {
        figures.threads_most.store(threads, Ordering::Relaxed);
        Ok(Self {
            network,
            vocabulary,
            pooling,
            figures,
            descriptor,
            fixed_bytes,
            step_bytes: 0,
            pool: pool(threads as usize)?,
            workspace: None,
            slots: Vec::new(),
            waiting: VecDeque::new(),
            queue: EmbedQueue::default(),
        })
    }

    /// Makes a context, unless there is one.
    pub(crate) fn resume(&mut self, size: ContextSize) -> Result<(), Error> {
        let ContextSize { slots, context_tokens } = size;
        let kv_tokens = match &self.network {
            Network::Decoder(_) if self.workspace.is_some() => return Ok(()),
            Network::Decoder(decoder) => {
                self.workspace = Some(decoder.workspace(slots, context_tokens)?);
                self.slots = (0..slots).map(|_| None).collect();
                slots * context_tokens
            }
            Network::Encoder(_) => context_tokens,
        };
        self.step_bytes = footprint::step_bytes(&self.descriptor, slots as u64, context_tokens as u64);
        self.figures.kv_total_tokens.store(kv_tokens as u32, Ordering::Relaxed);
        self.figures.context_tokens.store(context_tokens as u32, Ordering::Release);
        self.figures.is_parked.store(false, Ordering::Release);
        self.publish();
        Ok(())
    }

    /// Serves until all senders are gone.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            if self.is_idle() {
                match commands.recv() {
                    Ok(command) => self.take(command),
                    Err(_) => return,
                }
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => self.take(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.end_all(|| Error::Gone),
                }
            }
            self.drop_cancelled();
            self.admit();
            self.follow_share();
            self.step();
            self.embed_one();
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.queue.len() == 0 && self.slots.iter().all(Option::is_none)
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Generate(ticket) if self.workspace.is_none() => ticket.refuse(Error::Parked),
            Command::Generate(ticket) if self.waiting.len() >= WAITING => {
                ticket.refuse(Error::TooManyWaiting { waiting: WAITING });
            }
            Command::Generate(ticket) => self.waiting.push_back(*ticket),
            Command::Embed(ticket) if self.queue.len() >= WAITING => {
                ticket.refuse(Error::TooManyWaiting { waiting: WAITING });
            }
            Command::Embed(ticket) => self.queue.push(*ticket),
            Command::Probe(reply) => {
                let _ = reply.send(self.probe());
            }
            Command::Park(reply) => {
                self.end_all(|| Error::Parked);
                self.workspace = None;
                self.step_bytes = 0;
                self.slots.clear();
                self.figures.kv_total_tokens.store(0, Ordering::Relaxed);
                self.figures.is_parked.store(true, Ordering::Release);
                self.publish();
                let _ = reply.send(Ok(()));
            }
            Command::Resume(size, reply) => {
                let _ = reply.send(self.resume(size));
            }
        }
        self.publish();
    }

    fn probe(&self) -> Result<(), Error> {
        let numbers = match &self.network {
            Network::Decoder(_) if self.workspace.is_none() => return Err(Error::Parked),
            Network::Decoder(decoder) => {
                let own = decoder.workspace(1, 1)?;
                let part = Part { sequence: 0, start: 0, tokens: &[PROBE_TOKEN], wants_logits: true };
                let logits = self.pool.install(|| decoder.step(&[part], &own))?;
                logits.map(|logits| logits.flatten_all()?.to_vec1()).transpose()?.unwrap_or_default()
            }
            Network::Encoder(encoder) => {
                self.pool.install(|| encoder.compute(&[PROBE_TOKEN], &[0], self.pooling))?
            }
        };
        if numbers.iter().any(|number: &f32| number.is_finite()) { Ok(()) } else { Err(Error::NoToken) }
    }

    fn drop_cancelled(&mut self) {
        self.waiting.retain(|ticket| !ticket.events.is_closed());
        self.queue.drop_cancelled();
        for place in 0..self.slots.len() {
            if self.slots[place].as_ref().is_some_and(Slot::is_cancelled) {
                self.release(place);
            }
        }
        self.publish();
    }

    /// Gives free slots to the requests that wait, in their order.
    fn admit(&mut self) {
        while self.slots.iter().any(Option::is_none) {
            let Some(ticket) = self.waiting.pop_front() else { break };
            self.place(ticket);
        }
        self.publish();
    }

    /// Puts a request where most of its prompt is computed already, or where nothing was used for the longest time.
    fn place(&mut self, ticket: Ticket) {
        let Some(workspace) = &mut self.workspace else { return ticket.refuse(Error::Parked) };
        let scope = ticket.reuse_prefix.then_some(ticket.scope);
        let is_free = |place: usize| self.slots[place].is_none();
        let Some(placed) = workspace.place(&ticket.prompt, scope, is_free) else {
            return ticket.refuse(Error::TooManyWaiting { waiting: WAITING });
        };
        let Placed { sequence, computed, told } = placed;
        self.slots[sequence] = Some(Slot::new(ticket, computed, told, &self.vocabulary));
    }

    /// Computes with as many threads as others leave.
    fn follow_share(&mut self) {
        let most = self.figures.threads_most.load(Ordering::Relaxed).max(1);
        let wanted = match self.figures.share.load(Ordering::Relaxed) {
            0 => most,
            share => share.min(most),
        };
        if self.pool.current_num_threads() != wanted as usize {
            match pool(wanted as usize) {
                Ok(pool) => self.pool = pool,
                Err(error) => tracing::warn!("the number of threads stays: {error}"),
            }
        }
        let used = self.pool.current_num_threads() as u32;
        self.figures.threads_used.store(used, Ordering::Relaxed);
    }

    /// Computes a token of each answer and a part of the prompts.
    fn step(&mut self) {
        let (Network::Decoder(decoder), Some(workspace)) = (&self.network, &mut self.workspace) else {
            return;
        };
        let mut room = PREFILL_TOKENS;
        let mut parts = Vec::new();
        for (sequence, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let rest = slot.rest();
            let count = if rest.len() == 1 { 1 } else { rest.len().min(room) };
            if count == 0 {
                continue;
            }
            room -= if rest.len() == 1 { 0 } else { count };
            let wants_logits = count == rest.len();
            parts.push(Part { sequence, start: slot.computed, tokens: &rest[..count], wants_logits });
        }
        if parts.is_empty() {
            return;
        }
        let outcome = self.pool.install(|| decoder.step(&parts, workspace));
        let computed: Vec<(usize, Vec<u32>, bool)> =
            parts.iter().map(|part| (part.sequence, part.tokens.to_vec(), part.wants_logits)).collect();
        let logits = match outcome {
            Ok(logits) => logits,
            Err(error) => return self.fail(&computed, &error),
        };
        let mut asked = Vec::new();
        for (place, tokens, wants_logits) in &computed {
            workspace.sequences[*place].tokens.extend_from_slice(tokens);
            let Some(slot) = &mut self.slots[*place] else { continue };
            slot.computed += tokens.len();
            slot.tell_progress();
            if *wants_logits {
                asked.push(*place);
            }
        }
        let Some(logits) = logits else { return };
        let (slots, vocabulary) = (&mut self.slots, &self.vocabulary);
        let mut ended = Vec::new();
        let said = each_row(&logits, |row, logits| {
            let place = asked[row];
            let goes_on = slots[place].as_mut().is_some_and(|slot| slot.advance(logits, vocabulary));
            if !goes_on {
                ended.push(place);
            }
        });
        if let Err(error) = said {
            return self.fail(&computed, &error);
        }
        for place in ended {
            self.release(place);
        }
    }

    /// Ends the requests of a step that failed; of what it wrote nothing is used again.
    fn fail(&mut self, computed: &[(usize, Vec<u32>, bool)], error: &candle_core::Error) {
        tracing::error!("a step failed: {error}");
        for (place, ..) in computed {
            if let Some(slot) = &mut self.slots[*place] {
                slot.fail(Error::Compute(candle_core::Error::Msg(error.to_string())));
            }
            self.release(*place);
            if let Some(workspace) = &mut self.workspace {
                workspace.sequences[*place].tokens.clear();
            }
        }
    }

    /// Frees a slot, and says the last word of its request.
    fn release(&mut self, place: usize) {
        let Some(slot) = self.slots[place].take() else { return };
        if let Some(workspace) = &mut self.workspace {
            workspace.release(place);
        }
        self.publish();
        slot.say_end();
    }

    /// Computes the next text that waits for its vector.
    fn embed_one(&mut self) {
        let Network::Encoder(encoder) = &self.network else {
            return self.queue.end_all(|| Error::NoVectors);
        };
        let Some((ticket, item)) = self.queue.next() else { return };
        let row = self.pool.install(|| encoder.compute(&item.tokens, &item.types, self.pooling));
        let figures = &self.figures;
        let busy = |waiting: usize| figures.embedding.store(waiting as u32, Ordering::Relaxed);
        self.queue.tell(ticket, &item, row.map_err(Error::from), busy);
    }

    fn end_all(&mut self, error: impl Fn() -> Error) {
        for ticket in self.waiting.drain(..) {
            ticket.refuse(error());
        }
        self.queue.end_all(&error);
        for place in 0..self.slots.len() {
            if let Some(slot) = &mut self.slots[place] {
                slot.fail(error());
            }
            self.release(place);
        }
    }

    fn publish(&self) {
        let kv_bytes = self.workspace.as_ref().map_or(0, Workspace::bytes);
        let used = self.workspace.as_ref().map_or(0, Workspace::used_tokens);
        let busy = self.slots.iter().flatten().count();
        let held_bytes = self.fixed_bytes + self.step_bytes + kv_bytes;
        self.figures.held_bytes.store(held_bytes, Ordering::Relaxed);
        self.figures.kv_used_tokens.store(used as u32, Ordering::Relaxed);
        self.figures.embedding.store(self.queue.len() as u32, Ordering::Relaxed);
        self.figures.busy_slots.store(busy as u32, Ordering::Relaxed);
    }
}

/// Shows each row of logits where it lies, where that is this machine's memory.
fn each_row(logits: &Tensor, mut show: impl FnMut(usize, &[f32])) -> candle_core::Result<()> {
    let width = logits.dim(1)?;
    {
        let (storage, layout) = logits.storage_and_layout();
        if let (Storage::Cpu(numbers), Some((from, to))) = (&*storage, layout.contiguous_offsets()) {
            let numbers = &numbers.as_slice::<f32>()?[from..to];
            numbers.chunks(width).enumerate().for_each(|(row, logits)| show(row, logits));
            return Ok(());
        }
    }
    let numbers = logits.flatten_all()?.to_vec1::<f32>()?;
    numbers.chunks(width).enumerate().for_each(|(row, logits)| show(row, logits));
    Ok(())
}

fn pool(threads: usize) -> Result<ThreadPool, Error> {
    let named = |number| format!("candle-{number}");
    let builder = ThreadPoolBuilder::new().num_threads(threads.max(1)).thread_name(named);
    builder.build().map_err(|error| Error::Thread { detail: error.to_string() })
}
