//! Decoders of Llama's build: Llama, Mistral, Qwen2, Qwen3, `SmolLM3`, Gemma 3. One step computes parts of several sequences:
//! matrices see all rows together, attention each sequence alone.
//!
//! *Source:* the models of transformers of these names; tests compare with those of candle-transformers.

use candle_core::{DType, Device, Result, Tensor};

use crate::config::{DecoderConfig, LayerConfig};
use crate::error::Error;
use crate::kv::Workspace;
use crate::layers::{Linear, RmsNorm};
use crate::weights::WeightReader;

/// A part of a sequence that a step computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    /// Which sequence.
    pub(crate) sequence: usize,
    /// How many of its tokens come before.
    pub(crate) start: usize,
    /// At least one.
    pub(crate) tokens: &'a [u32],
    /// Whether the logits of its last token are wanted.
    pub(crate) wants_logits: bool,
}

/// The weights of a decoder.
#[derive(Debug)]
pub(crate) struct Decoder {
    config: DecoderConfig,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// `None` = the embedding's.
    head: Option<Tensor>,
    dtype: DType,
    device: Device,
}

#[derive(Debug)]
struct Layer {
    config: LayerConfig,
    before_attention: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    head_norms: Option<(RmsNorm, RmsNorm)>,
    behind_attention: Option<RmsNorm>,
    before_feed_forward: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    behind_feed_forward: Option<RmsNorm>,
}

impl Decoder {
    /// Reads the weights.
    pub(crate) fn read(
        config: DecoderConfig,
        reader: &WeightReader<'_>,
        dtype: DType,
        device: &Device,
    ) -> std::result::Result<Self, Error> {
        let sides = &config.sides;
        let prefix = reader.prefix(&["model.", ""], "embed_tokens.weight");
        let embedding =
            reader.table(&format!("{prefix}embed_tokens.weight"), sides.vocabulary, sides.width)?;
        let layers = config.layers.iter().enumerate();
        let layers = layers
            .map(|(number, layer)| Layer::read(reader, &config, *layer, &format!("{prefix}layers.{number}")))
            .collect::<std::result::Result<_, _>>()?;
        let norm =
            RmsNorm::read(reader, &format!("{prefix}norm"), sides.width, config.epsilon, config.norm_shift)?;
        let head = if config.is_tied.unwrap_or(!reader.has("lm_head.weight")) {
            None
        } else {
            Some(reader.table("lm_head.weight", sides.vocabulary, sides.width)?)
        };
        Ok(Self { embedding, layers, norm, head, dtype, device: device.clone(), config })
    }

    /// A context for it.
    pub(crate) fn workspace(&self, slots: usize, context_tokens: usize) -> Result<Workspace> {
        Workspace::new(&self.config, slots, context_tokens, self.dtype, &self.device)
    }

