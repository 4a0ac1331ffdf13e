//! The engine port: a library able to run models, and one model loaded by it.
//!
//! ```text
//!   Engine ── engine_for / capabilities / footprint / cost   of a model's header alone, pure arithmetic
//!      ├───── preparer / plan_preparation / prepare   a published model becomes a file that it maps
//!      ├───── describe                                a published model is run as it is
//!      ├───── packing / pack / calibrate              weights in this CPU's layout, made ahead
//!      └───── load(...) ──► Instance ── generate, embed ──► Generation (events; drop = cancel)
//!                              ├────── park / resume (also with more context or slots than before)
//!                              ├────── measure / probe
//!                              └────── prefixes / save_prefix / restore_prefix
//! ```
//!
//! Loading, parking and resuming block; callers run them on threads of their own. `generate` does not wait for the
//! answer: the work happens on the instance's thread, which owns all native state. It may wait for what comes before
//! (tokenizing, state that is taken up from disk, another process), so that callers with a deadline do not wait for it.
//!
//! What wraps another engine or instance passes every method on: `clippy::missing_trait_methods` is denied on its `impl`,
//! or a method that is new here would silently get its default there.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::chat::Chat;
use crate::cores::Cores;
use crate::embedding::EmbedRequest;
use crate::error::{ErrorKind, Failure};
use crate::footprint::{Arrangement, Footprint, LoadOptions, Measurement, Speed};
use crate::generation::{CachedPrefix, Generation, GenerationRequest, Prompt};
use crate::memory::Cost;
use crate::model::{Descriptor, Quantization};
use crate::port::identity::no_engine_for;
use crate::port::{
    EngineInfo, LoadRequest, PackRequest, PreparePlan, PrepareRequest, Preparer, PromptControl,
    PublishedFacts,
};
use crate::scope::Scope;

/// What an engine can do with a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each asked for by name")]
pub struct Capabilities {
    /// Prompt state can be reused between requests.
    pub reuses_prefixes: bool,
    /// `park` gives memory back.
    pub can_park: bool,
    /// Requests may name adapters.
    pub can_adapt: bool,
    /// `save_prefix` and `restore_prefix` work.
    pub saves_prefixes: bool,
    /// `generate` works: the model writes text.
    pub can_generate: bool,
    /// `embed` works for vectors.
    pub can_embed: bool,
    /// `embed` works for scores of a query and a document.
    pub can_rerank: bool,
    /// `generate` works for gaps in texts, too.
    pub can_infill: bool,
}

impl Capabilities {
    /// The kinds of work that it can do, as reports write them: `generate`, `infill`, `embed`, `rerank`.
    pub fn kinds_of_work(self) -> Vec<&'static str> {
        let all = [
            (self.can_generate, "generate"),
            (self.can_infill, "infill"),
            (self.can_embed, "embed"),
            (self.can_rerank, "rerank"),
        ];
        all.into_iter().filter(|(can, _)| *can).map(|(_, word)| word).collect()
    }
}

