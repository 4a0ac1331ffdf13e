//! An engine that loads, speaks, hangs and dies as a script says.
//!
//! ```text
//!   FakeEngine ── Script (per model) ──► FakeInstance ─┬─ one thread a request ────────► events
//!       │                                     │        └─ batches of inputs to embed ─► events
//!       │                                     │
//!       └── Counts: awaited by tests ◄────────┘
//! ```
//!
//! It knows a language of a few hundred tokens (`vocabulary`), computes real distributions over
//! it (`voice`), and keeps every promise of the port, so that the conformance suite holds for it.
//! It never reads the model file, though it does read packed ones, and never takes the memory that it reports.

mod answer;
mod builder;
mod counts;
mod embedding;
mod instance;
mod packing;
mod preparing;
mod remembered;
mod script;
mod text;
mod vocabulary;
mod voice;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use builder::Builder;
pub use counts::{Counts, Ledger};
pub use script::Script;

use super::gate::Gate;
use crate::digest::Digest;
use crate::embedding::Pooling;
use crate::error::{ErrorKind, Failure};
use crate::footprint::{Footprint, KvType, Layout, LoadOptions, Speed};
use crate::generation::GenerationRequest;
use crate::infill::InfillTokens;
use crate::memory::Cost;
use crate::model::{Descriptor, DraftModel, Format, Quantization, TensorFormat, WeightsId};
use crate::port::{
    Capabilities, Engine, EngineId, EngineInfo, Instance, LoadControl, LoadRequest, PackRequest, PreparePlan,
    PrepareRequest, Preparer,
};
use instance::{FakeInstance, Gates, Model};

/// Tokens of the KV cache of a draft model.
const DRAFT_TOKENS: u64 = 1_024;
/// Numbers of a vector by the models of [`FakeEngine::descriptor`].
const WIDTH: u32 = 64;

/// An engine that does what a script says. Clones are the same engine.
#[derive(Clone, Debug)]
pub struct FakeEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    info: EngineInfo,
    capabilities: Capabilities,
    capabilities_by_model: HashMap<String, Capabilities>,
    script: Script,
    script_by_model: HashMap<String, Script>,
    loads: Gate,
    tokens: Arc<Gate>,
    packs: Gate,
    requests: Arc<Gate>,
    batches: Arc<Gate>,
    /// How many of the coming loads fail, and how.
    failing_loads: Mutex<(u32, Failure)>,
    ledger: Arc<Ledger>,
}

impl FakeEngine {
    /// What it can do, unless it is made otherwise. Whether it fills gaps in, each model's descriptor says.
    pub const CAPABILITIES: Capabilities = Capabilities {
        reuses_prefixes: true,
        can_park: true,
        can_adapt: false,
        saves_prefixes: true,
        can_generate: true,
        can_embed: false,
        can_rerank: false,
        can_infill: false,
    };

    /// The same, and it makes vectors and scores of the models that are loaded [to be embedders](Self::embedder_options).
    pub const EMBEDS: Capabilities = Capabilities { can_embed: true, can_rerank: true, ..Self::CAPABILITIES };

    /// Inputs of one batch at most.
    pub const BATCH_INPUTS: usize = embedding::BATCH_INPUTS;

    /// An engine that loads at once and speaks as fast as it can.
    #[allow(clippy::new_without_default, reason = "a test reads better with the verb")]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// An engine that does something else.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A model that this engine can load: `bytes` of weights, a context of 2,048 tokens.
    pub fn descriptor(name: &str, bytes: u64) -> Descriptor {
        Descriptor {
            format: Format::Gguf,
            name: Some(name.to_owned()),
            architecture: "fake".to_owned(),
            parameters: bytes / 2,
            parts: 1,
            file_bytes: bytes,
            tensor_bytes: bytes,
            formats: vec![TensorFormat { name: "F16".to_owned(), tensors: 1, bytes, matrix_bytes: bytes }],
            quantization: "F16".to_owned(),
            context_tokens: 2048,
            embedding_width: WIDTH,
            blocks: 4,
            heads: 4,
            kv_heads: 2,
            key_width: 16,
            value_width: 16,
            feed_forward_width: 128,
            state_bytes: 0,
            pooling: None,
            is_causal: true,
            has_classifier: false,
            vocabulary: vocabulary::size(),
            chat_template: Some(vocabulary::CHAT_TEMPLATE.to_owned()),
            bos_token: Some(vocabulary::text_of(vocabulary::BOS)),
            eos_token: Some(vocabulary::text_of(vocabulary::EOS)),
            adds_bos: true,
            infill: None,
        }
    }

