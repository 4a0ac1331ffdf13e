//! The engine port: a library able to run models, and one model loaded by it.
//!
//! ```text
//!   Engine ── footprint(descriptor, options)          header only, pure arithmetic
//!      ├───── packing / pack / calibrate              weights in this CPU's layout, made ahead
//!      └───── load(...) ──► Instance ── generate ──► Generation (events; drop = cancel)
//!                              ├────── park / resume (also with more context or slots than before)
//!                              ├────── measure / probe
//!                              └────── prefixes / save_prefix / restore_prefix
//! ```
//!
//! Loading, parking and resuming block; callers run them on threads of their own. `generate` does not wait for the
//! answer: the work happens on the instance's thread, which owns all native state. It may wait for what comes before
//! (tokenizing, state that is taken up from disk, another process), so that callers with a deadline do not wait for it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cores::Cores;
use crate::error::{ErrorKind, Failure};
use crate::footprint::{Arrangement, Footprint, LoadOptions, Measurement, Speed};
use crate::generation::{CachedPrefix, Generation, GenerationRequest, Prompt};
use crate::model::Descriptor;
use crate::port::PromptControl;
use crate::scope::Scope;

/// What an engine can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each asked for by name")]
pub struct Capabilities {
    /// Several requests share one decode step.
    pub is_batching: bool,
    /// Prompt state can be reused between requests.
    pub reuses_prefixes: bool,
    /// `park` gives memory back.
    pub can_park: bool,
    /// `embed` works.
    pub can_embed: bool,
    /// Requests may name adapters.
    pub can_adapt: bool,
    /// `save_prefix` and `restore_prefix` work.
    pub saves_prefixes: bool,
}

/// The files of one model.
#[derive(Clone, Copy, Debug)]
pub struct ModelFiles<'a> {
    /// The model; of a split one, its first file.
    pub path: &'a Path,
    /// The file that [`Engine::pack`] wrote for it, and the source that it must be of. An engine that finds it
    /// wanting loads the model without.
    pub packed: Option<PackedFile<'a>>,
}

/// A packed file, and what it must be of.
#[derive(Clone, Copy, Debug)]
pub struct PackedFile<'a> {
    /// The file.
    pub path: &'a Path,
    /// What was given to [`Engine::pack`] as the source.
    pub source: &'a str,
}

impl<'a> ModelFiles<'a> {
    /// A model without packed weights.
    pub const fn of(path: &'a Path) -> Self {
        Self { path, packed: None }
    }
}

/// A library able to run models.
pub trait Engine: Send + Sync + 'static {
    /// Name and version, such as `llama.cpp 0.6.0 (llama-cpp-2 0.1.160)`; part of the key of saved state.
    fn name(&self) -> &str;

    /// What this engine can do.
    fn capabilities(&self) -> Capabilities;

    /// Predicts what a load would cost, from facts of the header alone.
    ///
    /// # Errors
    /// `InvalidModel` or `Unsupported` when this engine cannot run such a model.
    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure>;

    /// What packed weights made by this engine, in this build and on this machine, are known by: two that have the
    /// same key and the same source are the same bytes. `None` where it packs nothing of such a model. The first call
    /// takes some milliseconds.
    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        let _ = descriptor;
        None
    }

    /// Writes the packed weights of the model at `path` into an empty file that can be read as well, from its beginning, and returns how many
    /// bytes that were. `source` stands for the model's bytes and is written with them. Nothing is synced. Blocks
    /// for about as long as reading the model takes; reports, looks for cancellation and gives way through `control`.
    ///
    /// # Errors
    /// `Unsupported` when nothing of the model can be packed, or what was packed computes something else: that will be
    /// so the next time, too. `InvalidModel`, `EngineFailed`, `Cancelled`, `Storage` may pass.
    fn pack(
        &self,
        path: &Path,
        descriptor: &Descriptor,
        source: &str,
        into: &File,
        control: &LoadControl,
    ) -> Result<u64, Failure> {
        let _ = (path, descriptor, source, into, control);
        Err(Failure::new(ErrorKind::Unsupported, "this engine packs no weights"))
    }

    /// Measures, for a few seconds, how fast the layouts are that these files allow. Gives way through `control` between
    /// what it measures. Blocks.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    fn calibrate(
        &self,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Vec<Speed>, Failure> {
        let _ = (files, descriptor, options, control);
        Ok(Vec::new())
    }

    /// Loads a model. Blocks; reports progress and looks for cancellation through `control`.
    ///
    /// # Errors
    /// `InvalidModel`, `EngineFailed`, `Cancelled`, `Storage`. Everything is given back on failure. A packed file that is
    /// refused is no failure: the model is loaded as on disk, and [`Instance::arrangement`] says why. Of
    /// one that could not even be looked at it says nothing: the file may be good.
    fn load(
        &self,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Arc<dyn Instance>, Failure>;
}