/// A library able to run models.
pub trait Engine: Send + Sync + 'static {
    /// The engines behind this one: itself, or those among which it chooses.
    fn engines(&self) -> Vec<EngineInfo>;

    /// The one of [`engines`](Self::engines) that runs such a model.
    ///
    /// # Errors
    /// `Unsupported` when none does.
    fn engine_for(&self, descriptor: &Descriptor) -> Result<EngineInfo, Failure> {
        let runs_it = |engine: &EngineInfo| engine.formats.contains(&descriptor.format);
        self.engines().into_iter().find(runs_it).ok_or_else(|| no_engine_for(descriptor.format))
    }

    /// What can be done with such a model; nothing where no engine runs it.
    fn capabilities(&self, descriptor: &Descriptor) -> Capabilities;

    /// Predicts what a load would cost, from facts of the header alone.
    ///
    /// # Errors
    /// `InvalidModel` or `Unsupported` when this engine cannot run such a model.
    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure>;

    /// Where the memory of such a load is, and what another size would change about it: `memory` is what
    /// [`footprint`](Self::footprint) predicts, or what was measured. Code that counts memory asks nothing else of an engine.
    fn cost(&self, descriptor: &Descriptor, options: &LoadOptions, memory: Footprint) -> Cost {
        Cost::on_host(descriptor, options, memory)
    }

    /// What packed weights made by this engine, in this build and on this machine, are known by: two that have the
    /// same key and the same source are the same bytes. It begins with the engine's id. `None` where it packs nothing of
    /// such a model. The first call takes some milliseconds.
    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        let _ = descriptor;
        None
    }

    /// Predicts what packing such a model takes: it holds the tensor that it packs, and a context to prove the result in;
    /// and the file that it writes goes through the page cache, as what is mapped does.
    ///
    /// # Errors
    /// `InvalidModel` or `Unsupported` when this engine cannot run such a model, or packs none at all.
    fn packing_footprint(&self, descriptor: &Descriptor) -> Result<Footprint, Failure> {
        let _ = descriptor;
        Err(packs_nothing())
    }

    /// Writes the packed weights of a model, and returns how many bytes that were. Nothing is synced. Blocks for about as
    /// long as reading the model takes; reports, looks for cancellation and gives way through the request's control.
    ///
    /// # Errors
    /// `Unsupported` when nothing of the model can be packed, or what was packed computes something else: that will be
    /// so the next time, too. `InvalidModel`, `EngineFailed`, `Cancelled`, `Storage` may pass.
    fn pack(&self, request: PackRequest<'_>) -> Result<u64, Failure> {
        let _ = request;
        Err(packs_nothing())
    }

    /// Measures, for a few seconds, how fast the layouts are that these files allow. Gives way through the request's control
    /// between what it measures. Blocks.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    fn calibrate(&self, request: LoadRequest<'_>) -> Result<Vec<Speed>, Failure> {
        let _ = request;
        Ok(Vec::new())
    }

    /// The engine that prepares published models, and what prepared ones are known by; `None` where it prepares none.
    fn preparer(&self) -> Option<Preparer> {
        None
    }

    /// Judges the published model in a folder, and predicts what preparing it takes. Reads its configuration and the headers
    /// of its files alone. Blocks for milliseconds.
    ///
    /// # Errors
    /// `Unsupported` when this engine prepares no such model; `InvalidModel` for files that lie, lack or contradict each other.
    fn plan_preparation(&self, folder: &Path, quantization: Quantization) -> Result<PreparePlan, Failure> {
        let _ = (folder, quantization);
        Err(prepares_nothing())
    }

    /// Writes the prepared file of a published model or adapter, and returns its bytes. Nothing is synced. Blocks for about as long as
    /// reading the model and computing with it once take; reports and looks for cancellation through the request's control.
    ///
    /// # Errors
    /// Those of [`plan_preparation`](Self::plan_preparation); `EngineFailed`, `Cancelled`, `Storage`.
    fn prepare(&self, request: PrepareRequest<'_>) -> Result<u64, Failure> {
        let _ = request;
        Err(prepares_nothing())
    }

    /// The facts of the published model in a folder, if this engine runs such a model as it is, without preparing it. Reads its
    /// configuration and the headers of its files alone. Blocks for milliseconds.
    ///
    /// # Errors
    /// `Unsupported` when this engine runs no such model; `InvalidModel` for files that lie, lack or contradict each other.
    fn describe(&self, folder: &Path) -> Result<PublishedFacts, Failure> {
        let _ = folder;
        Err(runs_no_published())
    }

    /// Loads a model. Blocks; reports progress and looks for cancellation through the request's control.
    ///
    /// # Errors
    /// `InvalidModel`, `EngineFailed`, `Cancelled`, `Storage`. Everything is given back on failure. A packed file that is
    /// refused is no failure: the model is loaded as on disk, and [`Instance::arrangement`] says why. Of
    /// one that could not even be looked at it says nothing: the file may be good.
    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure>;
}

fn packs_nothing() -> Failure {
    Failure::new(ErrorKind::Unsupported, "this engine packs no weights")
}

