//! Gemma 3 for text, and `EmbeddingGemma` with the two layers behind its pooling. Norms are written plus one, as they are used.

use samovar_core::format::gguf::limits;
use serde_json::{Map, Value};

use super::rope::{Rope, Scaling};
use super::{Head, Model, Sides, Source, decoder, pooling};
use crate::config::Config;
use crate::error::Fault;
use crate::gguf::Metadata;
use crate::source::{Folder, Weights};
use crate::tensor::{Change, Mapper};
use crate::tokenizer;

/// Layers of which the last sees the whole text, and the others a window.
const PATTERN: u64 = 6;
/// The two layers behind the pooling of an embedding model: their folders, and their names in GGUF.
const DENSE: [(&str, &str); 2] = [("2_Dense", "dense_2"), ("3_Dense", "dense_3")];
const DENSE_BYTES: u64 = 64 << 10;

pub(super) fn build(source: &Source<'_>, is_embedding: bool) -> Result<Model, Fault> {
    let Source { folder, config, weights } = source;
    let name = if is_embedding { "gemma-embedding" } else { "gemma3" };
    let sides = Sides::read(config, Head::Or(256))?;
    for key in ["hidden_activation", "hidden_act"] {
        config.expect_word(key, &["gelu_pytorch_tanh"])?;
    }
    if config.number("attn_logit_softcapping")?.is_some() {
        return Err(Fault::Unsupported { what: "Gemma 3 with attn_logit_softcapping".to_owned() });
    }
    // llama.cpp lets every token of an embedding model see all others, and those of the other never.
    if let Some(said) = config.flag("use_bidirectional_attention")?.filter(|said| *said != is_embedding) {
        let class = config.class()?;
        return Err(Fault::Unsupported {
            what: format!("{class} with use_bidirectional_attention = {said}"),
        });
    }
    check_scale(config, &sides)?;
    let rope = Rope::read(config)?;
    rope.expect_whole()?;
    let mut metadata = metadata(config, name, &sides, &rope)?;
    let mut mapper = Mapper::new(weights);
    tensors(&mut mapper, &sides)?;
    decoder::head(&mut mapper, config, true, &sides)?;
    if is_embedding {
        if let Some(features) = dense(folder, &mut metadata, name, sides.width)? {
            mapper.weight("2_Dense/linear", "dense_2", &[features, sides.width], Change::Keep)?;
            mapper.weight("3_Dense/linear", "dense_3", &[sides.width, features], Change::Keep)?;
        }
        pooling::write(folder, &mut metadata, name)?;
    }
    let tensors = mapper.finish()?;
    let wish = tokenizer::Wish {
        architecture: name,
        vocabulary: sides.vocabulary,
        is_space_added: Some(false),
        is_framed: false,
    };
    tokenizer::decoder(folder, config, &wish, &mut metadata)?;
    Ok(Model { architecture: name, metadata, tensors })
}

/// Adds the tensors of the two layers behind the pooling, if the model has them.
pub(super) fn add_dense(folder: &Folder, weights: &mut Weights) -> Result<(), Fault> {
    let has = |place: &str| folder.has(&dense_file(place));
    if !DENSE.iter().any(|(place, _)| has(place)) {
        return Ok(());
    }
    for (place, _) in DENSE {
        weights.add(folder, &dense_file(place), &format!("{place}/"))?;
    }
    Ok(())
}

fn dense_file(place: &str) -> String {
    format!("{place}/model.safetensors")
}

/// That queries are scaled as llama.cpp does.
fn check_scale(config: &Config, sides: &Sides) -> Result<(), Fault> {
    let usual = if sides.blocks == 62 { sides.width / sides.heads } else { sides.head };
    match config.number("query_pre_attn_scalar")? {
        Some(said) if (said - usual as f64).abs() > 1e-6 => Err(Fault::Unsupported {
            what: format!("Gemma 3 with query_pre_attn_scalar = {said} and heads of {usual}"),
        }),
        _ => Ok(()),
    }
}

fn metadata(config: &Config, name: &str, sides: &Sides, rope: &Rope) -> Result<Metadata, Fault> {
    let mut metadata = sides.metadata(name);
    let key = |suffix: &str| format!("{name}.{suffix}");
    metadata.whole(key("attention.head_count_kv"), sides.kv_heads);
    let epsilon = config.number("rms_norm_eps")?.unwrap_or(1e-6);
    metadata.float(key("attention.layer_norm_rms_epsilon"), epsilon);
    metadata.whole(key("attention.key_length"), sides.head);
    metadata.whole(key("attention.value_length"), sides.head);
    if let Scaling::Long { .. } | Scaling::Llama3 { .. } = rope.scaling {
        return Err(Fault::Unsupported { what: format!("{} with this rope_scaling", config.class()?) });
    }
    rope.write(&mut metadata, name, 1_000_000.0, sides.context)?;
    if rope.window_base.is_none() {
        metadata.float(key("rope.freq_base_swa"), 10_000.0);
    }
    if let Some(cap) = config.number("final_logit_softcapping")?.filter(|cap| *cap != 0.0) {
        metadata.float(key("final_logit_softcapping"), cap);
    }
    let pattern = ["sliding_window_pattern", "_sliding_window_pattern"];
    let pattern =
        pattern.into_iter().map(|key| config.whole(key, 1..=limits::BLOCKS)).find_map(Result::transpose);
    let pattern = pattern.transpose()?.unwrap_or(PATTERN);
    check_layers(config, sides.blocks, pattern)?;
    if pattern != 1 {
        let window = config.needed(&["sliding_window"], 1..=limits::CONTEXT_TOKENS)?;
        metadata.whole(key("attention.sliding_window"), window);
        if pattern != PATTERN {
            metadata.whole(key("attention.sliding_window_pattern"), pattern);
        }
    }
    Ok(metadata)
}

