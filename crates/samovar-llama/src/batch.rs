//! The loop that owns a context: every request of an instance, one native step at a time.
//!
//! ```text
//!   ┌─► commands ─► cancelled? ─► slots ─► prefixes ─► pick ─► decode ─► sample, say ─┐
//!   └──────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! No other thread touches the context. It never blocks on a reader: each answer's channel has room for the
//! whole answer. A step is one `decode`; cancellation is looked at before each. A model that makes vectors, too, computes a
//! batch of those after each step.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use samovar_core::FinishReason;

use crate::adapters::Adapters;
use crate::context::{Batch, Context, DecodeError};
use crate::embed::Embedder;
use crate::error::Error;
use crate::kv::Kv;
use crate::packed::WeightViews;
use crate::plan::{BATCH_TOKENS, LoadPlan};
use crate::prefix::{self, Candidate, Choice, Reuse};
use crate::published::Published;
use crate::schedule::{self, Company, Pace, Work};
use crate::slot::{Slot, SlotProgress};
use crate::threads::{Computing, PeerPlace, Stopwatch, Threads};
use crate::ticket::{Command, Reply, Ticket};
use crate::turns::AdapterQueue;
use crate::{log, native};

/// Requests that may wait for a slot inside the instance. The pool's queue is the real one.
const MAX_WAITING: usize = 1024;
/// Failed steps in a row after which the instance gives itself up.
const MAX_FAILURES: u32 = 3;

/// Why the loop ended. Its context is gone by then.
#[derive(Debug)]
pub(crate) enum Exit {
    /// Asked to give its memory back.
    Park(Reply<()>),
    /// No caller is left.
    Unload,
    /// Too many failed steps in a row.
    Dead(Error),
}

/// The loop's state.
pub(crate) struct Batcher<'m> {
    context: Context<'m>,
    vocab: LlamaVocab<'m>,
    /// If its weights change with the size of batches.
    weight_views: Option<&'m WeightViews<'m>>,
    plan: LoadPlan,
    published: &'m Published,
    // Dropped after the context, which may have some attached.
    adapters: Adapters<'m>,
    batch: Batch,
    kv: Kv,
    /// In order of arrival.
    slots: Vec<Slot>,
    waiting: VecDeque<Ticket>,
    pace: Pace,
    turns: AdapterQueue,
    threads: Threads<'m>,
    place: &'m PeerPlace,
    /// While there is anything to do.
    computing: Option<Computing>,
    failures: u32,
    /// Tokens that end an answer; found on first need.
    enders: Option<Vec<LlamaToken>>,
    /// Makes vectors, if the model was loaded for that, too.
    embedder: Option<Embedder<'m>>,
}

impl<'m> Batcher<'m> {
    pub(crate) fn new(
        context: Context<'m>,
        model: &'m LlamaModel,
        weight_views: Option<&'m WeightViews<'m>>,
        plan: LoadPlan,
        published: &'m Published,
        place: &'m PeerPlace,
    ) -> Self {
        let is_recurrent = model.is_recurrent() || model.is_hybrid();
        let reuse = if is_recurrent { Reuse::WholeOnly } else { Reuse::Partial };
        let cells = context.cells();
        let kv = Kv::new(
            cells,
            plan.sequences(is_recurrent),
            plan.retained(is_recurrent),
            reuse,
            native::window_tokens(model),
        );
        Self {
            context,
            vocab: model.vocab(),
            weight_views,
            plan,
            published,
            adapters: Adapters::new(model),
            batch: Batch::default(),
            kv,
            slots: Vec::new(),
            waiting: VecDeque::new(),
            pace: Pace::default(),
            turns: AdapterQueue::default(),
            threads: Threads::new(plan.threads, &place.allowance),
            place,
            computing: None,
            failures: 0,
            enders: None,
            embedder: None,
        }
    }