/// What is said of a published model where no engine runs it as it is.
pub(super) fn runs_no_published() -> Failure {
    Failure::new(ErrorKind::Unsupported, "this build has no engine that runs published models as they are")
        .with_param("model")
        .with_hint(
            "build samovar with candle: cargo install --path crates/samovar-cli --locked --features candle",
        )
}

fn prepares_nothing() -> Failure {
    Failure::new(ErrorKind::Unsupported, "no engine of this build prepares published models")
        .with_param("model")
        .with_hint("take a repository with GGUF files; many models have one whose name ends in -GGUF")
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

    /// The same for a caller that may stop waiting before the request is on its way: `control` is looked at between
    /// pieces of what is done for it until then. One that does nothing of the kind need not look.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate); `Cancelled` when it is no longer wanted.
    fn generate_while(
        &self,
        request: GenerationRequest,
        control: &dyn PromptControl,
    ) -> Result<Generation, Failure> {
        let _ = control;
        self.generate(request)
    }

    /// Starts to turn inputs into vectors or scores, and returns the events of that: an
    /// [`Embedded`](crate::TokenEvent::Embedded) for each input, in any order, then `Done`. Tokenizes all inputs before it
    /// returns; `control` is looked at between pieces of that. Dropping what it returns cancels what was not computed yet.
    ///
    /// # Errors
    /// `Unsupported` where [`Capabilities`] say so. `ContextExceeded` for an input that is too long and not to be cut, with
    /// both counts and the input's place; `InvalidRequest` for none or too many inputs, an empty one, token ids outside the
    /// vocabulary, or more dimensions than a vector has. `Cancelled` when it is not wanted any more; `Unavailable` when
    /// parked or gone. An instance in another process may say all of these as the only event instead.
    fn embed(&self, request: EmbedRequest, control: &dyn PromptControl) -> Result<Generation, Failure> {
        let _ = (request, control);
        Err(Failure::new(ErrorKind::Unsupported, "this engine makes no vectors of texts"))
    }

    /// Token ids of a text by the model's own vocabulary.
    ///
    /// # Errors
    /// `Unavailable` when the instance is gone.
    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure>;

    /// Token ids of a prompt: a conversation is rendered and tokenized, a text tokenized, a gap put between the tokens of
    /// [`Descriptor::infill`], and token ids are checked. A text or conversation that begins with the begin-of-sequence token gets no second one. Blocks for as long as
    /// that takes; `control` is looked at between pieces of the work.
    ///
    /// # Errors
    /// `ContextExceeded` when the prompt alone does not fit, told before all of it is tokenized where its length says
    /// so already; `Cancelled` when it is no longer wanted; `InvalidRequest` when the chat template refuses the
    /// conversation, or the model has no tokens for gaps; `InvalidModel` when the template does not work.
    fn encode(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<Vec<u32>, Failure>;

    /// The text that a conversation becomes by the model's chat template, with its control tokens written out. Nothing is
    /// computed, and the text may be longer than the context. Blocks for as long as that takes.
    ///
    /// # Errors
    /// `Unsupported` where conversations are not rendered; `InvalidRequest` when the chat template refuses the conversation,
    /// `InvalidModel` when the template does not work; `ContextExceeded` for more messages than the context has tokens.
    fn render(&self, chat: &Chat, control: &dyn PromptControl) -> Result<String, Failure> {
        let _ = (chat, control);
        Err(Failure::new(ErrorKind::Unsupported, "this engine renders no conversations"))
    }

    /// How many tokens a prompt has: those that [`generate`](Self::generate) would count. Nothing is computed, and the prompt
    /// may be longer than the context; one that fills a gap in is cut to it. Blocks for as long as that takes; `control` is
    /// looked at between pieces of the work.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode); `ContextExceeded` only for more messages than the context has tokens, or where an
    /// engine counts by encoding.
    fn count(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<u32, Failure> {
        Ok(self.encode(prompt, control)?.len() as u32)
    }

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
    /// idle. Called by the holder of several instances on the same cores, whenever their shares change; waits for
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
    /// how many bytes that were. The bytes mean something only to an engine of the same name and version, for the same
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