    /// Computes these parts, writes their state, and returns the logits that are wanted, a row for each, in their order.
    pub(crate) fn step(&self, parts: &[Part<'_>], workspace: &Workspace) -> Result<Option<Tensor>> {
        let tokens: Vec<u32> = parts.iter().flat_map(|part| part.tokens.iter().copied()).collect();
        let positions: Vec<u32> = parts
            .iter()
            .flat_map(|part| (part.start..part.start + part.tokens.len()).map(|position| position as u32))
            .collect();
        let rows = tokens.len();
        let mut x = self.embedding.index_select(&Tensor::from_vec(tokens, rows, &self.device)?, 0)?;
        if let Some(scale) = self.config.embedding_scale {
            x = (x * scale)?;
        }
        let positions = Tensor::from_vec(positions, rows, &self.device)?;
        let select = |(cosines, sines): &(Tensor, Tensor)| {
            Ok::<_, candle_core::Error>((
                cosines.index_select(&positions, 0)?,
                sines.index_select(&positions, 0)?,
            ))
        };
        let rotations: Vec<(Tensor, Tensor)> =
            workspace.rotations.iter().map(select).collect::<Result<_>>()?;
        for (number, layer) in self.layers.iter().enumerate() {
            x = self.layer(number, layer, &x, parts, workspace, &rotations)?;
        }
        let mut end = 0;
        let mut wanted = Vec::new();
        for part in parts {
            end += part.tokens.len();
            if part.wants_logits {
                wanted.push(end as u32 - 1);
            }
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        let count = wanted.len();
        let last = x.index_select(&Tensor::from_vec(wanted, count, &self.device)?, 0)?;
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        let logits = self.norm.forward(&last)?.matmul(&head.t()?)?;
        let logits = capped(logits, self.config.logit_cap)?;
        logits.to_dtype(DType::F32)?.contiguous().map(Some)
    }

    fn layer(
        &self,
        number: usize,
        layer: &Layer,
        x: &Tensor,
        parts: &[Part<'_>],
        workspace: &Workspace,
        rotations: &[(Tensor, Tensor)],
    ) -> Result<Tensor> {
        let h = layer.before_attention.forward(x)?;
        let mut attended = self.attend(number, layer, &h, parts, workspace, rotations)?;
        if let Some(norm) = &layer.behind_attention {
            attended = norm.forward(&attended)?;
        }
        let x = (x + attended)?;
        let h = layer.before_feed_forward.forward(&x)?;
        let gate = self.config.activation.apply(&layer.gate.forward(&h)?)?;
        let mut fed = layer.down.forward(&(gate * layer.up.forward(&h)?)?)?;
        if let Some(norm) = &layer.behind_feed_forward {
            fed = norm.forward(&fed)?;
        }
        x + fed
    }

    fn attend(
        &self,
        number: usize,
        layer: &Layer,
        h: &Tensor,
        parts: &[Part<'_>],
        workspace: &Workspace,
        rotations: &[(Tensor, Tensor)],
    ) -> Result<Tensor> {
        let sides = &self.config.sides;
        let (heads, kv_heads, width) = (sides.heads as usize, sides.kv_heads as usize, sides.head as usize);
        let rows = h.dim(0)?;
        let mut query = layer.query.forward(h)?.reshape((rows, heads, width))?;
        let mut key = layer.key.forward(h)?.reshape((rows, kv_heads, width))?;
        let value = layer.value.forward(h)?.reshape((rows, kv_heads, width))?;
        if let Some((of_query, of_key)) = &layer.head_norms {
            (query, key) = (of_query.forward(&query)?, of_key.forward(&key)?);
        }
        if let Some((cosines, sines)) = layer.config.rotation.map(|rotation| &rotations[rotation]) {
            let turn = |x: &Tensor| {
                candle_nn::rotary_emb::rope_thd(&x.unsqueeze(0)?.contiguous()?, cosines, sines)?.squeeze(0)
            };
            (query, key) = (turn(&query)?, turn(&key)?);
        }
        let mut first = 0;
        let mut outputs = Vec::with_capacity(parts.len());
        for part in parts {
            let count = part.tokens.len();
            // Heads first.
            let of_part = |x: &Tensor| x.narrow(0, first, count)?.transpose(0, 1)?.contiguous();
            let (keys, values) = workspace.sequences[part.sequence].layer(number);
            keys.slice_set(&of_part(&key)?, 1, part.start)?;
            values.slice_set(&of_part(&value)?, 1, part.start)?;
            let from = layer.config.window.map_or(0, |window| (part.start + 1).saturating_sub(window));
            let seen = part.start + count - from;
            let (keys, values) = (keys.narrow(1, from, seen)?, values.narrow(1, from, seen)?);
            let grouped = of_part(&query)?.reshape((kv_heads, heads / kv_heads * count, width))?;
            let scores = (grouped.matmul(&keys.transpose(1, 2)?)? * self.config.attention_scale)?;
            let mut scores = capped(scores, self.config.attention_cap)?;
            if count > 1 {
                let mask = self.mask(part, from, seen, layer.config.window)?;
                scores = scores.reshape((heads, count, seen))?.broadcast_add(&mask)?;
            }
            let weights = candle_nn::ops::softmax_last_dim(&scores)?;
            let weights = weights.reshape((kv_heads, heads / kv_heads * count, seen))?;
            let output = weights.matmul(&values)?.reshape((heads, count, width))?;
            outputs.push(output.transpose(0, 1)?.reshape((count, heads * width))?);
            first += count;
        }
        let outputs = if outputs.len() == 1 { outputs.remove(0) } else { Tensor::cat(&outputs, 0)? };
        layer.output.forward(&outputs)
    }

    /// What each token of a part does not see, of the tokens from `from` on: those behind it, and those before its window.
    fn mask(&self, part: &Part<'_>, from: usize, seen: usize, window: Option<usize>) -> Result<Tensor> {
        let count = part.tokens.len();
        let window = window.unwrap_or(usize::MAX);
        let hidden = |(position, other): (usize, usize)| {
            let is_seen = other <= position && position - other < window;
            if is_seen { 0.0 } else { f32::NEG_INFINITY }
        };
        let row = |row: usize| (from..from + seen).map(move |other| (part.start + row, other));
        let values: Vec<f32> = (0..count).flat_map(row).map(hidden).collect();
        Tensor::from_vec(values, (count, seen), &self.device)?.to_dtype(self.dtype)
    }
}

impl Layer {
    fn read(
        reader: &WeightReader<'_>,
        config: &DecoderConfig,
        layer: LayerConfig,
        name: &str,
    ) -> std::result::Result<Self, Error> {
        let sides = &config.sides;
        let norm = |part: &str, width: u64| {
            RmsNorm::read(reader, &format!("{name}.{part}"), width, config.epsilon, config.norm_shift)
        };
        let linear = |part: &str, rows, width| Linear::read(reader, &format!("{name}.{part}"), rows, width);
        let has_norms_behind = config.has_norms_behind;
        let behind = |part: &str| has_norms_behind.then(|| norm(part, sides.width)).transpose();
        let head_norms = if config.has_head_norms {
            Some((norm("self_attn.q_norm", sides.head)?, norm("self_attn.k_norm", sides.head)?))
        } else {
            None
        };
        Ok(Self {
            config: layer,
            before_attention: norm("input_layernorm", sides.width)?,
            query: linear("self_attn.q_proj", sides.query(), sides.width)?,
            key: linear("self_attn.k_proj", sides.key(), sides.width)?,
            value: linear("self_attn.v_proj", sides.key(), sides.width)?,
            output: linear("self_attn.o_proj", sides.width, sides.query())?,
            head_norms,
            behind_attention: behind("post_attention_layernorm")?,
            before_feed_forward: if has_norms_behind {
                norm("pre_feedforward_layernorm", sides.width)?
            } else {
                norm("post_attention_layernorm", sides.width)?
            },
            gate: linear("mlp.gate_proj", sides.feed_forward, sides.width)?,
            up: linear("mlp.up_proj", sides.feed_forward, sides.width)?,
            down: linear("mlp.down_proj", sides.width, sides.feed_forward)?,
            behind_feed_forward: behind("post_feedforward_layernorm")?,
        })
    }
}

/// Numbers bent to stay below a bound.
fn capped(x: Tensor, cap: Option<f64>) -> Result<Tensor> {
    match cap {
        Some(cap) => (x / cap)?.tanh()? * cap,
        None => Ok(x),
    }
}
