//! What a published configuration says of a model that candle runs: the numbers and the kinds of layers of each family. It reads
//! no weights.

use samovar_convert::{Head, PublishedModel, Rope, Scaling, Sides};
use samovar_core::Failure;
use serde_json::Value;

use crate::error::Error;

/// Numbers of a transformer, as its computation wants them.
const MOST: u64 = 1 << 31;

/// A model that is run.
#[derive(Debug)]
pub(crate) enum Family {
    /// It writes text.
    Decoder(DecoderConfig),
    /// It makes vectors or scores of texts.
    Encoder(EncoderConfig),
}

/// A decoder of Llama's build.
#[derive(Debug)]
pub(crate) struct DecoderConfig {
    /// As GGUF files call it.
    pub(crate) name: &'static str,
    pub(crate) sides: Sides,
    pub(crate) epsilon: f64,
    /// Added to the weights of norms.
    pub(crate) norm_shift: f64,
    /// Norms behind the attention and behind the feed-forward layer.
    pub(crate) has_norms_behind: bool,
    /// Norms of each query and key.
    pub(crate) has_head_norms: bool,
    /// Of embeddings, before the first layer.
    pub(crate) embedding_scale: Option<f64>,
    /// Of products of queries and keys.
    pub(crate) attention_scale: f64,
    pub(crate) attention_cap: Option<f64>,
    pub(crate) logit_cap: Option<f64>,
    pub(crate) activation: Activation,
    /// Whether the output is the embedding's matrix; `None` = where the weights have no other.
    pub(crate) is_tied: Option<bool>,
    pub(crate) layers: Vec<LayerConfig>,
    /// Frequencies of the rotations that layers use.
    pub(crate) rotations: Vec<Vec<f32>>,
}

/// What one layer does otherwise than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerConfig {
    /// Tokens that it sees, itself included; `None` = all before it.
    pub(crate) window: Option<usize>,
    /// Which rotations it uses; `None` = it knows no positions.
    pub(crate) rotation: Option<usize>,
}

/// What a feed-forward layer does with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Silu,
    /// By its error function.
    Gelu,
    /// By a hyperbolic tangent, which is nearly the same.
    GeluTanh,
    Relu,
}

/// An encoder of BERT's build.
#[derive(Debug)]
pub(crate) struct EncoderConfig {
    pub(crate) sides: Sides,
    pub(crate) epsilon: f64,
    pub(crate) activation: Activation,
    /// Rows of the position table before that of the first token.
    pub(crate) skipped_positions: u64,
    pub(crate) types: u64,
    /// Where its classifier is, if it has one.
    pub(crate) classifier: Option<Classifier>,
}

/// Where the weights of a classifier are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Classifier {
    /// BERT's: the pooler, and `classifier`.
    Pooled,
    /// RoBERTa's: `classifier.dense` and `classifier.out_proj`.
    Own,
}

impl Family {
    /// What the configuration of a published model says.
    pub(crate) fn of(model: &PublishedModel) -> Result<Self, Failure> {
        let class = model.class()?;
        let decoder = |name, head| decoder(model, name, head).map(Self::Decoder);
        let encoder = |is_roberta, classifier| encoder(model, is_roberta, classifier).map(Self::Encoder);
        match class {
            "LlamaForCausalLM" | "LlamaModel" | "MistralForCausalLM" => decoder("llama", Head::Said),
            "Qwen2ForCausalLM" | "Qwen2Model" => decoder("qwen2", Head::Said),
            "Qwen3ForCausalLM" | "Qwen3Model" => decoder("qwen3", Head::Or(128)),
            "SmolLM3ForCausalLM" => decoder("smollm3", Head::Said),
            "Gemma3ForCausalLM" => decoder("gemma3", Head::Or(256)),
            "BertModel" | "BertForMaskedLM" => encoder(false, None),
            "BertForSequenceClassification" => encoder(false, Some(Classifier::Pooled)),
            "XLMRobertaModel" | "XLMRobertaForMaskedLM" | "CamembertModel" | "CamembertForMaskedLM" => {
                encoder(true, None)
            }
            "XLMRobertaForSequenceClassification" | "CamembertForSequenceClassification" => {
                encoder(true, Some(Classifier::Own))
            }
            other => {
                let name: String =
                    other.chars().filter(|character| !character.is_control()).take(80).collect();
                Err(Error::UnknownModel { what: format!("the architecture {name}") }.into())
            }
        }
    }
}