    /// The same beside an embedder.
    pub(crate) fn with(self, embedder: Option<Embedder<'m>>) -> Self {
        Self { embedder, ..self }
    }

    /// Serves until told otherwise. Requests that still run are broken off with `Parked`, `Gone` or the
    /// failure itself.
    pub(crate) fn serve(mut self, commands: &Receiver<Command>) -> Exit {
        loop {
            if let Some(exit) = self.listen(commands) {
                let reason = if matches!(exit, Exit::Park(_)) { Error::Parked } else { Error::Gone };
                self.end_all(&reason);
                return exit;
            }
            self.forget_cancelled();
            self.admit();
            self.place();
            self.publish();
            if let Err(error) = self.step() {
                tracing::warn!(%error, "a step of inference failed");
                self.break_off(&error);
                self.failures += 1;
                if self.failures >= MAX_FAILURES {
                    let error = Error::Dead { failures: self.failures, detail: error.to_string() };
                    self.end_all(&error);
                    return Exit::Dead(error);
                }
            }
            self.publish();
            if let Err(error) = self.embed() {
                self.end_all(&error);
                return Exit::Dead(error);
            }
        }
    }

    /// A batch of inputs that become vectors, if there are any.
    fn embed(&mut self) -> Result<(), Error> {
        let Some(embedder) = self.embedder.as_mut().filter(|embedder| !embedder.is_idle()) else {
            return Ok(());
        };
        let wanted = self.plan.threads;
        self.computing.get_or_insert_with(|| self.place.compute(wanted));
        embedder.step(!self.slots.is_empty())
    }

    fn is_idle(&self) -> bool {
        self.slots.is_empty()
            && self.waiting.is_empty()
            && self.embedder.as_ref().is_none_or(Embedder::is_idle)
    }

    /// Takes all commands there are; waits for one when there is nothing else to do.
    fn listen(&mut self, commands: &Receiver<Command>) -> Option<Exit> {
        loop {
            let command = if self.is_idle() {
                // No other program waits for cores that are not used.
                self.computing = None;
                commands.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                commands.try_recv()
            };
            match command {
                Ok(Command::Generate(ticket)) if self.waiting.len() >= MAX_WAITING => {
                    ticket.refuse(Error::TooManyWaiting { waiting: MAX_WAITING });
                }
                Ok(Command::Generate(ticket)) => self.receive(*ticket),
                Ok(Command::Embed(ticket)) => match &mut self.embedder {
                    Some(embedder) => embedder.receive(*ticket),
                    None => ticket.refuse(Error::NoVectors),
                },
                Ok(Command::Park(reply)) => return Some(Exit::Park(reply)),
                Ok(Command::Resume(_, reply)) => {
                    let _ = reply.try_send(Ok(()));
                }
                Ok(Command::Prefix(question)) => {
                    question.serve(&mut self.kv, &mut self.context, self.published.prefix_id());
                }
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => return Some(Exit::Unload),
            }
        }
    }

    /// Lets a request wait for its slot. It was checked when the context may have been larger.
    fn receive(&mut self, mut ticket: Ticket) {
        let (prompt, context) = (ticket.prompt.len(), self.plan.context_tokens);
        let rest = (context as usize).saturating_sub(prompt);
        if rest == 0 {
            return ticket.refuse(Error::PromptTooLong { prompt, context });
        }
        ticket.max_tokens = ticket.max_tokens.min(rest as u32);
        self.waiting.push_back(ticket);
    }

    fn forget_cancelled(&mut self) {
        self.waiting.retain(|ticket| !ticket.events.is_closed());
        for index in (0..self.slots.len()).rev() {
            if self.slots[index].is_cancelled() {
                self.vacate(index);
            }
        }
    }