    /// The tokens by which a model of this vocabulary may be said to fill gaps in: no text is read as one of them.
    pub const INFILL: InfillTokens = InfillTokens {
        prefix: vocabulary::BOS + 2,
        suffix: vocabulary::BOS + 3,
        middle: vocabulary::EOS,
        repository: None,
        file: None,
    };

    /// Options for a test: 512 tokens of context in each of two slots.
    pub fn options() -> LoadOptions {
        LoadOptions {
            context_tokens: 512,
            slots: 2,
            layout: Layout::Mapped,
            kv_type: KvType::F16,
            threads: 1,
            lock_memory: false,
            pooling: None,
            draft: None,
        }
    }

    /// A draft model for the options of a load, with so many bytes of weights.
    pub fn draft(name: &str, bytes: u64) -> DraftModel {
        let weights = WeightsId::Artifact(Digest::of_bytes(name.as_bytes()));
        DraftModel::new(weights, &Self::descriptor(name, bytes))
    }

    /// The same for an embedder, which vectors are asked of.
    pub fn embedder_options() -> LoadOptions {
        LoadOptions { pooling: Some(Pooling::Mean), ..Self::options() }
    }

    /// The tokens that a text is embedded as: its own between two special ones.
    pub fn tokens_of(text: &str) -> Vec<u32> {
        embedding::tokens_of(text)
    }

    /// The vector of such tokens, whole and of length 1, by a model as wide as [`descriptor`](Self::descriptor).
    pub fn vector_of(tokens: &[u32]) -> Vec<f32> {
        Self::values_of(tokens, WIDTH, None, true)
    }

    /// The same by a model of any width, as it is asked for.
    pub fn values_of(tokens: &[u32], width: u32, dimensions: Option<u32>, normalize: bool) -> Vec<f32> {
        embedding::values_of(tokens, width, dimensions, normalize)
    }

    /// How well a document answers a query: the share of the query's words that are in it.
    pub fn score_of(query: &str, document: &str) -> f32 {
        embedding::score_of(query, document)
    }

    /// The gate at which loads wait.
    pub fn loads_gate(&self) -> &Gate {
        &self.shared.loads
    }

    /// The gate at which tokens wait.
    pub fn tokens_gate(&self) -> &Gate {
        &self.shared.tokens
    }

    /// The gate at which packings and preparations wait.
    pub fn packs_gate(&self) -> &Gate {
        &self.shared.packs
    }

    /// The gate at which requests wait, inside `generate` and `embed`.
    pub fn requests_gate(&self) -> &Gate {
        &self.shared.requests
    }

    /// The gate at which batches of inputs wait.
    pub fn batches_gate(&self) -> &Gate {
        &self.shared.batches
    }

    /// Makes the next `count` loads fail with `failure`.
    pub fn fail_next_loads(&self, count: u32, failure: Failure) {
        *self.shared.failing_loads.lock().unwrap_or_else(PoisonError::into_inner) = (count, failure);
    }

    /// What it has done until now.
    pub fn counts(&self) -> Counts {
        self.shared.ledger.counts()
    }

    /// The latest requests for text that its instances took, at most 64, the last one last.
    pub fn latest(&self) -> Vec<GenerationRequest> {
        self.shared.ledger.latest()
    }

