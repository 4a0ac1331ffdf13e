//! The thread that owns an instance's native state, from load to unload.
//!
//! ```text
//!   load model ──► open context ◄──────── resume ────────┐
//!                      │                                 │
//!                      ▼                                 │
//!                  Batcher::serve, or the embedder alone ── park ──► parked (model alone)
//!                      │      └── too many failures ──► dead (says so to all callers)
//!                      └── all senders gone ──► unload
//! ```
//!
//! A context borrows its model, so both live on this thread's stack: the model outside, the context
//! inside the loop that serves. A draft model is loaded after its model, and lives and goes with it. The
//! handle keeps a second reference to the model for its vocabulary.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use llama_cpp_2::model::LlamaModel;
use samovar_core::embedding::Pooling;
use samovar_core::{Arrangement, Descriptor, DraftModel, Layout, ModelFiles, port};

use crate::batch::{Batcher, Exit};
use crate::context::Context;
use crate::drafter::{DraftPlan, Drafter};
use crate::embed::{EmbedPlan, Embedder, serve_alone};
use crate::error::Error;
use crate::footprint::Account;
use crate::native::{ModelInput, WeightOptions};
use crate::packed::{PackedFile, Unfit, WeightViews};
use crate::plan::{ContextOptions, LoadPlan};
use crate::published::Published;
use crate::threads::PeerPlace;
use crate::ticket::{Command, Reply};
use crate::{log, native};

/// What the thread says while it loads. Ends with `Ready` or `Failed`.
#[derive(Debug)]
pub(crate) enum Loading {
    Progress(f32),
    Ready(Arc<LlamaModel>, Arrangement),
    Failed(Error),
}

/// Everything a thread is started with.
pub(crate) struct Start<'a> {
    pub files: &'a ModelFiles,
    pub packed: Option<port::PackedFile<'a>>,
    pub descriptor: &'a Descriptor,
    /// The draft model, whose files are among the model's.
    pub draft: Option<&'a DraftModel>,
    pub plan: LoadPlan,
    pub published: &'a Published,
    /// Among the instances of this process that compute.
    pub place: &'a PeerPlace,
    pub commands: &'a Receiver<Command>,
    pub loading: SyncSender<Loading>,
    pub cancelled: &'a AtomicBool,
    /// The most that was said to be done; a second attempt says no less.
    pub told: Cell<f32>,
}

/// The thread's whole life.
pub(crate) fn run(start: &Start<'_>) {
    // What an earlier tenant of this thread-local log left behind is not ours.
    let _ = (log::take_complaints(), log::take_buffers());
    let offered = start.packed.filter(|_| start.plan.layout.needs_packed_file());
    let opened =
        offered.map(|packed| PackedFile::open(packed, start.files.main(), start.descriptor)).transpose();
    let lived = match &opened {
        Ok(Some(file)) if start.plan.layout == Layout::Hybrid => start.live_with_both(file),
        Ok(Some(file)) => start.live_with_packed(file),
        Ok(None) => start.live_without(None),
        Err(unfit) => Err(End::Unfit(unfit.clone())),
    };
    let failed = match lived {
        Err(End::Unfit(unfit)) => start.live_without(Some(&unfit)).err(),
        lived => lived.err(),
    };
    if let Some(End::Failed(error)) = failed {
        drop(start.loading.send(Loading::Failed(error)));
    }
}