fn decoder(model: &PublishedModel, name: &'static str, head: Head) -> Result<DecoderConfig, Failure> {
    let sides = model.sides(head)?;
    let rope = model.rope()?;
    if rope.partial.is_some_and(|part| part < 1.0) {
        return Err(Error::UnknownModel { what: format!("{name} models with partial rotations") }.into());
    }
    if !sides.head.is_multiple_of(2) {
        return Err(Error::Disagree { detail: format!("heads of the odd width {}", sides.head) }.into());
    }
    let is_gemma = name == "gemma3";
    let (keys, default): (&[&str], _) = if is_gemma {
        (&["hidden_activation", "hidden_act"], "gelu_pytorch_tanh")
    } else {
        (&["hidden_act"], "silu")
    };
    let base = match name {
        "gemma3" => 1_000_000.0,
        "smollm3" => 2_000_000.0,
        _ => 10_000.0,
    };
    let scalar = match is_gemma.then(|| model.number("query_pre_attn_scalar")).transpose()?.flatten() {
        Some(scalar) if scalar > 0.0 => scalar,
        _ => sides.head as f64,
    };
    let above_zero = |key: &str| Ok::<_, Failure>(model.number(key)?.filter(|number| *number > 0.0));
    let mut rotations = vec![frequencies(name, &rope, rope.base.unwrap_or(base), sides.head)?];
    if is_gemma {
        // Layers that see a window are not stretched.
        rotations.push(plain_frequencies(rope.window_base.unwrap_or(10_000.0), sides.head));
    }
    Ok(DecoderConfig {
        name,
        epsilon: model.number("rms_norm_eps")?.unwrap_or(1e-6),
        norm_shift: if is_gemma { 1.0 } else { 0.0 },
        has_norms_behind: is_gemma,
        has_head_norms: is_gemma || name == "qwen3",
        embedding_scale: is_gemma.then(|| (sides.width as f64).sqrt()),
        attention_scale: 1.0 / scalar.sqrt(),
        attention_cap: if is_gemma { above_zero("attn_logit_softcapping")? } else { None },
        logit_cap: if is_gemma { above_zero("final_logit_softcapping")? } else { None },
        activation: activation(model, keys, default)?,
        is_tied: model.flag("tie_word_embeddings")?.or((is_gemma || name == "smollm3").then_some(true)),
        layers: layers(model, name, &sides)?,
        rotations,
        sides,
    })
}

/// Which layers see a window only, and which know positions.
fn layers(model: &PublishedModel, name: &str, sides: &Sides) -> Result<Vec<LayerConfig>, Failure> {
    let window = model.whole("sliding_window", 1..=MOST)?.map(|window| window as usize);
    let said = model.value("layer_types").and_then(Value::as_array);
    let is_windowed: Vec<bool> = if let Some(said) = said {
        said.iter().map(|kind| kind.as_str() == Some("sliding_attention")).collect()
    } else {
        let pattern = match model.whole("sliding_window_pattern", 1..=MOST)? {
            Some(pattern) => pattern,
            None => model.whole("_sliding_window_pattern", 1..=MOST)?.unwrap_or(6),
        };
        let first = model.whole("max_window_layers", 0..=MOST)?.unwrap_or(0);
        let uses = model.flag("use_sliding_window")?;
        (0..sides.blocks)
            .map(|layer| match name {
                "gemma3" => !(layer + 1).is_multiple_of(pattern),
                // Mistral has no switch.
                "llama" => true,
                _ => uses == Some(true) && layer >= first,
            })
            .collect()
    };
    let rotates = rotating(model, name, sides.blocks)?;
    if is_windowed.len() as u64 != sides.blocks || rotates.len() as u64 != sides.blocks {
        let detail = format!("there are {} layers, and config.json names other counts of them", sides.blocks);
        return Err(Error::Disagree { detail }.into());
    }
    let layer = |(is_windowed, rotates): (bool, bool)| LayerConfig {
        window: window.filter(|_| is_windowed),
        rotation: rotates.then_some(usize::from(name == "gemma3" && is_windowed)),
    };
    Ok(is_windowed.into_iter().zip(rotates).map(layer).collect())
}

