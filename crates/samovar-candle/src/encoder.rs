//! Encoders of BERT's build, with their token types: one text at a time, so that no text's vector depends on another one.
//!
//! *Source:* the models of transformers of these names; tests compare with those of candle-transformers.

use candle_core::{D, DType, Device, Result, Tensor};
use samovar_core::Pooling;

use crate::config::{Classifier, EncoderConfig};
use crate::error::Error;
use crate::layers::{LayerNorm, Linear};
use crate::weights::WeightReader;

/// Classes that a classifier may tell apart.
const LABELS: u64 = 4096;

/// The weights of an encoder.
#[derive(Debug)]
pub(crate) struct Encoder {
    config: EncoderConfig,
    words: Tensor,
    positions: Tensor,
    types: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    /// What is made of the first token's vector, and the scores of that.
    classifier: Option<(Linear, Linear)>,
    device: Device,
}

#[derive(Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    behind_attention: LayerNorm,
    up: Linear,
    down: Linear,
    behind_feed_forward: LayerNorm,
}

impl Encoder {
    /// Reads the weights.
    pub(crate) fn read(
        config: EncoderConfig,
        reader: &WeightReader<'_>,
        device: &Device,
    ) -> std::result::Result<Self, Error> {
        let sides = &config.sides;
        let prefix = reader.prefix(&["bert.", "roberta.", ""], "embeddings.word_embeddings.weight");
        let table =
            |name: &str, rows| reader.table(&format!("{prefix}embeddings.{name}.weight"), rows, sides.width);
        let layers = (0..sides.blocks)
            .map(|layer| Layer::read(reader, &config, &format!("{prefix}encoder.layer.{layer}")))
            .collect::<std::result::Result<_, _>>()?;
        let classifier = match config.classifier {
            None => None,
            Some(kind) => {
                let (layer, scores) = match kind {
                    Classifier::Pooled => (format!("{prefix}pooler.dense"), "classifier"),
                    Classifier::Own => ("classifier.dense".to_owned(), "classifier.out_proj"),
                };
                let labels = reader.rows(&format!("{scores}.weight")).unwrap_or(1).clamp(1, LABELS);
                Some((
                    Linear::read(reader, &layer, sides.width, sides.width)?,
                    Linear::read(reader, scores, labels, sides.width)?,
                ))
            }
        };
        Ok(Self {
            words: table("word_embeddings", sides.vocabulary)?,
            positions: table("position_embeddings", sides.context + config.skipped_positions)?,
            types: table("token_type_embeddings", config.types)?,
            norm: LayerNorm::read(
                reader,
                &format!("{prefix}embeddings.LayerNorm"),
                sides.width,
                config.epsilon,
            )?,
            layers,
            classifier,
            device: device.clone(),
            config,
        })
    }

    pub(crate) fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Numbers that each text becomes.
    pub(crate) fn width(&self, pooling: Pooling) -> usize {
        match (&self.classifier, pooling) {
            (Some((_, scores)), Pooling::Rank) => scores.rows(),
            _ => self.config.sides.width as usize,
        }
    }

    /// The vector or the scores of a text: its tokens and their types, of which there are as many.
    pub(crate) fn compute(&self, tokens: &[u32], types: &[u32], pooling: Pooling) -> Result<Vec<f32>> {
        let x = self.forward(tokens, types)?;
        let row = match pooling {
            Pooling::Mean => x.mean(0)?,
            Pooling::Cls => x.get(0)?,
            Pooling::Last => x.get(tokens.len() - 1)?,
            Pooling::Rank => match &self.classifier {
                Some((layer, scores)) => {
                    scores.forward(&layer.forward(&x.narrow(0, 0, 1)?)?.tanh()?)?.squeeze(0)?
                }
                None => candle_core::bail!("this model has no classifier"),
            },
        };
        row.to_dtype(DType::F32)?.to_vec1()
    }

    fn forward(&self, tokens: &[u32], types: &[u32]) -> Result<Tensor> {
        let count = tokens.len();
        let ids = |ids: &[u32]| Tensor::from_slice(ids, ids.len(), &self.device);
        let words = self.words.index_select(&ids(tokens)?, 0)?;
        let kinds = self.types.index_select(&ids(types)?, 0)?;
        let positions = self.positions.narrow(0, self.config.skipped_positions as usize, count)?;
        let mut x = self.norm.forward(&((words + kinds)? + positions)?)?;
        for layer in &self.layers {
            let attended = self.attend(layer, &x)?;
            x = layer.behind_attention.forward(&(x + attended)?)?;
            let fed = layer.down.forward(&self.config.activation.apply(&layer.up.forward(&x)?)?)?;
            x = layer.behind_feed_forward.forward(&(x + fed)?)?;
        }
        Ok(x)
    }

    fn attend(&self, layer: &Layer, x: &Tensor) -> Result<Tensor> {
        let sides = &self.config.sides;
        let (heads, width) = (sides.heads as usize, sides.head as usize);
        let count = x.dim(0)?;
        // Heads first.
        let split = |x: Tensor| x.reshape((count, heads, width))?.transpose(0, 1)?.contiguous();
        let query = split(layer.query.forward(x)?)?;
        let key = split(layer.key.forward(x)?)?;
        let value = split(layer.value.forward(x)?)?;
        let scores = (query.matmul(&key.transpose(D::Minus1, D::Minus2)?)? / (width as f64).sqrt())?;
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        let attended = weights.matmul(&value)?.transpose(0, 1)?.reshape((count, heads * width))?;
        layer.output.forward(&attended)
    }
}

impl Layer {
    fn read(
        reader: &WeightReader<'_>,
        config: &EncoderConfig,
        name: &str,
    ) -> std::result::Result<Self, Error> {
        let (width, feed_forward) = (config.sides.width, config.sides.feed_forward);
        let linear = |part: &str, rows, width| Linear::read(reader, &format!("{name}.{part}"), rows, width);
        let norm = |part: &str| LayerNorm::read(reader, &format!("{name}.{part}"), width, config.epsilon);
        Ok(Self {
            query: linear("attention.self.query", width, width)?,
            key: linear("attention.self.key", width, width)?,
            value: linear("attention.self.value", width, width)?,
            output: linear("attention.output.dense", width, width)?,
            behind_attention: norm("attention.output.LayerNorm")?,
            up: linear("intermediate.dense", feed_forward, width)?,
            down: linear("output.dense", width, feed_forward)?,
            behind_feed_forward: norm("output.LayerNorm")?,
        })
    }
}