    /// Gives free slots to those who wait, in order of arrival.
    fn admit(&mut self) {
        let mut busy = self.slots.iter().filter(|slot| !slot.is_probe()).count();
        let mut index = 0;
        while index < self.waiting.len() {
            let is_probe = self.waiting[index].is_probe;
            if !is_probe && busy >= self.plan.slots as usize
                || is_probe && self.slots.iter().any(Slot::is_probe)
            {
                index += 1;
                continue;
            }
            let in_use: Vec<_> = self.slots.iter().map(Slot::adapters).collect();
            if !self.adapters.has_room(&self.waiting[index].adapters, &in_use) {
                // Only probes pass it: so its turn comes when the running ones have ended.
                busy = self.plan.slots as usize;
                continue;
            }
            let ticket = self.waiting.remove(index).expect("invariant: index < len");
            if let Err(error) = self.adapters.ensure(&mut self.context, &ticket.adapters, &in_use) {
                ticket.refuse(error);
                continue;
            }
            busy += usize::from(!is_probe);
            let slot =
                if ticket.ignore_eos { Slot::new(ticket, self.enders()) } else { Slot::new(ticket, &[]) };
            self.slots.push(slot);
        }
    }

    fn enders(&mut self) -> &[LlamaToken] {
        let vocab = &self.vocab;
        self.enders.get_or_insert_with(|| {
            (0..vocab.n_tokens()).map(LlamaToken).filter(|&token| vocab.is_eog(token)).collect()
        })
    }