/// That the layers which see the whole text are the last ones of each pattern.
fn check_layers(config: &Config, blocks: u64, pattern: u64) -> Result<(), Fault> {
    let Some(said) = config.value("layer_types").and_then(Value::as_array) else { return Ok(()) };
    let usual = (1..=blocks)
        .map(|layer| if layer.is_multiple_of(pattern) { "full_attention" } else { "sliding_attention" });
    if said.iter().map(|kind| kind.as_str().unwrap_or_default()).eq(usual) {
        return Ok(());
    }
    Err(Fault::Unsupported { what: format!("Gemma 3 whose layer_types do not repeat after {pattern}") })
}

fn tensors(mapper: &mut Mapper<'_>, sides: &Sides) -> Result<(), Fault> {
    let prefix = mapper.prefix(&["model.", ""], "embed_tokens.weight");
    let Sides { width, feed_forward, head, .. } = *sides;
    let embedding = format!("{prefix}embed_tokens");
    // Some have rows behind the vocabulary.
    mapper.weight(&embedding, "token_embd", &[sides.vocabulary, width], Change::CutRows)?;
    for block in 0..sides.blocks {
        for (from, to, shape) in [
            ("input_layernorm", "attn_norm", &[width][..]),
            ("self_attn.q_proj", "attn_q", &[sides.query(), width]),
            ("self_attn.q_norm", "attn_q_norm", &[head]),
            ("self_attn.k_proj", "attn_k", &[sides.key(), width]),
            ("self_attn.k_norm", "attn_k_norm", &[head]),
            ("self_attn.v_proj", "attn_v", &[sides.key(), width]),
            ("self_attn.o_proj", "attn_output", &[width, sides.query()]),
            ("post_attention_layernorm", "post_attention_norm", &[width]),
            ("pre_feedforward_layernorm", "ffn_norm", &[width]),
            ("mlp.gate_proj", "ffn_gate", &[feed_forward, width]),
            ("mlp.up_proj", "ffn_up", &[feed_forward, width]),
            ("mlp.down_proj", "ffn_down", &[width, feed_forward]),
            ("post_feedforward_layernorm", "post_ffw_norm", &[width]),
        ] {
            let change = if shape.len() == 1 { Change::AddOne } else { Change::Keep };
            let (from, to) = (format!("{prefix}layers.{block}.{from}"), format!("blk.{block}.{to}"));
            mapper.weight(&from, &to, shape, change)?;
        }
    }
    mapper.weight(&format!("{prefix}norm"), "output_norm", &[width], Change::AddOne)
}

/// How wide the model is between the two layers behind its pooling, if it has them: without them its vectors are others.
fn dense(folder: &Folder, metadata: &mut Metadata, name: &str, width: u64) -> Result<Option<u64>, Fault> {
    let mut sides = Vec::new();
    for (place, key) in DENSE {
        let config = format!("{place}/config.json");
        let Some(said) = folder.json::<Map<String, Value>>(&config, DENSE_BYTES)? else {
            if folder.has(&dense_file(place)) || !sides.is_empty() {
                return Err(Fault::Missing { file: config });
            }
            return Ok(None);
        };
        let activation = said.get("activation_function").and_then(Value::as_str).unwrap_or_default();
        if !activation.ends_with("Identity") || said.get("bias").and_then(Value::as_bool) != Some(false) {
            let what = format!("a layer behind the pooling with an activation or a bias ({config})");
            return Err(Fault::Unsupported { what });
        }
        for side in ["in_features", "out_features"] {
            let found = said.get(side).and_then(Value::as_u64);
            let found = found.filter(|found| (1..=limits::WIDTH).contains(found));
            sides.push(found.ok_or_else(|| Fault::unsound(&config, format!("it has no {side}")))?);
        }
        metadata.whole(format!("{name}.{key}_feat_in"), sides[sides.len() - 2]);
        metadata.whole(format!("{name}.{key}_feat_out"), sides[sides.len() - 1]);
    }
    if sides[0] != width || sides[1] != sides[2] || sides[3] != width {
        let what =
            format!("the sides {sides:?} of the two layers do not fit each other and the width {width}");
        return Err(Fault::unsound("3_Dense/config.json", what));
    }
    Ok(Some(sides[1]))
}