/// One loaded model. Dropping the last reference unloads it (and joins its thread).
pub trait Instance: Send + Sync + 'static {
    /// Starts a generation and returns its events. Blocks until the request is on its way: for milliseconds, unless
    /// the instance is stuck.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode); `ContextExceeded` names both numbers. `InvalidRequest` for tokens outside the vocabulary, `Unavailable` when parked or gone. An instance in
    /// another process may say all of these as the only event, [`Failed`](crate::TokenEvent::Failed), instead.
    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure>;

    /// The same for somebody who may stop waiting before the request is on its way: `control` is looked at between
    /// pieces of what is done for it until then. One that does nothing of the kind need not look.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate); `Cancelled` when nobody wants it any more.
    fn generate_while(
        &self,
        request: GenerationRequest,
        control: &dyn PromptControl,
    ) -> Result<Generation, Failure> {
        let _ = control;
        self.generate(request)
    }

    /// Token ids of a text by the model's own vocabulary.
    ///
    /// # Errors
    /// `Unavailable` when the instance is gone.
    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure>;

    /// Token ids of a prompt: a conversation is rendered and tokenized, a text tokenized, and token ids are checked. A
    /// text or conversation that begins with the begin-of-sequence token gets no second one. Blocks for as long as
    /// that takes; `control` is looked at between pieces of the work.
    ///
    /// # Errors
    /// `ContextExceeded` when the prompt alone does not fit, told before all of it is tokenized where its length says
    /// so already; `Cancelled` when nobody wants it any more; `InvalidRequest` when the chat template refuses the
    /// conversation, `InvalidModel` when the template does not work.
    fn encode(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<Vec<u32>, Failure>;

    /// Bytes of tokens; control tokens are left out.
    ///
    /// # Errors
    /// `InvalidRequest` for an id outside the vocabulary.
    fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Failure>;

    /// Gives working memory (KV cache, compute buffers) back and keeps the weights. Blocks. The caller
    /// makes sure that nothing runs; a request that does run is ended with `Unavailable`.
    ///
    /// # Errors
    /// `EngineFailed`; the instance must then be dropped.
    fn park(&self) -> Result<(), Failure>;

    /// Makes a parked instance ready again, with the context and slots of `options`, which may differ from those
    /// it was loaded with; everything else in them is as it was at the load. Blocks for milliseconds. Ready
    /// instances stay as they are.
    ///
    /// # Errors
    /// `EngineFailed` when memory is not to be had; the instance stays parked.
    fn resume(&self, options: &LoadOptions) -> Result<(), Failure>;

    /// How its weights came to lie in memory.
    fn arrangement(&self) -> Arrangement {
        Arrangement::default()
    }

    /// What it uses now, as its thread last published it: wait-free, and true even while a long
    /// decode step runs.
    fn measure(&self) -> Measurement;

    /// From the next step on it computes with no more threads than `cores` says, and looks for more as soon as cores
    /// idle. Called by whoever holds several instances on the same cores, whenever their shares change; waits for
    /// nothing. An engine that computes elsewhere does nothing.
    fn share_cores(&self, cores: Cores) {
        let _ = cores;
    }

    /// Runs real inference of one token, to see that the instance lives. Blocks.
    ///
    /// # Errors
    /// Whatever the inference said.
    fn probe(&self) -> Result<(), Failure>;

    /// Prompt state of finished requests that could be saved, longest unused first; not that of requests with
    /// adapters. Empty where [`Capabilities::saves_prefixes`] is false, and when parked. Blocks for a step.
    ///
    /// # Errors
    /// `Unavailable` when the instance is gone.
    fn prefixes(&self) -> Result<Vec<CachedPrefix>, Failure> {
        Ok(Vec::new())
    }

    /// Writes the state of one of [`prefixes`](Self::prefixes) into an empty file, from its beginning, and returns
    /// how many bytes that were. The bytes mean something only to an engine of the same name, for the same
    /// weights and KV format. Blocks.
    ///
    /// # Errors
    /// `NotFound` when the state has gone meanwhile; `Storage` when the file cannot be written.
    fn save_prefix(&self, prefix: &CachedPrefix, into: &File) -> Result<u64, Failure> {
        let _ = (prefix, into);
        Err(Failure::new(ErrorKind::Unsupported, "this engine saves no prompt state"))
    }

    /// Takes in what `save_prefix` wrote, as the state of a finished request with these tokens and this scope, so
    /// that the next request which begins with them and may use them need not compute them. It may push out state that was used longer ago.
    /// The caller vouches for the bytes. Blocks.
    ///
    /// # Errors
    /// `InvalidRequest` when the bytes are of another model or format; `Busy` when every sequence is in use.
    fn restore_prefix(&self, tokens: &[u32], scope: Scope, from: &File) -> Result<(), Failure> {
        let _ = (tokens, scope, from);
        Err(Failure::new(ErrorKind::Unsupported, "this engine saves no prompt state"))
    }
}

