//! Decoders of Llama's build: Llama, Mistral, Qwen2, Qwen3, `SmolLM3` and Granite.

use super::rope::{Rope, Scaling};
use super::{Head, Model, Sides, Source, pooling};
use crate::config::Config;
use crate::error::Fault;
use crate::gguf::Metadata;
use crate::tensor::{Change, Mapper};
use crate::tokenizer;

/// What sets an architecture apart from the others.
pub(super) struct Kin {
    name: &'static str,
    head: Head,
    /// Whether rows of queries and keys are interleaved.
    is_interleaved: bool,
    has_head_norms: bool,
    biases: Biases,
    /// Defaults of its class.
    rope_base: f64,
    is_tied: bool,
}

/// Which matrices may have biases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Biases {
    None,
    /// Those of queries, keys and values.
    Attention,
    All,
}

pub(super) const LLAMA: Kin = Kin {
    name: "llama",
    head: Head::Said,
    is_interleaved: true,
    has_head_norms: false,
    biases: Biases::All,
    rope_base: 10_000.0,
    is_tied: false,
};

pub(super) const QWEN2: Kin =
    Kin { name: "qwen2", is_interleaved: false, biases: Biases::Attention, ..LLAMA };

pub(super) const QWEN3: Kin =
    Kin { name: "qwen3", head: Head::Or(128), has_head_norms: true, biases: Biases::None, ..QWEN2 };

pub(super) const SMOLLM3: Kin =
    Kin { name: "smollm3", biases: Biases::None, rope_base: 2_000_000.0, is_tied: true, ..LLAMA };

pub(super) const GRANITE: Kin = Kin { name: "granite", head: Head::Split, ..LLAMA };

/// Makes a model of this kin.
pub(super) fn build(source: &Source<'_>, kin: &Kin) -> Result<Model, Fault> {
    let Source { folder, config, weights } = source;
    let sides = Sides::read(config, kin.head)?;
    config.expect_word("hidden_act", &["silu", "swish"])?;
    let rope = Rope::read(config)?;
    rope.expect_whole()?;
    if let Scaling::Long { .. } = rope.scaling {
        let what = format!("{} with rope_scaling of the type longrope", config.class()?);
        return Err(Fault::Unsupported { what });
    }
    let mut metadata = metadata(config, kin, &sides, &rope)?;
    let mut mapper = Mapper::new(weights);
    if let Some(factors) = rope.llama3_factors(sides.head, kin.rope_base) {
        // The others' readers know no such tensor.
        if ![LLAMA.name, GRANITE.name].contains(&kin.name) {
            let what = format!("{} with rope_scaling of the type llama3", config.class()?);
            return Err(Fault::Unsupported { what });
        }
        mapper.made("rope_freqs.weight", factors);
    }
    tensors(&mut mapper, kin, &sides)?;
    head(&mut mapper, config, kin.is_tied, &sides)?;
    let tensors = mapper.finish()?;
    if kin.name == QWEN2.name || kin.name == QWEN3.name {
        pooling::write(folder, &mut metadata, kin.name)?;
    }
    let wish = tokenizer::Wish {
        architecture: kin.name,
        vocabulary: sides.vocabulary,
        is_space_added: None,
        is_framed: false,
    };
    tokenizer::decoder(folder, config, &wish, &mut metadata)?;
    Ok(Model { architecture: kin.name, metadata, tensors })
}

fn metadata(config: &Config, kin: &Kin, sides: &Sides, rope: &Rope) -> Result<Metadata, Fault> {
    let mut metadata = sides.metadata(kin.name);
    let key = |suffix: &str| format!("{}.{suffix}", kin.name);
    metadata.whole(key("attention.head_count_kv"), sides.kv_heads);
    let epsilon = config.number("rms_norm_eps")?.unwrap_or(1e-6);
    metadata.float(key("attention.layer_norm_rms_epsilon"), epsilon);
    metadata.whole(key("attention.key_length"), sides.head);
    metadata.whole(key("attention.value_length"), sides.head);
    rope.write(&mut metadata, kin.name, kin.rope_base, sides.context)?;
    // Some embedding models are decoders that see both ways.
    if config.flag("is_causal")? == Some(false) {
        metadata.flag(key("attention.causal"), false);
    }
    if kin.is_interleaved {
        metadata.whole(key("vocab_size"), sides.vocabulary);
        metadata.whole(key("rope.dimension_count"), sides.head);
    }
    if kin.name == GRANITE.name {
        for (said, suffix, default) in [
            ("attention_multiplier", "attention.scale", None),
            ("embedding_multiplier", "embedding_scale", None),
            ("residual_multiplier", "residual_scale", None),
            // Its engine needs this one.
            ("logits_scaling", "logit_scale", Some(1.0)),
        ] {
            if let Some(number) = config.number(said)?.or(default).filter(|number| *number != 0.0) {
                metadata.float(key(suffix), number);
            }
        }
    }
    if kin.name == SMOLLM3.name {
        check_bare_layers(config, sides.blocks)?;
    }
    Ok(metadata)
}

