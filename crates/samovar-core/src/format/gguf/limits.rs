//! How much of everything a header may hold.

/// Bytes of all metadata and tensor descriptions together.
pub const HEADER_BYTES: u64 = 256 << 20;
/// Metadata keys.
pub const KEYS: u64 = 65_536;
/// Bytes of one key.
pub const KEY_BYTES: u64 = 65_535;
/// Tensors.
pub const TENSORS: u64 = 65_536;
/// Tensors of an adapter: two for each matrix of the largest models.
pub const ADAPTER_TENSORS: u64 = 16_384;
/// Bytes of one tensor's name; ggml's own limit.
pub const TENSOR_NAME_BYTES: u64 = 63;
/// Dimensions of one tensor.
pub const DIMENSIONS: u32 = 4;
/// Bytes of one string.
pub const STRING_BYTES: u64 = 16 << 20;
/// Elements of one array.
pub const ARRAY_ELEMENTS: u64 = 4 << 20;
/// Bytes of the chat template.
pub const TEMPLATE_BYTES: u64 = 256 << 10;
/// Bytes of one vocabulary entry.
pub const TOKEN_BYTES: u64 = 4 << 10;
/// Entries of the vocabulary. The largest in use have about 262,000.
pub const VOCABULARY: u64 = 512 << 10;
/// Bytes of names that the descriptor keeps.
pub const NAME_BYTES: u64 = 1 << 10;
/// Bytes of short identifiers, such as the architecture.
pub const IDENTIFIER_BYTES: u64 = 64;
/// Transformer blocks; llama.cpp's own limit.
pub const BLOCKS: u64 = 512;
/// Experts of a mixture; llama.cpp's own limit.
pub const EXPERTS: u64 = 1024;
/// Tokens of context.
pub const CONTEXT_TOKENS: u64 = 1 << 28;
/// Width of the residual stream or of a feed-forward layer.
pub const WIDTH: u64 = 1 << 20;
/// Attention heads of one block.
pub const HEADS: u64 = 4096;
/// Width of one head.
pub const HEAD_WIDTH: u64 = 8192;
/// Smallest and largest alignment of tensor data.
pub const ALIGNMENT: (u64, u64) = (8, 65_536);

/// Bytes of one string in the value of `key`.
pub(super) fn string_bytes_of(key: &str) -> u64 {
    match key {
        "tokenizer.ggml.tokens" | "tokenizer.ggml.merges" => TOKEN_BYTES,
        "tokenizer.chat_template" => TEMPLATE_BYTES,
        _ => STRING_BYTES,
    }
}

/// Bytes that are read at once; no more of the file is in memory at any time.
pub(super) const WINDOW_BYTES: usize = 64 << 10;
/// Bytes that the gate may keep while it works.
const WORKING_BYTES: u64 = 8 << 20;

// What is held at the same time: the window, the index of keys, the template, and then either the
// vocabulary's hashes and two bit sets, or the tensors' names and extents.
const INDEX_BYTES: u64 = KEYS * 16 + TEMPLATE_BYTES + WINDOW_BYTES as u64 * 2;
const VOCABULARY_BYTES: u64 = VOCABULARY * 8 + 2 * VOCABULARY / 8;
const TENSOR_BYTES: u64 = TENSORS * (16 + 24);
const _: () = assert!(INDEX_BYTES + VOCABULARY_BYTES <= WORKING_BYTES);
const _: () = assert!(INDEX_BYTES + TENSOR_BYTES <= WORKING_BYTES);
// Of an adapter, each tensor's name and shape besides.
const PAIR_BYTES: u64 = ADAPTER_TENSORS * (16 + 24 + TENSOR_NAME_BYTES + 1 + 96);
const _: () = assert!(INDEX_BYTES + PAIR_BYTES <= WORKING_BYTES);
