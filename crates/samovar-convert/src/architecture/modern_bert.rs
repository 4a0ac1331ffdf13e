//! `ModernBERT`, and its classifiers of pairs of texts.

use samovar_core::Pooling;
use samovar_core::format::gguf::limits;

use super::rope::Rope;
use super::{Head, Model, Sides, Source, bert, pooling};
use crate::config::Config;
use crate::error::Fault;
use crate::gguf::Metadata;
use crate::tensor::{Change, Mapper};
use crate::tokenizer;

const NAME: &str = "modern-bert";

pub(super) fn build(source: &Source<'_>, is_classifier: bool) -> Result<Model, Fault> {
    let Source { folder, config, weights } = source;
    let sides = Sides::read(config, Head::Split)?;
    let mut metadata = metadata(config, &sides)?;
    let mut mapper = Mapper::new(weights);
    let prefix = mapper.prefix(&["model.", ""], "embeddings.tok_embeddings.weight");
    tensors(&mut mapper, prefix, &sides)?;
    if is_classifier {
        mapper.weight("head.dense", "cls", &[sides.width, sides.width], Change::Keep)?;
        mapper.weight("head.norm", "cls.norm", &[sides.width], Change::Keep)?;
        bert::classes(&mut mapper, &mut metadata, config, NAME, "classifier", sides.width)?;
        pooling::set(&mut metadata, NAME, Pooling::Rank);
        let number = match config.text("classifier_pooling").unwrap_or("cls") {
            "mean" => 1,
            "cls" => 2,
            other => {
                return Err(Fault::Unsupported {
                    what: format!("a classifier with classifier_pooling = {other:?}"),
                });
            }
        };
        metadata.whole(format!("{NAME}.classifier.pooling_type"), number);
    } else {
        pooling::write(folder, &mut metadata, NAME)?;
        // What only training needs.
        mapper.leave_out(|name| name.starts_with("head.") || name.starts_with("decoder."));
    }
    let tensors = mapper.finish()?;
    tokenizer::modern_bert(folder, config, sides.vocabulary, &mut metadata)?;
    Ok(Model { architecture: NAME, metadata, tensors })
}

fn metadata(config: &Config, sides: &Sides) -> Result<Metadata, Fault> {
    let mut metadata = bert::metadata(NAME, config, sides)?;
    let key = |suffix: &str| format!("{NAME}.{suffix}");
    if config.value("layer_norm_eps").is_none() && config.value("norm_eps").is_none() {
        metadata.float(key("attention.layer_norm_epsilon"), 1e-5);
    }
    config.expect_word("hidden_activation", &["gelu", "silu"])?;
    if let Some(activation) = config.text("hidden_activation") {
        metadata.text(key("hidden_activation"), activation);
    }
    let rope = Rope::read(config)?;
    rope.expect_whole()?;
    metadata.float(key("rope.freq_base"), rope.base.unwrap_or(160_000.0));
    metadata.float(key("rope.freq_base_swa"), rope.window_base.unwrap_or(10_000.0));
    metadata.text(key("rope.scaling.type"), "none");
    let window = config.whole("local_attention", 1..=limits::CONTEXT_TOKENS)?.unwrap_or(128);
    metadata.whole(key("attention.sliding_window"), window);
    let pattern = config.whole("global_attn_every_n_layers", 1..=limits::BLOCKS)?.unwrap_or(3);
    metadata.whole(key("attention.sliding_window_pattern"), pattern);
    metadata.whole(key("vocab_size"), sides.vocabulary);
    Ok(metadata)
}

fn tensors(mapper: &mut Mapper<'_>, prefix: &str, sides: &Sides) -> Result<(), Fault> {
    let Sides { width, feed_forward, vocabulary, .. } = *sides;
    let embedding = |name: &str| format!("{prefix}embeddings.{name}");
    mapper.weight(&embedding("tok_embeddings"), "token_embd", &[vocabulary, width], Change::Keep)?;
    mapper.weight(&embedding("norm"), "token_embd_norm", &[width], Change::Keep)?;
    for block in 0..sides.blocks {
        for (from, to, shape) in [
            ("attn_norm", "attn_norm", &[width][..]),
            ("attn.Wqkv", "attn_qkv", &[3 * width, width]),
            ("attn.Wo", "attn_output", &[width, width]),
            ("mlp_norm", "ffn_norm", &[width]),
            ("mlp.Wi", "ffn_up", &[2 * feed_forward, width]),
            ("mlp.Wo", "ffn_down", &[width, feed_forward]),
        ] {
            // The first block has no norm before its attention.
            if block == 0 && from == "attn_norm" {
                continue;
            }
            let (from, to) = (format!("{prefix}layers.{block}.{from}"), format!("blk.{block}.{to}"));
            mapper.weight(&from, &to, shape, Change::Keep)?;
        }
    }
    mapper.weight(&format!("{prefix}final_norm"), "output_norm", &[width], Change::Keep)
}
