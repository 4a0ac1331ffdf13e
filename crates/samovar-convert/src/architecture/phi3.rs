//! Phi-3 and Phi-4: fused matrices, and two tables of rotations for short and long texts.

use super::rope::{Rope, Scaling};
use super::{Head, Model, Sides, Source, decoder};
use crate::config::Config;
use crate::error::Fault;
use crate::gguf::Metadata;
use crate::tensor::{Change, Mapper};
use crate::tokenizer;

const NAME: &str = "phi3";

pub(super) fn build(source: &Source<'_>) -> Result<Model, Fault> {
    let Source { folder, config, weights } = source;
    let sides = Sides::read(config, Head::Split)?;
    config.expect_word("hidden_act", &["silu"])?;
    let rope = Rope::read(config)?;
    let rotated = (rope.partial.unwrap_or(1.0) * sides.head as f64) as u64;
    if rotated == 0 || rotated > sides.head || !rotated.is_multiple_of(2) {
        return Err(Fault::Config(format!("of heads of the width {} it rotates {rotated}", sides.head)));
    }
    let mut metadata = metadata(config, &sides, &rope, rotated)?;
    let mut mapper = Mapper::new(weights);
    if let Scaling::Long { long, short } = &rope.scaling {
        if long.len() as u64 != rotated / 2 || short.len() != long.len() {
            let what = format!(
                "rope_scaling has {} long and {} short factors, and must have {} of each",
                long.len(),
                short.len(),
                rotated / 2
            );
            return Err(Fault::Config(what));
        }
        mapper.made("rope_factors_long.weight", long.clone());
        mapper.made("rope_factors_short.weight", short.clone());
    }
    tensors(&mut mapper, &sides)?;
    decoder::head(&mut mapper, config, false, &sides)?;
    let tensors = mapper.finish()?;
    let wish = tokenizer::Wish {
        architecture: NAME,
        vocabulary: sides.vocabulary,
        is_space_added: None,
        is_framed: false,
    };
    tokenizer::decoder(folder, config, &wish, &mut metadata)?;
    Ok(Model { architecture: NAME, metadata, tensors })
}

fn metadata(config: &Config, sides: &Sides, rope: &Rope, rotated: u64) -> Result<Metadata, Fault> {
    let mut metadata = sides.metadata(NAME);
    let key = |suffix: &str| format!("{NAME}.{suffix}");
    metadata.whole(key("attention.head_count_kv"), sides.kv_heads);
    let epsilon = config.number("rms_norm_eps")?.unwrap_or(1e-5);
    metadata.float(key("attention.layer_norm_rms_epsilon"), epsilon);
    metadata.whole(key("rope.dimension_count"), rotated);
    metadata.float(key("rope.freq_base"), rope.base.unwrap_or(10_000.0));
    let context = sides.context as f64;
    let original = rope.original_context.unwrap_or(context);
    if !(1.0..=f64::from(u32::MAX)).contains(&original) {
        return Err(Fault::Config(format!("original_max_position_embeddings is {original}")));
    }
    metadata.whole(key("rope.scaling.original_context_length"), original as u64);
    // None is written as 0: Phi-4 has none.
    metadata
        .whole(key("attention.sliding_window"), config.whole("sliding_window", 0..=1 << 28)?.unwrap_or(0));
    match rope.scaling {
        Scaling::None => (),
        Scaling::Long { .. } => {
            let stretch = context / original;
            let factor = if stretch > 1.0 && original > 1.0 {
                (1.0 + stretch.ln() / original.ln()).sqrt()
            } else {
                1.0
            };
            metadata.float(key("rope.scaling.attn_factor"), factor);
        }
        _ => return Err(Fault::Unsupported { what: format!("{} with this rope_scaling", config.class()?) }),
    }
    Ok(metadata)
}

fn tensors(mapper: &mut Mapper<'_>, sides: &Sides) -> Result<(), Fault> {
    let prefix = mapper.prefix(&["model.", ""], "embed_tokens.weight");
    let Sides { width, feed_forward, .. } = *sides;
    mapper.weight(
        &format!("{prefix}embed_tokens"),
        "token_embd",
        &[sides.vocabulary, width],
        Change::Keep,
    )?;
    for block in 0..sides.blocks {
        for (from, to, shape) in [
            ("input_layernorm", "attn_norm", &[width][..]),
            ("self_attn.qkv_proj", "attn_qkv", &[sides.query() + 2 * sides.key(), width]),
            ("self_attn.o_proj", "attn_output", &[width, sides.query()]),
            ("post_attention_layernorm", "ffn_norm", &[width]),
            ("mlp.gate_up_proj", "ffn_up", &[2 * feed_forward, width]),
            ("mlp.down_proj", "ffn_down", &[width, feed_forward]),
        ] {
            let (from, to) = (format!("{prefix}layers.{block}.{from}"), format!("blk.{block}.{to}"));
            mapper.weight(&from, &to, shape, Change::Keep)?;
        }
    }
    mapper.weight(&format!("{prefix}norm"), "output_norm", &[width], Change::Keep)
}