    /// Waits until `is_so` holds for what it has done.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait_until(&self, is_so: impl FnMut(&Counts) -> bool) -> Counts {
        self.shared.ledger.wait_until(is_so).await
    }

    /// As [`FakeEngine::wait_until`] for tests without a runtime; `Err` with the last counts when it
    /// did not come true within `limit`.
    ///
    /// # Errors
    /// The counts at the time limit.
    #[allow(clippy::result_large_err, reason = "numbers that only tests see")]
    pub fn blocking_wait_until(
        &self,
        limit: Duration,
        is_so: impl FnMut(&Counts) -> bool,
    ) -> Result<Counts, Counts> {
        self.shared.ledger.blocking_wait_until(limit, is_so)
    }

    fn capabilities_of(&self, descriptor: &Descriptor) -> Capabilities {
        let name = descriptor.name.as_ref();
        let own = name.and_then(|name| self.shared.capabilities_by_model.get(name));
        let own = own.copied().unwrap_or(self.shared.capabilities);
        Capabilities { can_infill: own.can_generate && descriptor.infill.is_some(), ..own }
    }

    fn script_of(&self, descriptor: &Descriptor) -> &Script {
        descriptor
            .name
            .as_ref()
            .and_then(|name| self.shared.script_by_model.get(name))
            .unwrap_or(&self.shared.script)
    }

    fn scripted_load_failure(&self) -> Option<Failure> {
        let mut failing = self.shared.failing_loads.lock().unwrap_or_else(PoisonError::into_inner);
        let (remaining, failure) = &mut *failing;
        *remaining = remaining.checked_sub(1)?;
        Some(failure.clone())
    }

    fn wait_for_load(&self, script: &Script, control: &LoadControl) -> Result<(), Failure> {
        let gives_up = || control.is_cancelled() && !script.ignores_load_cancel;
        let start = Instant::now();
        control.report(0.0);
        while !gives_up() {
            let elapsed = start.elapsed();
            if elapsed >= script.load_time {
                break;
            }
            control.report(elapsed.as_secs_f32() / script.load_time.as_secs_f32());
            std::thread::sleep(Duration::from_millis(2).min(script.load_time.saturating_sub(elapsed)));
        }
        if self.shared.loads.pass(gives_up) && !gives_up() {
            control.report(1.0);
            Ok(())
        } else {
            Err(Failure::new(ErrorKind::Cancelled, "the load was cancelled"))
        }
    }

    fn try_pack(&self, request: PackRequest<'_>) -> Result<u64, Failure> {
        let PackRequest { descriptor, source, into, control, .. } = request;
        let script = self.script_of(descriptor);
        let none = || Failure::new(ErrorKind::Unsupported, "nothing of this model can be packed");
        let packing = script.packing.as_deref().ok_or_else(none)?;
        let bytes = packing::write(descriptor, packing, source, into, || {
            control.report(0.5);
            control.give_way();
            if !self.shared.packs.pass(|| control.is_cancelled()) || control.is_cancelled() {
                return Err(Failure::new(ErrorKind::Cancelled, "the packing was cancelled"));
            }
            script.pack_failure.clone().map_or(Ok(()), Err)
        })?;
        control.report(1.0);
        Ok(bytes)
    }

    fn try_prepare(&self, request: PrepareRequest<'_>) -> Result<u64, Failure> {
        let (script, control) = (&self.shared.script, request.control);
        if request.base.is_none() {
            preparing::plan(script, request.folder, request.quantization)?;
        }
        let bytes = preparing::write(request, || {
            control.report(0.5);
            control.give_way();
            if !self.shared.packs.pass(|| control.is_cancelled()) || control.is_cancelled() {
                return Err(Failure::new(ErrorKind::Cancelled, "the preparation was cancelled"));
            }
            script.prepare_failure.clone().map_or(Ok(()), Err)
        })?;
        control.report(1.0);
        Ok(bytes)
    }
}

impl Engine for FakeEngine {
    fn engines(&self) -> Vec<EngineInfo> {
        vec![self.shared.info.clone()]
    }

    fn capabilities(&self, descriptor: &Descriptor) -> Capabilities {
        self.capabilities_of(descriptor)
    }