/// That every fourth layer is without rotary positions, which is what llama.cpp computes whatever a file says.
fn check_bare_layers(config: &Config, blocks: u64) -> Result<(), Fault> {
    let refuse = |what: &str| Err(Fault::Unsupported { what: format!("SmolLM3 with {what}") });
    if config.whole("no_rope_layer_interval", 1..=u64::MAX)?.is_some_and(|interval| interval != 4) {
        return refuse("another no_rope_layer_interval than 4");
    }
    if let Some(list) = config.value("no_rope_layers") {
        // One stands for a layer with them.
        let said: Option<Vec<u64>> =
            list.as_array().and_then(|list| list.iter().map(serde_json::Value::as_u64).collect());
        let usual: Vec<u64> = (1..=blocks).map(|layer| u64::from(!layer.is_multiple_of(4))).collect();
        if said != Some(usual) {
            return refuse("no_rope_layers that are not every fourth");
        }
    }
    if config.flag("use_sliding_window")? == Some(true) {
        return refuse("use_sliding_window");
    }
    Ok(())
}

fn tensors(mapper: &mut Mapper<'_>, kin: &Kin, sides: &Sides) -> Result<(), Fault> {
    let prefix = mapper.prefix(&["model.", ""], "embed_tokens.weight");
    let Sides { width, feed_forward, heads, kv_heads, .. } = *sides;
    mapper.weight(
        &format!("{prefix}embed_tokens"),
        "token_embd",
        &[sides.vocabulary, width],
        Change::Keep,
    )?;
    let turned = |heads| if kin.is_interleaved { Change::Interleave(heads) } else { Change::Keep };
    for block in 0..sides.blocks {
        let there = |name: &str| format!("{prefix}layers.{block}.{name}");
        let here = |name: &str| format!("blk.{block}.{name}");
        mapper.weight(&there("input_layernorm"), &here("attn_norm"), &[width], Change::Keep)?;
        for (from, to, rows, change) in [
            ("self_attn.q_proj", "attn_q", sides.query(), turned(heads)),
            ("self_attn.k_proj", "attn_k", sides.key(), turned(kv_heads)),
            ("self_attn.v_proj", "attn_v", sides.key(), Change::Keep),
        ] {
            mapper.weight(&there(from), &here(to), &[rows, width], change)?;
            if kin.biases != Biases::None {
                mapper.bias(&there(from), &here(to), rows, change)?;
            }
        }
        mapper.weight(
            &there("self_attn.o_proj"),
            &here("attn_output"),
            &[width, sides.query()],
            Change::Keep,
        )?;
        if kin.has_head_norms {
            mapper.weight(&there("self_attn.q_norm"), &here("attn_q_norm"), &[sides.head], Change::Keep)?;
            mapper.weight(&there("self_attn.k_norm"), &here("attn_k_norm"), &[sides.head], Change::Keep)?;
        }
        mapper.weight(&there("post_attention_layernorm"), &here("ffn_norm"), &[width], Change::Keep)?;
        mapper.weight(&there("mlp.gate_proj"), &here("ffn_gate"), &[feed_forward, width], Change::Keep)?;
        mapper.weight(&there("mlp.up_proj"), &here("ffn_up"), &[feed_forward, width], Change::Keep)?;
        mapper.weight(&there("mlp.down_proj"), &here("ffn_down"), &[width, feed_forward], Change::Keep)?;
        if kin.biases == Biases::All {
            for (from, to, rows) in [
                ("self_attn.o_proj", "attn_output", width),
                ("mlp.gate_proj", "ffn_gate", feed_forward),
                ("mlp.up_proj", "ffn_up", feed_forward),
                ("mlp.down_proj", "ffn_down", width),
            ] {
                mapper.bias(&there(from), &here(to), rows, Change::Keep)?;
            }
        }
    }
    mapper.weight(&format!("{prefix}norm"), "output_norm", &[width], Change::Keep)
}

/// The matrix that makes logits: its own, or that of the token embedding, which is written once.
pub(super) fn head(
    mapper: &mut Mapper<'_>,
    config: &Config,
    is_tied: bool,
    sides: &Sides,
) -> Result<(), Fault> {
    let said = config.flag("tie_word_embeddings")?;
    match (said.unwrap_or(is_tied), mapper.has("lm_head.weight")) {
        // What is stored is what transformers does not look at.
        (true, _) => {
            mapper.leave_out(|name| name == "lm_head.weight");
            Ok(())
        }
        (false, true) => mapper.weight("lm_head", "output", &[sides.vocabulary, sides.width], Change::Keep),
        // A model of embeddings is published without a head and without the prefix of those that have one, whatever class it
        // names.
        (false, false)
            if said.is_none()
                || config.class()?.ends_with("Model")
                || !mapper.has("model.embed_tokens.weight") =>
        {
            Ok(())
        }
        (false, false) => Err(Fault::Disagree(
            "tie_word_embeddings is false, and there is no tensor \"lm_head.weight\"".to_owned(),
        )),
    }
}
