//! What a load will cost, from the header; and what it did cost, from the native log.
//!
//! ```text
//!   held    = KV cache and recurrent states + compute and output buffers + vocabulary + (packed: repacked weights)
//!   mapped  = the other weights, as clean page cache
//! ```
//!
//! A context for vectors ([`EmbedPlan`]) is one more, or the only one: then there is no KV cache. What llama.cpp clears for
//! logits that an encoder never writes is predicted, because it is there for a moment, and not accounted, because it is
//! given back.
//!
//! Both are what an instance holds when all its cells are in use and prompts come in full batches; short
//! of that the kernel counts less, because untouched pages cost nothing. What grammars take is no part of them: it is counted
//! while it is there (`constraints`).
//!
//! *Source* of the constants: the buffer sizes that llama.cpp logs for a 1.1B, a 0.5B and the demo model
//! at 2,304 and 16,640 cells, which the formulas meet within 2 %; the kernel's count of anonymous memory;
//! llama.cpp's own rules for which tensors are repacked (`ggml-cpu/repack.cpp`, `amx/`).

use samovar_core::footprint::KvType;
use samovar_core::{Descriptor, Footprint, Layout, LoadOptions};

use crate::drafter::DraftPlan;
use crate::embed::EmbedPlan;
use crate::error::Error;
use crate::log::NativeBuffer;
use crate::plan::{self, BATCH_TOKENS, ContextOptions, LoadPlan};

/// Anonymous memory of one vocabulary entry: its text, score and attributes, and the maps from text and
/// merges to ids. Measured: 265 for 152k entries with as many merges, 149 for 32k without any.
const VOCABULARY_ENTRY_BYTES: u64 = 270;
/// What a context costs whatever its shape: graph, scheduler, thread pool, batch.
const CONTEXT_BYTES: u64 = 6 << 20;
/// llama.cpp's book-keeping of one KV cell: position, sequences, shift.
const CELL_BYTES: u64 = 64;
/// A packed tensor may be padded; AMX's layout adds sums to each block.
const PACKED_PERCENT: u64 = 103;

/// Formats that llama.cpp repacks on x86 with AVX2 or on ARM.
const PACKABLE: [&str; 11] =
    ["Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4", "Q1_0"];
/// Formats that llama.cpp repacks on x86 without AMX and AVX-512.
const PACKABLE_AVX2: [&str; 4] = ["Q4_0", "Q4_K", "IQ4_NL", "MXFP4"];

/// Predicts the memory of a plan.
pub(crate) fn predict(descriptor: &Descriptor, plan: &LoadPlan) -> Footprint {
    let packed = if plan.layout == Layout::Repacked { packable_bytes(descriptor) } else { 0 };
    let beside = if plan.layout == Layout::Hybrid { packable_bytes(descriptor) } else { 0 };
    let vocabulary = u64::from(descriptor.vocabulary);
    let text = if plan.generates() { text_bytes(descriptor, plan) } else { 0 };
    let vectors = plan.embed.map_or(0, |embed| vectors_bytes(descriptor, plan, &embed));
    Footprint {
        held_bytes: text + vectors + vocabulary * VOCABULARY_ENTRY_BYTES + packed * PACKED_PERCENT / 100,
        mapped_bytes: descriptor.tensor_bytes - packed + beside * PACKED_PERCENT / 100,
    }
}

/// Predicts the memory of a draft model, which is mapped as it lies on the disk.
pub(crate) fn predict_draft(descriptor: &Descriptor, plan: DraftPlan) -> Footprint {
    let ContextOptions { cells, batch_tokens, .. } = plan.context();
    let (vocabulary, rows) = (u64::from(descriptor.vocabulary), u64::from(plan.context().rows()));
    let (cell_count, batch) = (u64::from(cells), u64::from(batch_tokens));
    let context = kv_bytes(descriptor, KvType::F16, cells)
        + cell_count * CELL_BYTES
        + compute_bytes(descriptor, batch, cell_count, rows)
        + rows * vocabulary * 4
        + CONTEXT_BYTES;
    Footprint {
        held_bytes: context + vocabulary * VOCABULARY_ENTRY_BYTES,
        mapped_bytes: descriptor.tensor_bytes,
    }
}

