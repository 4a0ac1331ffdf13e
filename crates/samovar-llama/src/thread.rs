//! The thread that owns an instance's native state, from load to unload.
//!
//! ```text
//!   load model ──► open context ◄──────── resume ────────┐
//!                      │                                 │
//!                      ▼                                 │
//!                  Batcher::serve ── park ──► parked (model alone)
//!                      │      └── too many failures ──► dead (says so to everybody)
//!                      └── all senders gone ──► unload
//! ```
//!
//! A context borrows its model, so both live on this thread's stack: the model outside, the context
//! inside the loop that serves. The handle keeps a second reference to the model for its vocabulary.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use llama_cpp_2::model::LlamaModel;
use samovar_core::Descriptor;

use crate::batch::{Batcher, Exit};
use crate::context::Context;
use crate::error::Error;
use crate::footprint::Account;
use crate::plan::Plan;
use crate::published::Published;
use crate::ticket::{Command, Reply};
use crate::{log, native};

/// What the thread says while it loads. Ends with `Ready` or `Failed`.
#[derive(Debug)]
pub(crate) enum Loading {
    Progress(f32),
    Ready(Arc<LlamaModel>),
    Failed(Error),
}

/// Everything a thread is started with.
pub(crate) struct Start<'a> {
    pub path: &'a Path,
    pub descriptor: &'a Descriptor,
    pub plan: Plan,
    pub published: &'a Published,
    pub commands: &'a Receiver<Command>,
    pub loading: SyncSender<Loading>,
    pub cancelled: &'a AtomicBool,
}

/// The thread's whole life.
pub(crate) fn run(start: Start<'_>) {
    let Start { path, descriptor, plan, published, commands, loading, cancelled } = start;
    // What an earlier tenant of this thread-local log left behind is not ours.
    let _ = (log::take_complaints(), log::take_buffers());
    let model = match load(path, &plan, &loading, cancelled) {
        Ok(model) => Arc::new(model),
        Err(error) => return drop(loading.send(Loading::Failed(error))),
    };
    let account = Account::default().add(&log::take_buffers());
    let tenancy = Tenancy { model: &model, descriptor, published, account };
    let context = match tenancy.open_context(&plan) {
        Ok(context) => context,
        Err(error) => return drop(loading.send(Loading::Failed(error))),
    };
    if cancelled.load(Ordering::Relaxed) {
        return drop(loading.send(Loading::Failed(Error::LoadCancelled { path: path.to_owned() })));
    }
    if loading.send(Loading::Ready(Arc::clone(&model))).is_err() {
        return;
    }
    drop(loading);
    tenancy.live(State::Ready(context, plan), commands);
}

fn load(
    path: &Path,
    plan: &Plan,
    loading: &SyncSender<Loading>,
    cancelled: &AtomicBool,
) -> Result<LlamaModel, Error> {
    let report = |fraction| {
        // Progress is a courtesy: if nobody keeps up, the next one will do.
        let _ = loading.try_send(Loading::Progress(fraction));
        !cancelled.load(Ordering::Relaxed)
    };
    let model = native::load_model(path, plan.weights, report);
    model.ok_or_else(|| {
        let detail = log::take_complaints();
        let path = path.to_owned();
        if cancelled.load(Ordering::Relaxed) {
            Error::LoadCancelled { path }
        } else {
            Error::Load { path, detail }
        }
    })
}

/// A loaded model on its thread.
struct Tenancy<'m> {
    model: &'m LlamaModel,
    descriptor: &'m Descriptor,
    published: &'m Published,
    /// Without a context.
    account: Account,
}

/// Between two contexts.
enum State<'m> {
    Ready(Context<'m>, Plan),
    Parked(Plan),
    Dead(Error),
}

impl<'m> Tenancy<'m> {
    fn open_context(&self, plan: &Plan) -> Result<Context<'m>, Error> {
        let is_recurrent = self.model.is_recurrent() || self.model.is_hybrid();
        // What the context before this one allocated is gone.
        let _ = log::take_buffers();
        let context = Context::new(self.model, plan.context(is_recurrent))
            .ok_or_else(|| Error::Context { cells: plan.cells, detail: log::take_complaints() })?;
        self.publish(self.account.add(&log::take_buffers()), plan, context.cells());
        self.published.context(plan.context_tokens);
        Ok(context)
    }

    fn publish(&self, account: Account, plan: &Plan, cells: u32) {
        let held = account.held_bytes(self.descriptor, plan);
        let mapped = account.mapped_bytes(self.descriptor);
        self.published.memory(held, mapped, cells);
    }

    fn live(&self, first: State<'m>, commands: &Receiver<Command>) {
        let mut state = first;
        loop {
            state = match state {
                State::Ready(context, plan) => {
                    match Batcher::new(context, self.model, plan, self.published).serve(commands) {
                        Exit::Unload => return,
                        Exit::Park(reply) => self.parked(plan, &reply),
                        Exit::Dead(error) => State::Dead(error),
                    }
                }
                State::Parked(plan) => match commands.recv() {
                    Err(_) => return,
                    Ok(Command::Generate(ticket)) => {
                        ticket.refuse(Error::Parked);
                        State::Parked(plan)
                    }
                    Ok(Command::Park(reply)) => self.parked(plan, &reply),
                    Ok(Command::Resume(wanted, reply)) => self.resume(plan, wanted, &reply),
                    Ok(Command::Kept(question)) => {
                        question.refuse_parked();
                        State::Parked(plan)
                    }
                },
                State::Dead(error) => match commands.recv() {
                    Err(_) => return,
                    Ok(Command::Generate(ticket)) => {
                        ticket.refuse(error.clone());
                        State::Dead(error)
                    }
                    Ok(Command::Park(reply)) => {
                        self.published.interrupted();
                        let _ = reply.try_send(Err(error.clone()));
                        State::Dead(error)
                    }
                    Ok(Command::Resume(_, reply)) => {
                        let _ = reply.try_send(Err(error.clone()));
                        State::Dead(error)
                    }
                    Ok(Command::Kept(question)) => {
                        question.refuse(error.clone());
                        State::Dead(error)
                    }
                },
            }
        }
    }

    fn parked(&self, plan: Plan, reply: &Reply<()>) -> State<'m> {
        self.published.interrupted();
        native::trim_heap();
        self.publish(self.account, &plan, 0);
        self.published.work(0, 0);
        self.published.adapters(0);
        self.published.parked(true);
        let _ = reply.try_send(Ok(()));
        State::Parked(plan)
    }

    fn resume(&self, before: Plan, wanted: Plan, reply: &Reply<()>) -> State<'m> {
        match self.open_context(&wanted) {
            Ok(context) => {
                self.published.parked(false);
                let _ = reply.try_send(Ok(()));
                State::Ready(context, wanted)
            }
            Err(error) => {
                let _ = reply.try_send(Err(error));
                State::Parked(before)
            }
        }
    }
}
