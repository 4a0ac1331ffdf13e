//! The engine port: a library able to run models, and one model loaded by it.
//!
//! ```text
//!   Engine ── footprint(descriptor, options)          header only, pure arithmetic
//!      └───── load(...) ──► Instance ── generate ──► Generation (events; drop = cancel)
//!                              ├────── park / resume
//!                              └────── measure / probe
//! ```
//!
//! Loading, parking and resuming block; callers run them on threads of their own. `generate` returns
//! at once: the work happens on the instance's thread, which owns all native state.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Failure;
use crate::footprint::{Footprint, LoadOptions, Measurement};
use crate::generation::{Generation, GenerationRequest};
use crate::model::Descriptor;

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

    /// Loads the model at `path`. Blocks; reports progress and looks for cancellation through `control`.
    ///
    /// # Errors
    /// `InvalidModel`, `EngineFailed`, `Cancelled`, `Storage`. Everything is given back on failure.
    fn load(
        &self,
        path: &Path,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Arc<dyn Instance>, Failure>;
}

/// One loaded model. Dropping the last reference unloads it (and joins its thread).
pub trait Instance: Send + Sync + 'static {
    /// Starts a generation and returns its events.
    ///
    /// # Errors
    /// `ContextExceeded` when the prompt alone does not fit (the message names both numbers),
    /// `InvalidRequest` for tokens outside the vocabulary, `Unavailable` when parked or gone.
    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure>;

    /// Token ids of a text by the model's own vocabulary.
    ///
    /// # Errors
    /// `Unavailable` when the instance is gone.
    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure>;

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

    /// Makes a parked instance ready again. Blocks for milliseconds. Ready instances stay as they are.
    ///
    /// # Errors
    /// `EngineFailed` when memory is not to be had; the instance stays parked.
    fn resume(&self) -> Result<(), Failure>;

    /// What it uses now, as its thread last published it: wait-free, and true even while a long
    /// decode step runs.
    fn measure(&self) -> Measurement;

    /// Runs real inference of one token, to see that the instance lives. Blocks.
    ///
    /// # Errors
    /// Whatever the inference said.
    fn probe(&self) -> Result<(), Failure>;
}

/// How a load talks with whoever started it.
pub struct LoadControl {
    progress: Box<dyn Fn(f32) + Send + Sync>,
    cancelled: Arc<AtomicBool>,
}

impl LoadControl {
    /// Reports progress (0..=1) to `progress`.
    pub fn new(progress: impl Fn(f32) + Send + Sync + 'static) -> Self {
        Self { progress: Box::new(progress), cancelled: Arc::default() }
    }

    /// Reports to nobody.
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    /// A flag that stops the load once it is set.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// Called by the engine as it gets on, with the part done (0..=1).
    pub fn report(&self, fraction: f32) {
        (self.progress)(fraction);
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