/// A context that writes text.
fn text_bytes(descriptor: &Descriptor, plan: &LoadPlan) -> u64 {
    kv_bytes(descriptor, plan.kv_type, plan.cells)
        + u64::from(plan.cells) * CELL_BYTES
        + sequences(plan) * plan.state_bytes
        + compute_bytes(descriptor, u64::from(BATCH_TOKENS), u64::from(plan.cells), rows(plan))
        + rows(plan) * u64::from(descriptor.vocabulary) * 4
        + CONTEXT_BYTES
}

/// A context that makes vectors. Every token of a call has a row of logits, computed or only cleared.
fn vectors_bytes(descriptor: &Descriptor, plan: &LoadPlan, embed: &EmbedPlan) -> u64 {
    let call = u64::from(embed.call_tokens);
    let (width, heads) = (u64::from(descriptor.embedding_width), u64::from(descriptor.heads));
    let rows = call.saturating_mul(u64::from(descriptor.vocabulary) + width).saturating_mul(4);
    let activations = call * 4 * (8 * width + 3 * u64::from(descriptor.feed_forward_width));
    // One that sees all tokens, and one that sees those near a token, if the model has such blocks; or one and the products.
    let pairs = embed.pairs();
    let attention = if embed.is_exact() { pairs * 4 * (1 + heads) } else { pairs.saturating_mul(2 * 2) };
    let pooling = call * u64::from(embed.sequences) * 4;
    let cached = if embed.has_cache {
        let cells = embed.budget_tokens;
        kv_bytes(descriptor, plan.kv_type, cells)
            + u64::from(cells) * CELL_BYTES
            + u64::from(embed.sequences) * plan.state_bytes
            // The logits that are computed, before they are copied.
            + rows
    } else {
        0
    };
    (activations + pooling + CONTEXT_BYTES)
        .saturating_add(attention)
        .saturating_add(cached)
        .saturating_add(rows)
}

/// No less than the context in which packed weights are compared with their source.
const PROVING: LoadOptions = LoadOptions {
    context_tokens: 512,
    slots: 4,
    layout: Layout::Mapped,
    kv_type: KvType::F16,
    threads: 1,
    lock_memory: false,
    pooling: None,
    draft: None,
};
/// No format of weights takes more for a number.
const NUMBER_BYTES: u64 = 4;

/// Predicts the memory of packing a model. Weights are mapped, but for the tensor that is being packed; what is not packed
/// is written as well.
///
/// # Errors
/// As [`LoadPlan::new`].
pub(crate) fn predict_packing(descriptor: &Descriptor) -> Result<Footprint, Error> {
    let of = |layout| {
        Ok::<_, Error>(predict(descriptor, &LoadPlan::new(descriptor, &LoadOptions { layout, ..PROVING })?))
    };
    let (plain, both) = (of(Layout::Mapped)?, of(Layout::Hybrid)?);
    Ok(Footprint {
        held_bytes: plain.held_bytes.saturating_add(largest_tensor_bytes(descriptor)),
        mapped_bytes: plain.mapped_bytes.max(both.mapped_bytes.saturating_sub(plain.mapped_bytes)),
    })
}

/// The largest matrix, at most.
fn largest_tensor_bytes(descriptor: &Descriptor) -> u64 {
    let rows = u64::from(descriptor.vocabulary.max(descriptor.feed_forward_width));
    (rows * u64::from(descriptor.embedding_width) * NUMBER_BYTES).min(descriptor.tensor_bytes)
}

/// Sequences of a context, each of which has a recurrent state if the model has any.
fn sequences(plan: &LoadPlan) -> u64 {
    u64::from(plan.sequences(plan.state_bytes > 0))
}

/// Rows of logits of a step at most.
fn rows(plan: &LoadPlan) -> u64 {
    u64::from(plan::rows(plan.sequences(plan.state_bytes > 0)))
}

/// The KV cache: all of it is written when a context is made.
fn kv_bytes(descriptor: &Descriptor, kv_type: KvType, cells: u32) -> u64 {
    let f16 = u64::from(cells) * descriptor.kv_bytes_per_token();
    match kv_type {
        KvType::F16 => f16,
        // A block of 32 numbers: 32 bytes and a 16-bit scale instead of 64 bytes.
        KvType::Q8_0 => f16 * 34 / 64,
    }
}