    /// Mapped: the tensors, for a hybrid twice. Held: the KV cache of all slots, and the tensors when repacked. Of a draft
    /// model its tensors are mapped, and the KV cache of 1,024 tokens is held.
    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        Ok(footprint(self.script_of(descriptor), descriptor, options))
    }

    /// On the host as any engine, and on devices what the script says.
    fn cost(&self, descriptor: &Descriptor, options: &LoadOptions, memory: Footprint) -> Cost {
        let mut cost = Cost::on_host(descriptor, options, memory);
        let script = self.script_of(descriptor);
        cost.memory.private += script.device_bytes;
        cost.per_cell += script.device_bytes_per_cell;
        cost
    }

    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        self.script_of(descriptor).packing.clone()
    }

    /// Held: the KV cache of 512 tokens.
    fn packing_footprint(&self, descriptor: &Descriptor) -> Result<Footprint, Failure> {
        let options = |layout| LoadOptions { context_tokens: 256, layout, ..Self::options() };
        let of = |layout| footprint(self.script_of(descriptor), descriptor, &options(layout));
        let (plain, both) = (of(Layout::Mapped), of(Layout::Hybrid));
        let written = both.mapped_bytes.saturating_sub(plain.mapped_bytes);
        Ok(Footprint { mapped_bytes: plain.mapped_bytes.max(written), ..plain })
    }

    /// Never reads the model.
    fn pack(&self, request: PackRequest<'_>) -> Result<u64, Failure> {
        let ledger = &self.shared.ledger;
        ledger.change(|counts| counts.packs_started += 1);
        let outcome = self.try_pack(request);
        ledger.change(|counts| match &outcome {
            Ok(_) => counts.packs_finished += 1,
            Err(failure) if failure.kind == ErrorKind::Cancelled => counts.packs_cancelled += 1,
            Err(_) => counts.packs_failed += 1,
        });
        outcome
    }

    fn calibrate(&self, request: LoadRequest<'_>) -> Result<Vec<Speed>, Failure> {
        if request.control.is_cancelled() {
            return Err(Failure::new(ErrorKind::Cancelled, "the calibration was cancelled"));
        }
        let script = self.script_of(request.descriptor);
        let is_reached = |layout| packing::arrange(script, request, layout).layout == layout;
        let speeds = script.speeds.iter().filter(|speed| is_reached(speed.layout)).copied().collect();
        self.shared.ledger.change(|counts| counts.calibrations += 1);
        Ok(speeds)
    }

    fn preparer(&self) -> Option<Preparer> {
        let key = self.shared.script.preparing.clone()?;
        Some(Preparer { engine: self.shared.info.id.clone(), key })
    }

    fn plan_preparation(&self, folder: &Path, quantization: Quantization) -> Result<PreparePlan, Failure> {
        preparing::plan(&self.shared.script, folder, quantization)
    }

    /// Reads nothing of the folder but that it has a configuration.
    fn prepare(&self, request: PrepareRequest<'_>) -> Result<u64, Failure> {
        let ledger = &self.shared.ledger;
        ledger.change(|counts| counts.preparations_started += 1);
        let outcome = self.try_prepare(request);
        ledger.change(|counts| match &outcome {
            Ok(_) => counts.preparations_finished += 1,
            Err(_) => counts.preparations_failed += 1,
        });
        outcome
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        let LoadRequest { descriptor, options, control, .. } = request;
        let ledger = &self.shared.ledger;
        let script = self.script_of(descriptor);
        ledger.change(|counts| counts.loads_started += 1);
        let outcome = self.wait_for_load(script, control).and_then(|()| {
            match self.scripted_load_failure().or_else(|| script.load_failure.clone()) {
                Some(failure) => Err(failure),
                None => Ok(()),
            }
        });
        if let Err(failure) = outcome {
            ledger.change(|counts| match failure.kind {
                ErrorKind::Cancelled => counts.loads_cancelled += 1,
                _ => counts.loads_failed += 1,
            });
            return Err(failure);
        }
        let gates = Gates {
            tokens: Arc::clone(&self.shared.tokens),
            requests: Arc::clone(&self.shared.requests),
            batches: Arc::clone(&self.shared.batches),
        };
        let arrangement = packing::arrange(script, request, options.layout);
        ledger.change(|counts| counts.packed_loads += u64::from(arrangement.layout.needs_packed_file()));
        let ledger = Arc::clone(ledger);
        let model =
            Model { script: script.clone(), capabilities: self.capabilities_of(descriptor), arrangement };
        Ok(Arc::new(FakeInstance::new(model, descriptor, options, gates, ledger)))
    }
}

fn info(id: &str, formats: impl IntoIterator<Item = Format>) -> EngineInfo {
    EngineInfo { id: EngineId::new(id), name: format!("{id} 1"), formats: formats.into_iter().collect() }
}

fn footprint(script: &Script, descriptor: &Descriptor, options: &LoadOptions) -> Footprint {
    if let Some(footprint) = script.footprint {
        return footprint;
    }
    let kv_tokens = u64::from(options.context_tokens) * u64::from(options.slots);
    let files = if options.layout == Layout::Hybrid { 2 } else { 1 };
    let packed_bytes = match options.layout {
        Layout::Mapped | Layout::Packed | Layout::Hybrid => 0,
        Layout::Repacked => descriptor.tensor_bytes,
    };
    let draft = options.draft.as_ref().map_or(Footprint::default(), |draft| Footprint {
        held_bytes: DRAFT_TOKENS * draft.descriptor.kv_bytes_per_token(),
        mapped_bytes: draft.descriptor.tensor_bytes,
    });
    Footprint {
        held_bytes: kv_tokens * descriptor.kv_bytes_per_token() + packed_bytes + draft.held_bytes,
        mapped_bytes: descriptor.tensor_bytes * files + draft.mapped_bytes,
    }
}

#[cfg(test)]
mod tests;
