//! Nomic's BERT with rotary positions and gates, without a mixture of experts.

use serde_json::Value;

use super::{Head, Model, Sides, Source, bert, pooling};
use crate::config::{Config, shown};
use crate::error::Fault;
use crate::tensor::{Change, Mapper};
use crate::tokenizer;

const NAME: &str = "nomic-bert";

pub(super) fn build(source: &Source<'_>) -> Result<Model, Fault> {
    let Source { folder, config, weights } = source;
    check(config)?;
    let mut sides = Sides::read(config, Head::Split)?;
    // It was trained for fewer tokens than it has positions for.
    sides.context = sides.context.min(config.whole("max_trained_positions", 1..=1 << 28)?.unwrap_or(2048));
    let types = config.whole("type_vocab_size", 1..=1024)?.unwrap_or(1);
    let mut metadata = bert::metadata(NAME, config, &sides)?;
    metadata.float(format!("{NAME}.rope.freq_base"), config.number("rotary_emb_base")?.unwrap_or(10_000.0));
    let mut mapper = Mapper::new(weights);
    let prefix = mapper.prefix(&["", "bert."], "embeddings.word_embeddings.weight");
    let Sides { width, feed_forward, vocabulary, .. } = sides;
    let embedding = |name: &str| format!("{prefix}embeddings.{name}");
    mapper.weight(&embedding("word_embeddings"), "token_embd", &[vocabulary, width], Change::Keep)?;
    mapper.weight(&embedding("token_type_embeddings"), "token_types", &[types, width], Change::Keep)?;
    mapper.both(&format!("{prefix}emb_ln"), "token_embd_norm", &[width])?;
    for block in 0..sides.blocks {
        let there = |name: &str| format!("{prefix}encoder.layers.{block}.{name}");
        let here = |name: &str| format!("blk.{block}.{name}");
        mapper.weight(&there("attn.Wqkv"), &here("attn_qkv"), &[3 * width, width], Change::Keep)?;
        mapper.weight(&there("attn.out_proj"), &here("attn_output"), &[width, width], Change::Keep)?;
        mapper.both(&there("norm1"), &here("attn_output_norm"), &[width])?;
        mapper.weight(&there("mlp.fc11"), &here("ffn_up"), &[feed_forward, width], Change::Keep)?;
        mapper.weight(&there("mlp.fc12"), &here("ffn_gate"), &[feed_forward, width], Change::Keep)?;
        mapper.weight(&there("mlp.fc2"), &here("ffn_down"), &[width, feed_forward], Change::Keep)?;
        mapper.both(&there("norm2"), &here("layer_output_norm"), &[width])?;
    }
    let tensors = mapper.finish()?;
    pooling::write(folder, &mut metadata, NAME)?;
    metadata.whole("tokenizer.ggml.token_type_count", types);
    tokenizer::word_piece(folder, config, vocabulary, &mut metadata)?;
    Ok(Model { architecture: NAME, metadata, tensors })
}

/// What llama.cpp computes of all models of this architecture, whatever a file says.
fn check(config: &Config) -> Result<(), Fault> {
    if config.whole("moe_every_n_layers", 0..=u64::MAX)?.unwrap_or(0) > 0 {
        return Err(Fault::Unsupported { what: "NomicBertModel with a mixture of experts".to_owned() });
    }
    config.expect_word("activation_function", &["swiglu"])?;
    for (key, usual) in [
        ("causal", Value::from(false)),
        ("qkv_proj_bias", Value::from(false)),
        ("mlp_fc1_bias", Value::from(false)),
        ("mlp_fc2_bias", Value::from(false)),
        ("prenorm", Value::from(false)),
        ("rotary_emb_interleaved", Value::from(false)),
    ] {
        if let Some(other) = config.value(key).filter(|value| **value != usual) {
            return Err(Fault::Unsupported { what: format!("NomicBertModel with {key} = {}", shown(other)) });
        }
    }
    let is_whole = config.number("rotary_emb_fraction")?.is_none_or(|part| (part - 1.0).abs() < 1e-9);
    if !is_whole || config.value("rotary_emb_scale_base").is_some() {
        return Err(Fault::Unsupported { what: "NomicBertModel with other rotary positions".to_owned() });
    }
    Ok(())
}