/// Which layers know positions.
fn rotating(model: &PublishedModel, name: &str, blocks: u64) -> Result<Vec<bool>, Failure> {
    if name != "smollm3" {
        return Ok(vec![true; blocks as usize]);
    }
    if let Some(said) = model.value("no_rope_layers").and_then(Value::as_array) {
        // One stands for a layer with them.
        return Ok(said.iter().map(|layer| layer.as_u64() != Some(0)).collect());
    }
    let interval = model.whole("no_rope_layer_interval", 1..=MOST)?.unwrap_or(4);
    Ok((1..=blocks).map(|layer| !layer.is_multiple_of(interval)).collect())
}

fn plain_frequencies(base: f64, head: u64) -> Vec<f32> {
    (0..head / 2).map(|pair| 1.0 / base.powf((2 * pair) as f64 / head as f64) as f32).collect()
}

fn frequencies(name: &str, rope: &Rope, base: f64, head: u64) -> Result<Vec<f32>, Failure> {
    let plain = plain_frequencies(base, head);
    match &rope.scaling {
        Scaling::None => Ok(plain),
        Scaling::Linear { factor } => {
            Ok(plain.into_iter().map(|frequency| frequency / *factor as f32).collect())
        }
        Scaling::Llama3 { .. } => {
            let factors = rope.llama3_factors(head, base).unwrap_or_default();
            Ok(plain.into_iter().zip(factors).map(|(frequency, factor)| frequency / factor).collect())
        }
        Scaling::Yarn { .. } | Scaling::Long { .. } => {
            let what = format!("{name} models with rope_scaling of the types yarn and longrope");
            Err(Error::UnknownModel { what }.into())
        }
    }
}

fn activation(model: &PublishedModel, keys: &[&str], default: &str) -> Result<Activation, Failure> {
    let said = keys.iter().find_map(|key| model.value(key)).map(|said| said.as_str().unwrap_or_default());
    match said.unwrap_or(default) {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => {
            let other: String = other.chars().filter(|character| !character.is_control()).take(40).collect();
            Err(Error::UnknownModel { what: format!("models with the activation {other:?}") }.into())
        }
    }
}

fn encoder(
    model: &PublishedModel,
    is_roberta: bool,
    classifier: Option<Classifier>,
) -> Result<EncoderConfig, Failure> {
    let mut sides = model.sides(Head::Split)?;
    let refuse = |what: &str| Err(Error::UnknownModel { what: format!("an encoder with {what}") }.into());
    if model.value("position_embedding_type").is_some_and(|kind| kind.as_str() != Some("absolute")) {
        return refuse("relative positions");
    }
    if model.flag("is_decoder")? == Some(true) {
        return refuse("is_decoder = true");
    }
    let skipped_positions =
        if is_roberta { model.whole("pad_token_id", 0..=1024)?.map_or(0, |pad| pad + 1) } else { 0 };
    if sides.context <= skipped_positions {
        let detail = format!("max_position_embeddings is {}", sides.context);
        return Err(Error::Disagree { detail }.into());
    }
    sides.context -= skipped_positions;
    Ok(EncoderConfig {
        sides,
        epsilon: model.number("layer_norm_eps")?.unwrap_or(1e-12),
        activation: activation(model, &["hidden_act"], "gelu")?,
        skipped_positions,
        types: model.whole("type_vocab_size", 1..=1024)?.unwrap_or(1),
        classifier,
    })
}