/// Why there is no instance.
enum End {
    /// The packed file is not used. Nothing has been promised yet.
    Unfit(Unfit),
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Unfit> for End {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

impl Start<'_> {
    /// Serves the model from its own file.
    fn live_without(&self, unfit: Option<&Unfit>) -> Result<(), End> {
        let model = Arc::new(self.load(ModelInput::Files(self.files))?);
        self.live_plainly(&model, unfit)
    }

    /// Serves a model that was loaded from its own file.
    fn live_plainly(&self, model: &Arc<LlamaModel>, unfit: Option<&Unfit>) -> Result<(), End> {
        if let Some(reason) = unfit {
            tracing::warn!(%reason, "packed weights are not used");
        }
        let refused = match unfit {
            Some(Unfit::Refused(refusal)) => Some(refusal.to_string()),
            // No word about a file that may be good.
            Some(Unfit::Unseen(_)) | None => None,
        };
        let layout = if self.plan.layout == Layout::Repacked { Layout::Repacked } else { Layout::Mapped };
        self.live(model, None, 0, Arrangement { layout, refused })
    }

    /// Serves the model from its packed file.
    fn live_with_packed(&self, file: &PackedFile) -> Result<(), End> {
        let model = match self.load(ModelInput::File(file.file())) {
            // Its header is that of the model, so the file is not to blame.
            Err(Error::Load { detail, .. }) => return Err(Unfit::Unseen(detail).into()),
            loaded => Arc::new(loaded?),
        };
        let _weight_views = WeightViews::of_packed(&model, file, self.plan.is_locked)?;
        let arrangement = Arrangement { layout: Layout::Packed, refused: None };
        self.live(&model, None, file.tail_bytes(), arrangement)
    }

    /// Serves the model from both.
    fn live_with_both(&self, file: &PackedFile) -> Result<(), End> {
        let model = Arc::new(self.load(ModelInput::Files(self.files))?);
        match WeightViews::beside(&model, file, self.plan.is_locked) {
            Ok(weight_views) => {
                let arrangement = Arrangement { layout: Layout::Hybrid, refused: None };
                self.live(&model, Some(&weight_views), file.packed_bytes(), arrangement)
            }
            Err(unfit) => self.live_plainly(&model, Some(&unfit)),
        }
    }

    fn load(&self, origin: ModelInput<'_>) -> Result<LlamaModel, Error> {
        let report = |fraction: f32| {
            self.told.set(fraction.max(self.told.get()));
            // Progress is a courtesy: if the reader is slow, the next one will do.
            let _ = self.loading.try_send(Loading::Progress(self.told.get()));
            !self.cancelled.load(Ordering::Relaxed)
        };
        let model = native::load_model(origin, self.plan.weights(), report);
        model.ok_or_else(|| Error::not_loaded(self.files.main(), self.cancelled.load(Ordering::Relaxed)))
    }

    /// Loads the draft model, if the model has one.
    fn load_draft(&self, model: &LlamaModel) -> Result<Option<LoadedDraft<'_>>, Error> {
        let (Some(draft), Some(plan)) = (self.draft, self.plan.draft) else { return Ok(None) };
        let cannot = |files: &ModelFiles, why: &str| Error::Draft {
            model: self.files.main().to_owned(),
            draft: files.main().to_owned(),
            why: why.to_owned(),
        };
        let files = self.files.draft().ok_or_else(|| cannot(self.files, "its files were not given"))?;
        let keeps_state = |model: &LlamaModel| model.is_recurrent() || model.is_hybrid();
        if keeps_state(model) {
            return Err(cannot(&files, "the model keeps state of which no token can be taken back"));
        }
        if native::window_tokens(model) > 0 {
            return Err(cannot(&files, "of the window of the model's attention no token can be taken back"));
        }
        let options = WeightOptions { is_repacked: false, is_locked: self.plan.is_locked };
        let is_cancelled = || self.cancelled.load(Ordering::Relaxed);
        let loaded = native::load_model(ModelInput::Files(&files), options, |_| !is_cancelled());
        let loaded = loaded.ok_or_else(|| Error::not_loaded(files.main(), is_cancelled()))?;
        if keeps_state(&loaded) {
            return Err(cannot(&files, "it keeps state of which no token can be taken back"));
        }
        let account = Account::default().add(&log::take_buffers());
        Ok(Some(LoadedDraft { model: loaded, descriptor: &draft.descriptor, plan, account }))
    }

    fn live<'m>(
        &'m self,
        model: &'m Arc<LlamaModel>,
        weight_views: Option<&'m WeightViews<'m>>,
        beside_bytes: u64,
        arrangement: Arrangement,
    ) -> Result<(), End> {
        let account = Account::default().add(&log::take_buffers());
        let draft = self.load_draft(model)?;
        let (descriptor, published, place) = (self.descriptor, self.published, self.place);
        let draft = draft.as_ref();
        let tenancy =
            Tenancy { model, descriptor, draft, published, place, account, weight_views, beside_bytes };
        let contexts = tenancy.open_contexts(&self.plan)?;
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::LoadCancelled { path: self.files.main().to_owned() }.into());
        }
        if self.loading.send(Loading::Ready(Arc::clone(model), arrangement)).is_ok() {
            tenancy.live(State::Ready(Box::new(contexts), self.plan), self.commands);
        }
        Ok(())
    }
}