    /// Gives slots that have none a place in the cache, unless another is computing what they need.
    fn place(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots[index].sequence().is_none() {
                self.place_one(index);
            }
        }
    }

    fn place_one(&mut self, index: usize) {
        let (earlier, rest) = self.slots.split_at_mut(index);
        let slot = &mut rest[0];
        let retained = self.kv.retained();
        let is_like = |other: &&Slot| {
            other.reuses_prefix()
                && other.adapters() == slot.adapters()
                && slot.scope().may_use(other.scope())
        };
        let choice = if slot.reuses_prefix() {
            // Only earlier requests are waited for: so no two can wait for each other.
            let live = earlier.iter().filter(is_like);
            let live = live.map(|other| Candidate {
                tokens: other.tokens(),
                computed: other.computed(),
                least: other.sequence().map_or(0, |sequence| self.kv.least(&self.context, sequence)),
            });
            let kept = self.kv.candidates(&self.context, slot.adapters(), slot.scope());
            let candidates: Vec<_> = kept.chain(live).collect();
            prefix::choose(slot.tokens(), &candidates, self.kv.reuse())
        } else {
            Choice::Compute
        };
        let own_tokens = match choice {
            Choice::Copy { tokens, .. } => {
                let live = earlier.iter().filter(is_like).filter(|other| slot.scope().is_own(other.scope()));
                let own = live.map(Slot::tokens).chain(self.kv.own(slot.adapters(), slot.scope()));
                let taken = &slot.tokens()[..tokens];
                own.map(|own| prefix::common_tokens(own, taken)).max().unwrap_or(0)
            }
            Choice::Compute | Choice::Wait { .. } => 0,
        };
        let context = &mut self.context;
        let sequence = match choice {
            Choice::Wait { .. } => return,
            Choice::Compute => self.kv.open(context),
            Choice::Copy { from, tokens } if from < retained => self.kv.share_retained(context, from, tokens),
            Choice::Copy { from, tokens } => {
                let source = earlier.iter().filter(is_like).nth(from - retained);
                let source = source.and_then(Slot::sequence);
                let source = source.expect("invariant: only a sequence that exists has computed tokens");
                self.kv.share(context, source, tokens)
            }
        };
        slot.place(sequence, own_tokens);
        if self.kv.reuse() == Reuse::WholeOnly && slot.reuses_prefix() {
            let vocab = &self.vocab;
            let stops = prefix::stops(slot.tokens(), slot.computed(), |token| vocab.is_control(token));
            slot.stop_at(stops);
        }
    }

    fn publish(&self) {
        let busy = self.slots.iter().filter(|slot| !slot.is_probe()).count();
        self.published.work(self.kv.used_cells(), busy);
        self.published.adapters(self.adapters.bytes());
    }

    /// One native step.
    fn step(&mut self) -> Result<(), Error> {
        let mut works: Vec<Work> = self.slots.iter().map(Slot::work).collect();
        if self.computing.is_none() {
            self.computing = Some(self.place.compute(self.plan.threads));
            self.threads.begin();
        }
        let company = Company::of(&works);
        let company = if self.threads.is_crowded() { company.beside_others() } else { company };
        let chunk = self.pace.chunk_tokens(company, BATCH_TOKENS as usize);
        self.take_turns(&mut works);
        let parts = schedule::pick(&works, BATCH_TOKENS as usize, chunk);
        let tokens: usize = parts.iter().sum();
        if tokens == 0 {
            return Ok(());
        }
        if !self.kv.make_room(&mut self.context, tokens) {
            self.end_longest();
            return Ok(());
        }
        let outputs = self.fill_batch(&parts);
        if let Some(weight_views) = self.weight_views {
            weight_views.select_for_batch(tokens);
        }
        let chosen = self.threads.choose(tokens);
        self.context.set_threads(chosen.threads);
        self.published.threads(self.threads.used());
        let start = Instant::now();
        let watch = Stopwatch::start();
        // No request waits for this step when all in it have left, or the instance is to leave. One whose threads
        // do not get cores is computed again with fewer, which is sooner done; recurrent state would have to begin anew.
        // A step that is broken off costs all recurrent states: those of others are worth more than its rest.
        let (slots, published) = (&self.slots, self.published);
        let may_repeat = self.kv.reuse() != Reuse::WholeOnly;
        let mut others = slots.iter().zip(&parts).filter(|(_, part)| **part == 0);
        let is_alone = self.kv.retained() == 0 && others.all(|(slot, _)| slot.sequence().is_none());
        let may_leave = may_repeat || is_alone;
        let is_hopeless = Cell::new(false);
        let is_to_stop = || {
            let mut computed = slots.iter().zip(&parts).filter(|(_, part)| **part > 0);
            published.is_interrupted() || (may_leave && computed.all(|(slot, _)| slot.is_cancelled())) || {
                is_hopeless.set(may_repeat && watch.is_hopeless(&chosen));
                is_hopeless.get()
            }
        };
        match self.context.decode(&mut self.batch, &is_to_stop) {
            Ok(()) => self.threads.note(&chosen, &watch, true),
            Err(DecodeError::Interrupted) if is_hopeless.get() => {
                self.threads.note(&chosen, &watch, false);
                return Ok(());
            }
            Err(DecodeError::Interrupted) => {
                if self.kv.reuse() == Reuse::WholeOnly {
                    self.lose_states();
                }
                return Ok(());
            }
            Err(DecodeError::NoRoom) => {
                let _ = log::take_complaints();
                // The book says that there is room; the cache knows better. What is kept for others goes
                // first, then the longest answer.
                if !self.kv.evict_oldest(&mut self.context) {
                    self.end_longest();
                }
                return Ok(());
            }
            Err(DecodeError::Failed(code)) => {
                return Err(Error::Decode { code, detail: log::take_complaints() });
            }
        }
        self.failures = 0;
        self.advance(&parts, &outputs);
        // Sampling is part of what the others wait for.
        self.pace.note(tokens, start.elapsed());
        Ok(())
    }

    /// Attaches the adapters whose turn it is; who needs others waits.
    fn take_turns(&mut self, works: &mut [Work]) {
        let working = self.slots.iter().zip(&*works).filter(|(_, work)| **work != Work::Wait);
        let set = self.turns.next(working.map(|(slot, _)| slot.adapters()), Instant::now());
        for (slot, work) in self.slots.iter().zip(works) {
            if *slot.adapters() != set {
                *work = Work::Wait;
            }
        }
        self.adapters.attach(&mut self.context, &set);
    }

    /// Puts each slot's part into the batch. Returns where each slot's logits will be, for those whose
    /// last token is in it.
    fn fill_batch(&mut self, parts: &[usize]) -> Vec<Option<usize>> {
        self.batch.clear();
        let batch = &mut self.batch;
        let fill = |(slot, &part): (&Slot, &usize)| {
            let (id, start) = (slot.sequence()?.id(), slot.computed());
            let mut output = None;
            for (offset, &token) in slot.tokens()[start..start + part].iter().enumerate() {
                let position = start + offset;
                let is_last = position + 1 == slot.tokens().len();
                let place = batch.add(token, position, id, is_last);
                output = is_last.then_some(place);
            }
            output
        };
        self.slots.iter().zip(parts).map(fill).collect()
    }

    /// Books what was computed, and lets those whose logits are there say their next token.
    fn advance(&mut self, parts: &[usize], outputs: &[Option<usize>]) {
        for (slot, &part) in self.slots.iter_mut().zip(parts) {
            if let Some(sequence) = slot.sequence_mut() {
                self.kv.book(sequence, part);
            }
        }
        self.keep_states();
        for index in (0..self.slots.len()).rev() {
            let Some(output) = outputs[index] else {
                if parts[index] > 0 {
                    self.slots[index].tell_progress();
                }
                continue;
            };
            let Some(logits) = self.context.logits(output) else { continue };
            if self.slots[index].advance(logits, &self.vocab) == SlotProgress::Ends {
                self.vacate(index);
            }
        }
    }

    /// Keeps the state of prompts that have come to where it may be needed again.
    fn keep_states(&mut self) {
        for slot in &mut self.slots {
            if let Some(of) = slot.checkpoint()
                && let Some(sequence) = slot.sequence()
            {
                self.kv.checkpoint(&mut self.context, sequence, of, self.published.prefix_id());
            }
        }
    }

    /// Gives up all recurrent states after a step that was broken off: those of the step may have taken half of it in, and
    /// llama.cpp moves others about while it computes. A sequence that goes on begins again.
    fn lose_states(&mut self) {
        while self.kv.evict_oldest(&mut self.context) {}
        for slot in &mut self.slots {
            if let Some(sequence) = slot.begin_anew() {
                self.kv.close(&mut self.context, sequence);
            }
        }
    }

    /// Frees a slot; what it computed stays for others if it may.
    fn vacate(&mut self, index: usize) {
        let slot = self.slots.remove(index);
        let is_kept = slot.reuses_prefix();
        let (sequence, computed, final_event) = slot.into_parts();
        match sequence {
            Some(sequence) if is_kept => {
                self.kv.retain(&mut self.context, sequence, computed, self.published.prefix_id());
            }
            Some(sequence) => self.kv.close(&mut self.context, sequence),
            None => {}
        }
        self.publish();
        final_event.say();
    }

    /// Ends the longest answer, so that the others can go on.
    fn end_longest(&mut self) {
        let longest = (0..self.slots.len()).max_by_key(|&index| self.slots[index].computed());
        if let Some(index) = longest {
            self.slots[index].forget_prefix();
            self.slots[index].finish(FinishReason::Length);
            self.vacate(index);
        }
    }

    /// Ends everything that runs or waits, and forgets everything computed.
    fn break_off(&mut self, error: &Error) {
        while let Some(mut slot) = self.slots.pop() {
            slot.fail(error.clone());
            slot.forget_prefix();
            self.slots.push(slot);
            self.vacate(self.slots.len() - 1);
        }
        for ticket in self.waiting.drain(..) {
            ticket.refuse(error.clone());
        }
        while self.kv.evict_oldest(&mut self.context) {}
        self.publish();
    }

    /// Ends all requests for vectors, too.
    fn end_all(&mut self, error: &Error) {
        self.break_off(error);
        if let Some(embedder) = &mut self.embedder {
            embedder.break_off(error);
        }
    }
}
