//! The numbers of an architecture, each in its range and in keeping with the others.
//!
//! llama.cpp asserts some of these, which kills the process; so they are checked here first.

use std::io::{Read, Seek};

use super::error::Fault;
use super::limits;
use super::metadata::Metadata;
use super::value::{ValueType, shown};
use crate::embedding::Pooling;
use crate::model::descriptor::is_encoder;

/// Values of `rope.scaling.type` that llama.cpp knows; it asserts on others.
const ROPE_SCALINGS: [&str; 4] = ["none", "linear", "yarn", "longrope"];

/// Encoders whose heads need not be as wide as the model together.
///
/// *Source:* the shapes that llama.cpp asks of `attn_q` and `attn_output`.
const FREE_HEADS: [&str; 3] = ["gemma-embedding", "llama-embed", "t5encoder"];

/// The numbers of an architecture.
#[derive(Debug)]
pub(super) struct Architecture {
    pub(super) name: String,
    pub(super) context_tokens: u64,
    pub(super) embedding_width: u64,
    pub(super) blocks: u64,
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) key_width: u64,
    pub(super) value_width: u64,
    pub(super) feed_forward_width: u64,
    /// Recurrent state of a sequence.
    pub(super) state_bytes: u64,
    /// How one vector is made of all tokens'.
    pub(super) pooling: Option<Pooling>,
    /// Whether a token sees those before it only.
    pub(super) is_causal: bool,
    /// Scores that llama.cpp reads of a classifier, whatever that makes.
    pub(super) classes: u64,
    /// `vocab_size`, for models without a vocabulary of their own.
    pub(super) vocabulary: Option<u64>,
}

/// Reads and checks the numbers of the architecture that the file names.
pub(super) fn read<R: Read + Seek>(metadata: &mut Metadata<R>) -> Result<Architecture, Fault> {
    const NAME: &str = "general.architecture";
    let name = metadata
        .text(NAME, limits::IDENTIFIER_BYTES)?
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Fault::MissingKey { key: NAME.to_owned() })?;
    refuse_other_kinds(metadata, &name)?;
    let key = |suffix: &str| format!("{name}.{suffix}");
    let blocks = metadata.required(&key("block_count"), 1..=limits::BLOCKS)?;
    let embedding_width = metadata.required(&key("embedding_length"), 1..=limits::WIDTH)?;
    let context_tokens = metadata.required(&key("context_length"), 1..=limits::CONTEXT_TOKENS)?;
    let heads = metadata.largest(&key("attention.head_count"), 0..=limits::HEADS)?.unwrap_or(0);
    let kv_heads = metadata.largest(&key("attention.head_count_kv"), 0..=limits::HEADS)?.unwrap_or(heads);
    let head_width = embedding_width.checked_div(heads).unwrap_or(0);
    let key_width =
        metadata.largest(&key("attention.key_length"), 0..=limits::HEAD_WIDTH)?.unwrap_or(head_width);
    let value_width =
        metadata.largest(&key("attention.value_length"), 0..=limits::HEAD_WIDTH)?.unwrap_or(head_width);
    let feed_forward_width = metadata.largest(&key("feed_forward_length"), 0..=limits::WIDTH)?.unwrap_or(0);
    let state_bytes = blocks * block_state_bytes(metadata, &name, embedding_width, heads)?;
    check_heads(&key("attention.head_count"), heads, kv_heads, key_width)?;
    check_rotation(metadata, &key("rope.dimension_count"), heads, key_width)?;
    check_experts(metadata, &name)?;
    check_parts(metadata, &name, blocks)?;
    check_positions(metadata, &name)?;
    if is_encoder(&name) {
        check_encoder(metadata, &name, embedding_width, (key_width, value_width))?;
    }
    let pooling = pooling(metadata, &key("pooling_type"))?;
    let is_causal = metadata.boolean(&key("attention.causal"))?.unwrap_or(true) && !is_encoder(&name);
    let labels =
        metadata.array(&key("classifier.output_labels"), &[ValueType::String], "an array of strings")?;
    let classes = labels.map_or(1, |labels| labels.count.max(1));
    let vocabulary = metadata.unsigned(&key("vocab_size"), 0..=limits::VOCABULARY)?;
    Ok(Architecture {
        name,
        context_tokens,
        embedding_width,
        blocks,
        heads,
        kv_heads,
        key_width,
        value_width,
        feed_forward_width,
        state_bytes,
        pooling,
        is_causal,
        classes,
        vocabulary,
    })
}

