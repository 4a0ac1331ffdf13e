//! Facts of a model as its file's header states them, checked by the gate before any engine sees the file.

use serde::{Deserialize, Serialize};

use super::format::Format;
use crate::embedding::Pooling;
use crate::infill::InfillTokens;

/// A tensor format with its share of the file: enough to predict what a layout costs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorFormat {
    /// ggml's name of the type, such as `Q4_K` or `F16`.
    pub name: String,
    /// How many tensors have it.
    pub tensors: u32,
    /// Their bytes in the file.
    pub bytes: u64,
    /// Of these, bytes of two-dimensional weights of transformer blocks and the output: what an
    /// engine may repack. Embedding tables and norms are not counted.
    pub matrix_bytes: u64,
}

/// Facts of a model from its header. All numbers have passed the gate's ranges.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Descriptor {
    /// The format of its weights: it decides which engine runs it.
    #[serde(default)]
    pub format: Format,
    /// `general.name`, if the file has one.
    pub name: Option<String>,
    /// `general.architecture`, such as `llama`.
    pub architecture: String,
    /// Number of weights.
    pub parameters: u64,
    /// Files that it is split into; 1 for a model in one file.
    #[serde(default = "one")]
    pub parts: u32,
    /// Size of the file in bytes, or of all files of a split model.
    pub file_bytes: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// The formats that occur, largest first.
    pub formats: Vec<TensorFormat>,
    /// The usual short name of the quantization, such as `Q4_K_M`, `Q8_0`, `F16`.
    pub quantization: String,
    /// Context that the model was trained for, in tokens.
    pub context_tokens: u32,
    /// Width of the residual stream.
    pub embedding_width: u32,
    /// Transformer blocks.
    pub blocks: u32,
    /// Attention heads.
    pub heads: u32,
    /// Key/value heads.
    pub kv_heads: u32,
    /// Width of one key head.
    pub key_width: u32,
    /// Width of one value head.
    pub value_width: u32,
    /// Width of the feed-forward layer.
    pub feed_forward_width: u32,
    /// Bytes of recurrent state that a sequence keeps beside its KV cache, at most; 0 = none, or unknown.
    #[serde(default)]
    pub state_bytes: u64,
    /// How the file says that one vector is made of all tokens'; `None` = it does not say, or it says that none is made.
    #[serde(default)]
    pub pooling: Option<Pooling>,
    /// Whether a token sees those before it only, as in models that write text.
    #[serde(default = "yes")]
    pub is_causal: bool,
    /// Whether it has a classifier's weights, which a reranker needs.
    #[serde(default)]
    pub has_classifier: bool,
    /// Tokens of the vocabulary.
    pub vocabulary: u32,
    /// `tokenizer.chat_template`, a Jinja template.
    pub chat_template: Option<String>,
    /// Text of the begin-of-sequence token.
    pub bos_token: Option<String>,
    /// Text of the end-of-sequence token.
    pub eos_token: Option<String>,
    /// Whether the vocabulary wants its begin-of-sequence token added.
    pub adds_bos: bool,
    /// The tokens that mark the parts of a text with a gap; `None` = it was not made to fill gaps in.
    #[serde(default)]
    pub infill: Option<InfillTokens>,
}

/// What was written before models could be split.
const fn one() -> u32 {
    1
}

/// What every model was before there were encoders.
const fn yes() -> bool {
    true
}

/// Architectures that read text and write none: encoders.
///
/// *Source:* the models for which llama.cpp makes no KV cache, or no logits, in `llama-model.cpp`.
const ENCODERS: [&str; 11] = [
    "bert",
    "modern-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "neo-bert",
    "jina-bert-v2",
    "jina-bert-v3",
    "eurobert",
    "gemma-embedding",
    "llama-embed",
    "t5encoder",
];

/// Whether models of an architecture read text and write none.
pub(crate) fn is_encoder(architecture: &str) -> bool {
    ENCODERS.contains(&architecture)
}

impl Descriptor {
    /// Whether it reads text and writes none: what it makes of a text are vectors or scores.
    pub fn is_encoder(&self) -> bool {
        is_encoder(&self.architecture)
    }

    /// Bytes of KV cache for one token at 16 bits: `2 × blocks × kv_heads × (key + value width)`.
    pub fn kv_bytes_per_token(&self) -> u64 {
        u64::from(self.blocks)
            * u64::from(self.kv_heads)
            * (u64::from(self.key_width) + u64::from(self.value_width))
            * 2
    }
}
