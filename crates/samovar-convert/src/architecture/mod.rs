//! The architectures that are converted. Each file knows the names, shapes and numbers of its kind, and nothing of files.
//!
//! ```text
//!   class of config.json ─► decoder       Llama, Mistral, Qwen2, Qwen3, SmolLM3, Granite
//!                           phi3          fused matrices, two tables of rotations
//!                           gemma         Gemma 3 and EmbeddingGemma: norms plus one, windows
//!                           bert          BERT, XLM-RoBERTa and their classifiers
//!                           nomic_bert, modern_bert
//! ```
//!
//! *Source:* names and keys are those of llama.cpp's converter and of the readers in its `src/models`.

mod bert;
mod decoder;
mod gemma;
mod modern_bert;
mod nomic_bert;
mod phi3;
pub(crate) mod pooling;
mod rope;

use samovar_core::format::gguf::limits;

use crate::config::Config;
use crate::error::Fault;
use crate::gguf::Metadata;
use crate::source::{Folder, Weights};
use crate::tensor::Tensor;

pub use rope::{Rope, Scaling};

/// A model as it will be written.
#[derive(Debug)]
pub(crate) struct Model {
    /// The architecture, as GGUF calls it.
    pub(crate) architecture: &'static str,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<Tensor>,
}

/// What every architecture is made from.
pub(crate) struct Source<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a Weights,
}

/// The classes of `config.json` that are converted.
pub const CLASSES: [&str; 25] = [
    "LlamaForCausalLM",
    "LlamaModel",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen2Model",
    "Qwen3ForCausalLM",
    "Qwen3Model",
    "SmolLM3ForCausalLM",
    "GraniteForCausalLM",
    "Phi3ForCausalLM",
    "Gemma3ForCausalLM",
    "Gemma3TextModel",
    "BertModel",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "XLMRobertaModel",
    "XLMRobertaForMaskedLM",
    "XLMRobertaForSequenceClassification",
    "NomicBertModel",
    "ModernBertModel",
    "ModernBertForMaskedLM",
    "ModernBertForSequenceClassification",
    "CamembertModel",
    "CamembertForMaskedLM",
    "CamembertForSequenceClassification",
];

/// Adds the tensors that a model of this class keeps in folders of their own.
pub(crate) fn add_more(folder: &Folder, config: &Config, weights: &mut Weights) -> Result<(), Fault> {
    if config.class()? == "Gemma3TextModel" { gemma::add_dense(folder, weights) } else { Ok(()) }
}

/// Makes the model of a folder.
pub(crate) fn build(source: &Source<'_>) -> Result<Model, Fault> {
    let class = source.config.class()?;
    match class {
        "LlamaForCausalLM" | "LlamaModel" | "MistralForCausalLM" => decoder::build(source, &decoder::LLAMA),
        "Qwen2ForCausalLM" | "Qwen2Model" => decoder::build(source, &decoder::QWEN2),
        "Qwen3ForCausalLM" | "Qwen3Model" => decoder::build(source, &decoder::QWEN3),
        "SmolLM3ForCausalLM" => decoder::build(source, &decoder::SMOLLM3),
        "GraniteForCausalLM" => decoder::build(source, &decoder::GRANITE),
        "Phi3ForCausalLM" => phi3::build(source),
        "Gemma3ForCausalLM" => gemma::build(source, false),
        "Gemma3TextModel" => gemma::build(source, true),
        "BertModel" | "BertForMaskedLM" => bert::build(source, bert::Kind::WordPiece, false),
        "BertForSequenceClassification" => bert::build(source, bert::Kind::WordPiece, true),
        "XLMRobertaModel" | "XLMRobertaForMaskedLM" | "CamembertModel" | "CamembertForMaskedLM" => {
            bert::build(source, bert::Kind::Unigram, false)
        }
        "XLMRobertaForSequenceClassification" | "CamembertForSequenceClassification" => {
            bert::build(source, bert::Kind::Unigram, true)
        }
        "NomicBertModel" => nomic_bert::build(source),
        "ModernBertModel" | "ModernBertForMaskedLM" => modern_bert::build(source, false),
        "ModernBertForSequenceClassification" => modern_bert::build(source, true),
        other => {
            let name: String = other.chars().filter(|character| !character.is_control()).take(80).collect();
            Err(Fault::Unsupported { what: format!("the architecture {name}") })
        }
    }
}