/// What llama.cpp asserts of encoders: heads of one width, which together are as wide as the model in most, layers behind the
/// pooling that fit each other, and vectors as wide as it says that they are.
fn check_encoder<R: Read + Seek>(
    metadata: &mut Metadata<R>,
    name: &str,
    width: u64,
    (key_width, value_width): (u64, u64),
) -> Result<(), Fault> {
    if key_width != value_width {
        let key = format!("{name}.attention.value_length");
        return Err(out_of_range(&key, value_width, format!("{key_width}, as that of keys")));
    }
    // One for all blocks.
    metadata.unsigned(&format!("{name}.feed_forward_length"), 0..=limits::WIDTH)?;
    let key = format!("{name}.attention.head_count");
    // Of several numbers llama.cpp takes the first for all blocks.
    let heads = metadata.unsigned(&key, 0..=limits::HEADS)?.unwrap_or(0);
    if !FREE_HEADS.contains(&name) && heads * key_width != width {
        let range =
            format!("as many as make the width of {width} together with the key width of {key_width}");
        return Err(out_of_range(&key, heads, range));
    }
    for suffix in ["embedding_length_out", "dense_2_feat_in", "dense_3_feat_out"] {
        let key = format!("{name}.{suffix}");
        if let Some(found) = metadata.unsigned(&key, 0..=limits::WIDTH)?
            && found != 0
            && found != width
        {
            return Err(out_of_range(&key, found, format!("{width}, the width of the model")));
        }
    }
    let mut number = |suffix: &str| -> Result<(String, u64), Fault> {
        let key = format!("{name}.{suffix}");
        let found = metadata.unsigned(&key, 0..=limits::WIDTH)?.unwrap_or(0);
        Ok((key, found))
    };
    let ((_, before), (key, behind)) = (number("dense_2_feat_out")?, number("dense_3_feat_in")?);
    if before != behind {
        return Err(out_of_range(&key, behind, format!("{before}, as the layer before it makes")));
    }
    let (key, found) = number("decision.block_count")?;
    if found != 0 {
        return Err(out_of_range(&key, found, "0: models that decide make no vectors".to_owned()));
    }
    Ok(())
}

/// llama.cpp aborts on a number that it does not know.
fn pooling<R: Read + Seek>(metadata: &mut Metadata<R>, key: &str) -> Result<Option<Pooling>, Fault> {
    match metadata.unsigned_u32(key)? {
        None | Some(0) => Ok(None),
        Some(1) => Ok(Some(Pooling::Mean)),
        Some(2) => Ok(Some(Pooling::Cls)),
        Some(3) => Ok(Some(Pooling::Last)),
        Some(4) => Ok(Some(Pooling::Rank)),
        Some(other) => Err(out_of_range(key, u64::from(other), "from 0 to 4".to_owned())),
    }
}

/// GGUF also carries things that are no language models.
fn refuse_other_kinds<R: Read + Seek>(metadata: &mut Metadata<R>, architecture: &str) -> Result<(), Fault> {
    let kind = metadata.text("general.type", limits::IDENTIFIER_BYTES)?;
    match (kind.as_deref(), architecture) {
        (Some("adapter"), _) => Err(Fault::NotAModel("a LoRA adapter")),
        (Some("mmproj"), _) | (_, "clip") => Err(Fault::NotAModel("a projector for images or sound")),
        (Some("imatrix"), _) => Err(Fault::NotAModel("an importance matrix")),
        _ => Ok(()),
    }
}

/// Bytes of recurrent state that one block keeps of a sequence, if it is a recurrent one. Of hybrid models, no header says
/// here which blocks are.
///
/// *Source:* `llama_hparams::n_embd_r` and `n_embd_s`; llama.cpp keeps 32-bit floats.
fn block_state_bytes<R: Read + Seek>(
    metadata: &mut Metadata<R>,
    name: &str,
    width: u64,
    heads: u64,
) -> Result<u64, Fault> {
    let mut number = |suffix: &str, most: u64| -> Result<u64, Fault> {
        Ok(metadata.unsigned(&format!("{name}.{suffix}"), 0..=most)?.unwrap_or(0))
    };
    let inner = number("ssm.inner_size", limits::WIDTH)?;
    let state = number("ssm.state_size", limits::HEAD_WIDTH)?;
    let groups = number("ssm.group_count", limits::HEADS)?;
    let before = number("ssm.conv_kernel", limits::HEAD_WIDTH)?.saturating_sub(1);
    let selective = inner * state + before * (inner + 2 * groups * state);
    let head = number("kda.head_dim", limits::HEAD_WIDTH)?;
    let delta = heads * head * (head + 3 * before);
    let head = number("wkv.head_size", limits::HEAD_WIDTH)?;
    // Two tokens are looked back at, at most.
    let weighted = if head == 0 { 0 } else { width * (head + 2) };
    let convolution = width * number("shortconv.l_cache", limits::HEAD_WIDTH)?.saturating_sub(1);
    Ok(selective.max(delta).max(weighted).max(convolution) * size_of::<f32>() as u64)
}

