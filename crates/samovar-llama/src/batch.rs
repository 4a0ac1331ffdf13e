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

mod admission;
mod step;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, TryRecvError};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use samovar_core::FinishReason;

use crate::adapters::Adapters;
use crate::context::{Batch, Context};
use crate::drafter::Drafter;
use crate::embed::Embedder;
use crate::error::Error;
use crate::kv::Kv;
use crate::native;
use crate::packed::WeightViews;
use crate::plan::LoadPlan;
use crate::prefix::Reuse;
use crate::published::Published;
use crate::schedule::Pace;
use crate::slot::Slot;
use crate::speculate::{Costs, ModelController};
use crate::threads::{Computing, PeerPlace, Threads};
use crate::ticket::{Command, Reply, Ticket};
use crate::turns::AdapterQueue;

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
    /// What a draft costs.
    costs: Costs,
    /// Says what the only request may say next, if there is a draft model and it has not failed.
    drafter: Option<Box<Drafter<'m>>>,
    model_controller: ModelController,
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
            costs: Costs::new(),
            drafter: None,
            model_controller: ModelController::new(1.0),
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

    /// The same with a draft model, whose weights are this part of the model's.
    pub(crate) fn with_drafter(self, drafter: Option<Box<Drafter<'m>>>, part: f64) -> Self {
        Self { drafter, model_controller: ModelController::new(part), ..self }
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

    fn forget_cancelled(&mut self) {
        self.waiting.retain(|ticket| !ticket.events.is_closed());
        for index in (0..self.slots.len()).rev() {
            if self.slots[index].is_cancelled() {
                self.vacate(index);
            }
        }
    }

    fn publish(&self) {
        let busy = self.slots.iter().filter(|slot| !slot.is_probe()).count();
        self.published.work(self.kv.used_cells(), busy);
        self.published.adapters(self.adapters.bytes());
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