/// The compute buffer: activations of a full batch in 32-bit numbers, the attention mask in 16-bit
/// numbers, and the logits of the tokens that are sampled.
fn compute_bytes(descriptor: &Descriptor, batch: u64, cells: u64, rows: u64) -> u64 {
    let width = u64::from(descriptor.embedding_width);
    let activations = batch * 4 * (5 * width + 3 * u64::from(descriptor.feed_forward_width));
    let mask = batch * cells * 2;
    let logits = rows * u64::from(descriptor.vocabulary) * 4;
    activations + mask + logits
}

/// Bytes of weights that the packed layout copies on this kind of CPU.
fn packable_bytes(descriptor: &Descriptor) -> u64 {
    let formats = descriptor.formats.iter();
    formats.filter(|format| packable_here().contains(&format.name.as_str())).map(|f| f.matrix_bytes).sum()
}

fn packable_here() -> &'static [&'static str] {
    let is_plain_avx2 = cfg!(all(target_arch = "x86_64", not(target_feature = "avx512f")));
    if is_plain_avx2 { &PACKABLE_AVX2 } else { &PACKABLE }
}

/// Memory as llama.cpp accounted for it while it loaded and made a context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "the unit belongs to the name")]
pub(crate) struct Account {
    /// Weights that lie in anonymous memory.
    pub packed_bytes: u64,
    /// The range of the file that was mapped.
    pub mapped_bytes: u64,
    /// KV cache or recurrent state, compute and output buffers.
    pub context_bytes: u64,
}

impl Account {
    /// Adds buffers up.
    pub(crate) fn add(mut self, buffers: &[NativeBuffer]) -> Self {
        for buffer in buffers {
            match buffer.purpose.as_str() {
                "model" if buffer.place.ends_with("_Mapped") => self.mapped_bytes += buffer.bytes,
                "model" => self.packed_bytes += buffer.bytes,
                _ => self.context_bytes += buffer.bytes,
            }
        }
        self
    }

    /// Weights that stay mapped. llama.cpp accounts for the whole range that it maps, also for the parts
    /// that it packs and then unmaps.
    pub(crate) fn mapped_bytes(self, descriptor: &Descriptor) -> u64 {
        self.mapped_bytes.min(descriptor.tensor_bytes.saturating_sub(self.packed_bytes))
    }

    /// Anonymous bytes in all, with what llama.cpp does not account for.
    pub(crate) fn held_bytes(self, descriptor: &Descriptor, plan: &LoadPlan) -> u64 {
        let vocabulary = u64::from(descriptor.vocabulary) * VOCABULARY_ENTRY_BYTES;
        let context = if self.context_bytes == 0 {
            0
        } else {
            let beside = plan.embed.map_or(0, |embed| grown_bytes(descriptor, plan, &embed));
            // llama.cpp makes room for more rows than it has sequences with the first draft.
            let drafts = if plan.generates() { rows(plan) - sequences(plan) } else { 0 };
            let drafts = drafts * u64::from(descriptor.vocabulary) * 4;
            self.context_bytes + u64::from(plan.cells) * CELL_BYTES + CONTEXT_BYTES + beside + drafts
        };
        self.packed_bytes + vocabulary + context
    }

    /// The same of a draft model.
    pub(crate) fn draft_held_bytes(self, descriptor: &Descriptor, plan: DraftPlan) -> u64 {
        let vocabulary = u64::from(descriptor.vocabulary) * VOCABULARY_ENTRY_BYTES;
        let context = if self.context_bytes == 0 {
            0
        } else {
            self.context_bytes + u64::from(plan.context().cells) * CELL_BYTES + CONTEXT_BYTES
        };
        self.packed_bytes + vocabulary + context
    }
}