/// How a load talks with whoever started it.
pub struct LoadControl {
    progress: Box<dyn Fn(f32) + Send + Sync>,
    obituary: Arc<dyn Fn(Failure) + Send + Sync>,
    give_way: Box<dyn Fn() + Send + Sync>,
    cancelled: Arc<AtomicBool>,
    is_in_background: bool,
}

impl LoadControl {
    /// Reports progress (0..=1) to `progress`.
    pub fn new(progress: impl Fn(f32) + Send + Sync + 'static) -> Self {
        Self {
            progress: Box::new(progress),
            obituary: Arc::new(|_| ()),
            give_way: Box::new(|| ()),
            cancelled: Arc::default(),
            is_in_background: false,
        }
    }

    /// The same, and `obituary` hears of the instance's death, should it die by itself after the load.
    #[must_use]
    pub fn on_death(mut self, obituary: impl Fn(Failure) + Send + Sync + 'static) -> Self {
        self.obituary = Arc::new(obituary);
        self
    }

    /// The same for what nobody waits for: it should yield to everything else, where the engine can see to that.
    #[must_use]
    pub fn in_background(mut self) -> Self {
        self.is_in_background = true;
        self
    }

    /// The same, and `give_way` is called between the steps of packing and measuring. It may block for a moment.
    #[must_use]
    pub fn giving_way(mut self, give_way: impl Fn() + Send + Sync + 'static) -> Self {
        self.give_way = Box::new(give_way);
        self
    }

    /// Reports to nobody.
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    /// A flag that stops the load once it is set.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// For the engine to keep: to be called once, and never during the load, when the instance has died by itself.
    /// It must not be called for an instance that is dropped. It may be called on any thread and does not block.
    pub fn obituary(&self) -> Arc<dyn Fn(Failure) + Send + Sync> {
        Arc::clone(&self.obituary)
    }

    /// Called by the engine as it gets on, with the part done (0..=1).
    pub fn report(&self, fraction: f32) {
        (self.progress)(fraction);
    }

    /// Called by the engine between two steps of packing or measuring, while it holds nothing that others wait for:
    /// returns when the next may begin, which is later while models answer on the same cores.
    pub fn give_way(&self) {
        (self.give_way)();
    }

    /// Whether nobody waits for it.
    pub fn is_in_background(&self) -> bool {
        self.is_in_background
    }

    /// Whether the load should stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for LoadControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadControl").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}