/// The sides that all transformers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// Transformer blocks.
    pub blocks: u64,
    /// Width of the residual stream.
    pub width: u64,
    /// Attention heads.
    pub heads: u64,
    /// Key/value heads.
    pub kv_heads: u64,
    /// Width of one head.
    pub head: u64,
    /// Width of the feed-forward layer.
    pub feed_forward: u64,
    /// Rows of the token embedding.
    pub vocabulary: u64,
    /// Tokens of context.
    pub context: u64,
}

impl Sides {
    /// Those of a model whose heads have the width `head` unless it says another.
    pub(crate) fn read(config: &Config, head: Head) -> Result<Self, Fault> {
        let heads = config.needed(&["num_attention_heads", "n_head"], 1..=limits::HEADS)?;
        let width = config.needed(&["hidden_size", "n_embd"], 1..=limits::WIDTH)?;
        let said = match head {
            Head::Split => None,
            Head::Said | Head::Or(_) => config.whole("head_dim", 1..=limits::HEAD_WIDTH)?,
        };
        let head = match (said, head) {
            (Some(said), _) => said,
            (None, Head::Or(width)) => width,
            (None, _) if width.is_multiple_of(heads) => width / heads,
            (None, _) => {
                return Err(Fault::Config(format!("the width {width} is not a multiple of {heads} heads")));
            }
        };
        let kv_heads = config.whole("num_key_value_heads", 1..=limits::HEADS)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(Fault::Config(format!(
                "{heads} heads are not a multiple of {kv_heads} key/value heads"
            )));
        }
        Ok(Self {
            blocks: config.needed(&["num_hidden_layers", "n_layer"], 1..=limits::BLOCKS)?,
            width,
            heads,
            kv_heads,
            head,
            feed_forward: config.needed(&["intermediate_size", "n_inner"], 1..=limits::WIDTH)?,
            vocabulary: config.vocabulary()?,
            context: config.context()?,
        })
    }

    /// Rows of all queries together.
    pub const fn query(&self) -> u64 {
        self.heads * self.head
    }

    /// Rows of all keys together, and of all values.
    pub const fn key(&self) -> u64 {
        self.kv_heads * self.head
    }

    /// The metadata that all architectures have.
    fn metadata(&self, architecture: &str) -> Metadata {
        let mut metadata = Metadata::default();
        metadata.text("general.architecture", architecture);
        metadata.text("general.type", "model");
        metadata.whole("general.quantization_version", 2);
        let key = |suffix: &str| format!("{architecture}.{suffix}");
        metadata.whole(key("block_count"), self.blocks);
        metadata.whole(key("context_length"), self.context);
        metadata.whole(key("embedding_length"), self.width);
        metadata.whole(key("feed_forward_length"), self.feed_forward);
        metadata.whole(key("attention.head_count"), self.heads);
        metadata
    }
}

/// How wide heads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The width of the model, split among them.
    Split,
    /// As `head_dim` says; without it as `Split`.
    Said,
    /// As `head_dim` says; without it so wide.
    Or(u64),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_architecture_is_refused_by_name_and_the_known_ones_are_not() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let weights = Weights::default();
        let refusal = |class: &str| {
            let config = Config::of(json!({"architectures": [class]}));
            build(&Source { folder: &folder, config: &config, weights: &weights }).unwrap_err()
        };
        let unknown = refusal("MambaForCausalLM");
        assert!(
            matches!(unknown, Fault::Unsupported { .. }) && unknown.to_string().contains("MambaForCausalLM")
        );
        for class in CLASSES {
            assert!(matches!(refusal(class), Fault::Config(_)), "{class}");
        }
    }

    #[test]
    fn sides_that_contradict_each_other_are_refused() {
        let of = |heads: u64, kv_heads: u64| {
            Sides::read(
                &Config::of(
                    json!({"hidden_size": 64, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
                    "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 9, "max_position_embeddings": 10}),
                ),
                Head::Said,
            )
        };
        assert_eq!(of(4, 2).unwrap().key(), 32);
        assert!(of(5, 5).is_err() && of(4, 3).is_err() && of(0, 1).is_err());
    }
}