/// What a context for vectors takes besides what llama.cpp accounts for when it makes it: rows of logits become as many as a
/// call has tokens; and its book-keeping, if there is another context already.
fn grown_bytes(descriptor: &Descriptor, plan: &LoadPlan, embed: &EmbedPlan) -> u64 {
    if !embed.has_cache {
        return 0;
    }
    let rows = u64::from(embed.call_tokens.saturating_sub(embed.sequences));
    let row = (u64::from(descriptor.vocabulary) + u64::from(descriptor.embedding_width)) * 4;
    let context = if plan.generates() { CONTEXT_BYTES } else { 0 };
    rows * row + u64::from(embed.budget_tokens) * CELL_BYTES + context
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use samovar_core::Format;
    use samovar_core::embedding::Pooling;
    use samovar_core::model::descriptor::TensorFormat;

    /// The 1.1B shape of `TinyLlama` in `Q4_K_M`.
    pub(crate) fn descriptor() -> Descriptor {
        let format = |name: &str, bytes: u64, matrix_bytes: u64| TensorFormat {
            name: name.to_owned(),
            tensors: 1,
            bytes,
            matrix_bytes,
        };
        Descriptor {
            format: Format::Gguf,
            name: None,
            architecture: "llama".to_owned(),
            parameters: 1_100_048_384,
            parts: 1,
            file_bytes: 668_788_096,
            tensor_bytes: 667_000_000,
            formats: vec![format("Q4_K", 455 << 20, 420 << 20), format("Q6_K", 180 << 20, 180 << 20)],
            quantization: "Q4_K_M".to_owned(),
            context_tokens: 2048,
            embedding_width: 2048,
            blocks: 22,
            heads: 32,
            kv_heads: 4,
            key_width: 64,
            value_width: 64,
            feed_forward_width: 5632,
            state_bytes: 0,
            pooling: None,
            is_causal: true,
            has_classifier: false,
            vocabulary: 32000,
            chat_template: None,
            bos_token: None,
            eos_token: None,
            adds_bos: true,
            infill: None,
        }
    }

    pub(crate) fn options() -> LoadOptions {
        LoadOptions {
            context_tokens: 2048,
            slots: 1,
            layout: Layout::Mapped,
            kv_type: KvType::F16,
            threads: 2,
            lock_memory: false,
            pooling: None,
            draft: None,
        }
    }

    fn predicted(options: &LoadOptions) -> Footprint {
        predict(&descriptor(), &LoadPlan::new(&descriptor(), options).unwrap())
    }

    #[test]
    fn a_mapped_model_holds_no_weights() {
        let footprint = predicted(&options());
        assert_eq!(footprint.mapped_bytes, descriptor().tensor_bytes);
        assert!(footprint.held_bytes < 150 << 20, "{footprint:?}");
    }

    #[test]
    fn a_draft_model_holds_a_context_of_its_own_whatever_the_models_size() {
        let draft = Descriptor { tensor_bytes: 90_000_000, blocks: 6, context_tokens: 2048, ..descriptor() };
        let Footprint { held_bytes, mapped_bytes } = predict_draft(&draft, DraftPlan::new(&draft, 2));
        assert_eq!(mapped_bytes, draft.tensor_bytes);
        // 1,024 tokens for each of two sequences.
        let cache = 2 * 1024 * draft.kv_bytes_per_token();
        assert!((cache..cache + (60 << 20)).contains(&held_bytes), "{held_bytes}");
        let short = Descriptor { context_tokens: 256, ..draft.clone() };
        assert!(predict_draft(&short, DraftPlan::new(&short, 2)).held_bytes < held_bytes);
    }

    #[test]
    fn a_packed_model_holds_a_copy_of_what_is_packed() {
        let (mapped, packed) =
            (predicted(&options()), predicted(&LoadOptions { layout: Layout::Repacked, ..options() }));
        let moved = mapped.mapped_bytes - packed.mapped_bytes;
        assert!(moved >= 420 << 20);
        assert!(packed.held_bytes - mapped.held_bytes >= moved);
    }

    #[test]
    fn packing_holds_one_tensor_and_not_the_model() {
        let large = Descriptor { tensor_bytes: 40 << 30, ..descriptor() };
        let [proving, packing] = [predicted(&PROVING), predict_packing(&large).unwrap()];
        // 32,000 rows of 2,048 numbers.
        assert_eq!(packing.held_bytes, proving.held_bytes + 32_000 * 2_048 * 4);
        assert!(packing.held_bytes < large.tensor_bytes / 50, "{packing:?}");
        assert!(packing.mapped_bytes >= large.tensor_bytes, "what is not packed is written, too");
    }

    #[test]
    fn the_kv_cache_grows_with_slots_and_shrinks_with_q8_0() {
        let one = predicted(&options()).held_bytes;
        let four = predicted(&LoadOptions { slots: 4, ..options() }).held_bytes;
        // 22 KiB a token: 22 blocks × 4 heads × (64 + 64) × 2 bytes.
        assert!(four - one >= 3 * 2048 * 22 * 1024);
        let small = predicted(&LoadOptions { kv_type: KvType::Q8_0, ..options() }).held_bytes;
        assert!(small < one);
    }

    /// The shape of `all-MiniLM-L6-v2` in 32-bit floats.
    fn minilm() -> Descriptor {
        Descriptor {
            architecture: "bert".to_owned(),
            tensor_bytes: 90_900_000,
            formats: Vec::new(),
            context_tokens: 512,
            embedding_width: 384,
            blocks: 6,
            heads: 12,
            kv_heads: 12,
            key_width: 32,
            value_width: 32,
            feed_forward_width: 1536,
            pooling: Some(Pooling::Mean),
            is_causal: false,
            vocabulary: 30_522,
            ..descriptor()
        }
    }

    #[test]
    fn an_encoder_has_no_kv_cache_and_a_row_of_logits_for_each_token() {
        let predicted = |options| {
            let plan = LoadPlan::new(&minilm(), &options).unwrap();
            (
                predict(&minilm(), &plan),
                Account { context_bytes: 1, ..Account::default() }.held_bytes(&minilm(), &plan),
            )
        };
        let (footprint, accounted) = predicted(LoadOptions { context_tokens: 512, ..options() });
        assert_eq!(footprint.mapped_bytes, minilm().tensor_bytes);
        // 512 rows of the vocabulary, and 13 MB of products of tokens.
        assert!((62 << 20..130 << 20).contains(&footprint.held_bytes), "{footprint:?}");
        assert!(accounted < 20 << 20, "logits are given back: {accounted}");
        // Slots are requests that wait, and take nothing native.
        assert_eq!(predicted(LoadOptions { context_tokens: 512, slots: 64, ..options() }).0, footprint);
    }

    #[test]
    fn vectors_beside_text_take_a_context_of_their_own() {
        let one = predicted(&options());
        let both = predicted(&LoadOptions { pooling: Some(Pooling::Last), ..options() });
        // 22 KiB of KV cache for each of 2,048 cells, and twice 256 rows of logits.
        let more = both.held_bytes - one.held_bytes;
        assert!(more >= 2048 * 22 * 1024 + 2 * 256 * 32_000 * 4, "{more}");
        assert_eq!(both.mapped_bytes, one.mapped_bytes);
    }

    #[test]
    fn every_sequence_of_a_recurrent_model_holds_a_state() {
        let recurrent = Descriptor { state_bytes: 10 << 20, ..descriptor() };
        let plan = LoadPlan::new(&recurrent, &options()).unwrap();
        let more = predict(&recurrent, &plan).held_bytes - predicted(&options()).held_bytes;
        // One that runs, twelve that are kept, and the probe.
        assert!((14 * (10 << 20)..15 * (10 << 20)).contains(&more), "{more}");
    }

    #[test]
    fn accounts_are_added_up_from_the_native_log() {
        let buffer = |place: &str, purpose: &str, bytes| NativeBuffer {
            place: place.to_owned(),
            purpose: purpose.to_owned(),
            bytes,
        };
        let account = Account::default().add(&[
            buffer("CPU_Mapped", "model", 100),
            buffer("CPU_REPACK", "model", 40),
            buffer("CPU", "KV", 7),
            buffer("CPU", "compute", 1000),
            buffer("CPU", "output", 2),
        ]);
        assert_eq!(account, Account { packed_bytes: 40, mapped_bytes: 100, context_bytes: 1009 });
        let plan = LoadPlan::new(&descriptor(), &options()).unwrap();
        let (ready, parked) = (
            account.held_bytes(&descriptor(), &plan),
            Account { context_bytes: 0, ..account }.held_bytes(&descriptor(), &plan),
        );
        assert!(ready > parked && parked >= 40);
    }
}
