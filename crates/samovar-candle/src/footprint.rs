//! What a load will cost, from a model's facts alone.
//!
//! ```text
//!   held = weights as they are computed with + KV cache + what a step computes in + vocabulary
//! ```
//!
//! Nothing is mapped: candle keeps a copy of its own of all weights. On the CPU they are 32-bit floats, because candle multiplies
//! no 16-bit floats there without converting them at each step.

use samovar_core::{Descriptor, Footprint, LoadOptions, Pooling};

use crate::thread::PREFILL_TOKENS;

/// Bytes of a number as it is computed with.
const NUMBER_BYTES: u64 = if cfg!(any(feature = "cuda", feature = "metal")) { 2 } else { 4 };
/// A token in the tokenizer's tables, with its merge.
const VOCABULARY_ENTRY_BYTES: u64 = 600;
/// Threads, buffers of the allocator, the template.
const FIXED_BYTES: u64 = 24 << 20;

/// How vectors are made of a model's texts, if they are.
pub(crate) fn pooling_of(descriptor: &Descriptor, options: &LoadOptions) -> Pooling {
    options.pooling.or(descriptor.pooling).unwrap_or(Pooling::Mean)
}

/// Bytes of a vocabulary, and of what every instance has.
pub(crate) const fn vocabulary_bytes(tokens: u64) -> u64 {
    tokens * VOCABULARY_ENTRY_BYTES + FIXED_BYTES
}

/// Bytes of the state of one token.
pub(crate) fn cell_bytes(descriptor: &Descriptor) -> u64 {
    if descriptor.is_encoder() {
        return 0;
    }
    // What a descriptor says is of 16-bit numbers.
    descriptor.kv_bytes_per_token() / 2 * NUMBER_BYTES
}

/// Bytes of what the largest step computes in, and of the tables of rotations.
pub(crate) fn step_bytes(descriptor: &Descriptor, slots: u64, context: u64) -> u64 {
    let is_encoder = descriptor.is_encoder();
    let rows = if is_encoder { context } else { PREFILL_TOKENS as u64 };
    let heads = u64::from(descriptor.heads);
    let (width, feed_forward) =
        (u64::from(descriptor.embedding_width), u64::from(descriptor.feed_forward_width));
    // Scores, masked scores and weights of attention; what goes through a layer; logits; cosines and sines, of which there may be two.
    let scores = rows.saturating_mul(heads).saturating_mul(context).saturating_mul(3);
    let layer = rows.saturating_mul(4 * feed_forward + 8 * width);
    let logits = if is_encoder { 0 } else { 2 * slots * u64::from(descriptor.vocabulary) };
    let rotations = if is_encoder { 0 } else { 2 * context * u64::from(descriptor.key_width) };
    let numbers = [scores, layer, logits, rotations].into_iter().fold(0, u64::saturating_add);
    numbers.saturating_mul(NUMBER_BYTES)
}

/// Predicts the memory of a load.
pub(crate) fn predict(descriptor: &Descriptor, options: &LoadOptions) -> Footprint {
    let weights = descriptor.parameters.saturating_mul(NUMBER_BYTES);
    let cells = options.cells().saturating_mul(cell_bytes(descriptor));
    let step = step_bytes(descriptor, u64::from(options.slots), u64::from(options.context_tokens));
    let vocabulary = vocabulary_bytes(u64::from(descriptor.vocabulary));
    let parts = [weights, cells, step, vocabulary];
    Footprint { held_bytes: parts.into_iter().fold(0, u64::saturating_add), mapped_bytes: 0 }
}