/// That vectors are as wide as the model, as llama.cpp makes them; it reads them as wide as the file says.
fn check_width(model: &LlamaModel, pooling: Pooling) -> Result<(), Error> {
    let (made, read) = (model.n_embd(), model.n_embd_out());
    if pooling != Pooling::Rank && made != read {
        let detail = format!("vectors of {made} numbers are made, and its file says {read}");
        return Err(Error::Options { detail });
    }
    Ok(())
}

/// A draft model beside a loaded model.
struct LoadedDraft<'a> {
    model: LlamaModel,
    descriptor: &'a Descriptor,
    plan: DraftPlan,
    /// Without a context.
    account: Account,
}

/// A loaded model on its thread.
struct Tenancy<'m> {
    model: &'m LlamaModel,
    descriptor: &'m Descriptor,
    draft: Option<&'m LoadedDraft<'m>>,
    published: &'m Published,
    place: &'m PeerPlace,
    /// Without a context.
    account: Account,
    /// If its weights change with the size of batches.
    weight_views: Option<&'m WeightViews<'m>>,
    /// Packed weights that are mapped beside those that llama.cpp has mapped.
    beside_bytes: u64,
}

/// A context for vectors, and its sizes.
type Embedding<'m> = (Context<'m>, EmbedPlan);