fn check_heads(key: &str, heads: u64, kv_heads: u64, key_width: u64) -> Result<(), Fault> {
    if kv_heads > heads || heads > 0 && kv_heads > 0 && !heads.is_multiple_of(kv_heads) {
        return Err(Fault::OutOfRange {
            key: shown(key),
            value: heads.to_string(),
            range: format!("a multiple of the {kv_heads} key/value heads"),
        });
    }
    if heads > 0 && key_width == 0 {
        return Err(Fault::OutOfRange {
            key: shown(key),
            value: heads.to_string(),
            range: "at most the width of the model".to_owned(),
        });
    }
    Ok(())
}

/// Rotary positions turn pairs of a head's values.
fn check_rotation<R: Read + Seek>(
    metadata: &mut Metadata<R>,
    key: &str,
    heads: u64,
    key_width: u64,
) -> Result<(), Fault> {
    let limit = if heads > 0 { key_width } else { limits::HEAD_WIDTH };
    match metadata.largest(key, 0..=limit)? {
        Some(rotated) if !rotated.is_multiple_of(2) => Err(out_of_range(key, rotated, "even".to_owned())),
        _ => Ok(()),
    }
}

fn check_experts<R: Read + Seek>(metadata: &mut Metadata<R>, name: &str) -> Result<(), Fault> {
    let key = |suffix: &str| format!("{name}.{suffix}");
    let experts = metadata.unsigned(&key("expert_count"), 0..=limits::EXPERTS)?.unwrap_or(0);
    // At least one, if there are any to choose from.
    let used = metadata.largest(&key("expert_used_count"), 0..=experts)?.unwrap_or(0);
    if experts > 0 && used == 0 {
        return Err(out_of_range(&key("expert_used_count"), 0, format!("from 1 to {experts}")));
    }
    let groups = metadata.unsigned(&key("expert_group_count"), 0..=experts.saturating_sub(1))?.unwrap_or(0);
    let groups_used = metadata.unsigned(&key("expert_group_used_count"), 0..=limits::EXPERTS)?.unwrap_or(0);
    if groups > 1 {
        if !experts.is_multiple_of(groups) {
            return Err(out_of_range(&key("expert_group_count"), groups, format!("a divisor of {experts}")));
        }
        if groups_used == 0 || groups_used >= groups {
            let range = format!("from 1 to {}", groups - 1);
            return Err(out_of_range(&key("expert_group_used_count"), groups_used, range));
        }
    }
    Ok(())
}

/// Parts of the stack cannot have more blocks than the whole.
fn check_parts<R: Read + Seek>(metadata: &mut Metadata<R>, name: &str, blocks: u64) -> Result<(), Fault> {
    let parts = [
        "nextn_predict_layers",
        "leading_dense_block_count",
        "decoder_block_count",
        "posnet.block_count",
        "convnext.block_count",
    ];
    for part in parts {
        let limit = if part == "decoder_block_count" { limits::BLOCKS } else { blocks };
        metadata.unsigned(&format!("{name}.{part}"), 0..=limit)?;
    }
    Ok(())
}

fn check_positions<R: Read + Seek>(metadata: &mut Metadata<R>, name: &str) -> Result<(), Fault> {
    let key = |suffix: &str| format!("{name}.{suffix}");
    let scaling = key("rope.scaling.type");
    if let Some(scaling_type) = metadata.text(&scaling, limits::IDENTIFIER_BYTES)?
        && !ROPE_SCALINGS.contains(&scaling_type.as_str())
    {
        return Err(Fault::OutOfRange {
            key: scaling,
            value: format!("{scaling_type:?}"),
            range: format!("one of {}", ROPE_SCALINGS.join(", ")),
        });
    }
    for suffix in [
        "rope.freq_base",
        "rope.scaling.factor",
        "attention.layer_norm_epsilon",
        "attention.layer_norm_rms_epsilon",
    ] {
        let key = key(suffix);
        if let Some(value) = metadata.float(&key)?
            && !(value.is_finite() && value >= 0.0)
        {
            return Err(Fault::OutOfRange {
                key,
                value: value.to_string(),
                range: "a positive number".to_owned(),
            });
        }
    }
    Ok(())
}

fn out_of_range(key: &str, value: u64, range: String) -> Fault {
    Fault::OutOfRange { key: shown(key), value: value.to_string(), range }
}