/// What a model computes with.
enum Contexts<'m> {
    /// It writes text, and may make vectors beside, or have a draft model.
    Text(Context<'m>, Option<Embedding<'m>>, Option<Box<Drafter<'m>>>),
    /// It makes vectors alone.
    Vectors(Embedding<'m>),
}

/// Between two contexts.
enum State<'m> {
    Ready(Box<Contexts<'m>>, LoadPlan),
    Parked(LoadPlan),
    Dead(Error),
}

impl<'m> Tenancy<'m> {
    fn open_contexts(&self, plan: &LoadPlan) -> Result<Contexts<'m>, Error> {
        let is_recurrent = self.model.is_recurrent() || self.model.is_hybrid();
        // What the contexts before these allocated is gone.
        let _ = log::take_buffers();
        let text_options = plan.context(is_recurrent);
        let open = |options: ContextOptions| {
            let failed = || Error::Context { cells: options.cells, detail: log::take_complaints() };
            Context::new(self.model, options).ok_or_else(failed)
        };
        let text = plan.generates().then(|| open(text_options)).transpose()?;
        let mut account = self.account.add(&log::take_buffers());
        let embedding = match plan.embed {
            Some(embed) => {
                check_width(self.model, embed.pooling)?;
                let context = open(embed.context(text_options))?;
                if context.has_cache() != embed.has_cache {
                    let detail = "it has a KV cache where none was expected, or none where one was";
                    return Err(Error::Options { detail: detail.to_owned() });
                }
                Some((context, embed))
            }
            None => None,
        };
        let mut buffers = log::take_buffers();
        if plan.embed.is_some_and(|embed| !embed.has_cache) {
            // The context has given it back.
            buffers.retain(|buffer| buffer.purpose != "output");
        }
        account = account.add(&buffers);
        let drafter = self.draft.filter(|_| text.is_some()).and_then(|draft| self.open_drafter(draft));
        let draft_account = self.draft.map(|draft| draft.account.add(&log::take_buffers()));
        let cached = embedding.as_ref().filter(|(_, embed)| embed.has_cache);
        let cells = [text.as_ref(), cached.map(|(context, _)| context)];
        let cells: u32 = cells.into_iter().flatten().map(Context::cells).sum();
        self.publish(account, draft_account, plan, cells);
        self.published.context(plan.context_tokens);
        match (text, embedding) {
            (Some(text), embedding) => Ok(Contexts::Text(text, embedding, drafter)),
            (None, Some(embedding)) => Ok(Contexts::Vectors(embedding)),
            (None, None) => Err(Error::NoVectors),
        }
    }

    /// A context for the draft model. Without one, answers go on without drafts of its.
    fn open_drafter(&self, draft: &'m LoadedDraft<'m>) -> Option<Box<Drafter<'m>>> {
        let context = Context::new(&draft.model, draft.plan.context());
        if context.is_none() {
            let detail = log::take_complaints();
            tracing::warn!(%detail, "the draft model has no context: answers go on without it");
        }
        let vocabulary = self.model.n_vocab().min(draft.model.n_vocab()).max(0) as usize;
        context.map(|context| Box::new(Drafter::new(context, draft.plan, vocabulary)))
    }

    /// Serves until there is a reason not to.
    fn serve(&self, contexts: Contexts<'m>, plan: LoadPlan, commands: &Receiver<Command>) -> Exit {
        let embedder = |(context, embed): Embedding<'m>| {
            Embedder::new(context, self.weight_views, embed, plan.threads, self.published, self.place)
        };
        let (model, weight_views, published, place) =
            (self.model, self.weight_views, self.published, self.place);
        match contexts {
            Contexts::Text(context, embedding, drafter) => {
                let batcher = Batcher::new(context, model, weight_views, plan, published, place);
                let whole = self.descriptor.tensor_bytes.max(1) as f64;
                let part = self.draft.map_or(1.0, |draft| draft.descriptor.tensor_bytes as f64 / whole);
                batcher.with(embedding.map(embedder)).with_drafter(drafter, part).serve(commands)
            }
            Contexts::Vectors(embedding) => {
                let architecture = &self.descriptor.architecture;
                serve_alone(embedder(embedding), plan.threads, place, architecture, commands)
            }
        }
    }

    /// The draft model's account is with its context, if that is there.
    fn publish(&self, account: Account, draft_account: Option<Account>, plan: &LoadPlan, cells: u32) {
        let mut held = account.held_bytes(self.descriptor, plan);
        let mut mapped = account.mapped_bytes(self.descriptor) + self.beside_bytes;
        if let (Some(draft), Some(account)) = (self.draft, draft_account) {
            held += account.draft_held_bytes(draft.descriptor, draft.plan);
            mapped += account.mapped_bytes(draft.descriptor);
        }
        self.published.memory(held, mapped, cells);
    }

    fn live(&self, first: State<'m>, commands: &Receiver<Command>) {
        let mut state = first;
        loop {
            state = match state {
                State::Ready(contexts, plan) => match self.serve(*contexts, plan, commands) {
                    Exit::Unload => return,
                    Exit::Park(reply) => self.parked(plan, &reply),
                    Exit::Dead(error) => State::Dead(error),
                },
                State::Parked(plan) => match commands.recv() {
                    Err(_) => return,
                    Ok(Command::Generate(ticket)) => {
                        ticket.refuse(Error::Parked);
                        State::Parked(plan)
                    }
                    Ok(Command::Embed(ticket)) => {
                        ticket.refuse(Error::Parked);
                        State::Parked(plan)
                    }
                    Ok(Command::Park(reply)) => self.parked(plan, &reply),
                    Ok(Command::Resume(wanted, reply)) => self.resume(plan, wanted, &reply),
                    Ok(Command::Prefix(question)) => {
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
                    Ok(Command::Embed(ticket)) => {
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
                    Ok(Command::Prefix(question)) => {
                        question.refuse(error.clone());
                        State::Dead(error)
                    }
                },
            }
        }
    }

    fn parked(&self, plan: LoadPlan, reply: &Reply<()>) -> State<'m> {
        self.published.interrupted();
        native::give_back_memory();
        self.publish(self.account, self.draft.map(|draft| draft.account), &plan, 0);
        self.published.work(0, 0);
        self.published.adapters(0);
        self.published.parked(true);
        let _ = reply.try_send(Ok(()));
        State::Parked(plan)
    }

    fn resume(&self, before: LoadPlan, wanted: LoadPlan, reply: &Reply<()>) -> State<'m> {
        match self.open_contexts(&wanted) {
            Ok(contexts) => {
                self.published.parked(false);
                let _ = reply.try_send(Ok(()));
                State::Ready(Box::new(contexts), wanted)
            }
            Err(error) => {
                let _ = reply.try_send(Err(error));
                State::Parked(before)
            }
        }
    }
}
