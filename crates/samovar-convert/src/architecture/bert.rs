//! BERT and XLM-RoBERTa, and their classifiers of pairs of texts.

use samovar_core::Pooling;
use serde_json::{Map, Value};

use super::{Head, Model, Sides, Source, pooling};
use crate::config::Config;
use crate::error::Fault;
use crate::gguf::{self, Metadata};
use crate::tensor::{Change, Mapper};
use crate::tokenizer;

const NAME: &str = "bert";
/// Classes that a classifier may tell apart.
const LABELS: u64 = 4096;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// BERT.
    WordPiece,
    /// XLM-RoBERTa, whose positions begin behind that of padding.
    Unigram,
}

pub(super) fn build(source: &Source<'_>, kind: Kind, is_classifier: bool) -> Result<Model, Fault> {
    let Source { folder, config, weights } = source;
    let mut sides = Sides::read(config, Head::Split)?;
    check(config)?;
    let skipped = match kind {
        Kind::WordPiece => 0,
        Kind::Unigram => config.whole("pad_token_id", 0..=1024)?.map_or(0, |pad| pad + 1),
    };
    if sides.context <= skipped {
        return Err(Fault::Config(format!("max_position_embeddings is {}", sides.context)));
    }
    sides.context -= skipped;
    let types = config.whole("type_vocab_size", 1..=1024)?.unwrap_or(1);
    let mut metadata = metadata(NAME, config, &sides)?;
    let mut mapper = Mapper::new(weights);
    let prefix = mapper.prefix(&["bert.", "roberta.", ""], "embeddings.word_embeddings.weight");
    tensors(&mut mapper, prefix, &sides, skipped, types)?;
    if is_classifier {
        let (layer, scores) = match kind {
            Kind::WordPiece => (format!("{prefix}pooler.dense"), "classifier"),
            Kind::Unigram => ("classifier.dense".to_owned(), "classifier.out_proj"),
        };
        mapper.both(&layer, "cls", &[sides.width, sides.width])?;
        classes(&mut mapper, &mut metadata, config, NAME, scores, sides.width)?;
        pooling::set(&mut metadata, NAME, Pooling::Rank);
    } else {
        pooling::write(folder, &mut metadata, NAME)?;
    }
    // What only training needs.
    mapper.leave_out(|name| {
        let name = name.strip_prefix(prefix).unwrap_or(name);
        ["pooler.", "cls.predictions.", "cls.seq_relationship.", "lm_head."]
            .iter()
            .any(|dropped| name.starts_with(dropped))
    });
    let tensors = mapper.finish()?;
    metadata.whole("tokenizer.ggml.token_type_count", types);
    match kind {
        Kind::WordPiece => tokenizer::word_piece(folder, config, sides.vocabulary, &mut metadata)?,
        Kind::Unigram => tokenizer::unigram(folder, config, sides.vocabulary, &mut metadata)?,
    }
    Ok(Model { architecture: NAME, metadata, tensors })
}

/// What llama.cpp computes of all encoders of this kind, whatever a file says.
fn check(config: &Config) -> Result<(), Fault> {
    config.expect_word("hidden_act", &["gelu", "gelu_new", "gelu_pytorch_tanh"])?;
    config.expect_word("position_embedding_type", &["absolute"])?;
    if config.flag("is_decoder")? == Some(true) {
        return Err(Fault::Unsupported { what: "an encoder with is_decoder = true".to_owned() });
    }
    Ok(())
}

/// The metadata of an encoder.
pub(super) fn metadata(name: &str, config: &Config, sides: &Sides) -> Result<Metadata, Fault> {
    let mut metadata = sides.metadata(name);
    metadata.flag(format!("{name}.attention.causal"), false);
    let mut epsilon = 1e-12;
    for key in ["layer_norm_eps", "layer_norm_epsilon", "norm_eps"] {
        if let Some(said) = config.number(key)? {
            epsilon = said;
            break;
        }
    }
    metadata.float(format!("{name}.attention.layer_norm_epsilon"), epsilon);
    Ok(metadata)
}

fn tensors(
    mapper: &mut Mapper<'_>,
    prefix: &str,
    sides: &Sides,
    skipped: u64,
    types: u64,
) -> Result<(), Fault> {
    let Sides { width, feed_forward, vocabulary, context, .. } = *sides;
    let embedding = |name: &str| format!("{prefix}embeddings.{name}");
    mapper.weight(&embedding("word_embeddings"), "token_embd", &[vocabulary, width], Change::Keep)?;
    mapper.weight(&embedding("token_type_embeddings"), "token_types", &[types, width], Change::Keep)?;
    mapper.weight(
        &embedding("position_embeddings"),
        "position_embd",
        &[context, width],
        Change::SkipRows(skipped),
    )?;
    mapper.both(&embedding("LayerNorm"), "token_embd_norm", &[width])?;
    for block in 0..sides.blocks {
        for (from, to, shape) in [
            ("attention.self.query", "attn_q", &[width, width][..]),
            ("attention.self.key", "attn_k", &[width, width]),
            ("attention.self.value", "attn_v", &[width, width]),
            ("attention.output.dense", "attn_output", &[width, width]),
            ("attention.output.LayerNorm", "attn_output_norm", &[width]),
            ("intermediate.dense", "ffn_up", &[feed_forward, width]),
            ("output.dense", "ffn_down", &[width, feed_forward]),
            ("output.LayerNorm", "layer_output_norm", &[width]),
        ] {
            let from = format!("{prefix}encoder.layer.{block}.{from}");
            mapper.both(&from, &format!("blk.{block}.{to}"), shape)?;
        }
    }
    Ok(())
}

/// The matrix that makes scores of a vector, with the names of what is scored.
pub(super) fn classes(
    mapper: &mut Mapper<'_>,
    metadata: &mut Metadata,
    config: &Config,
    architecture: &str,
    from: &str,
    width: u64,
) -> Result<(), Fault> {
    let name = format!("{from}.weight");
    let rows = mapper.shape(&name).and_then(|shape| shape.first()).copied().unwrap_or(1);
    if !(1..=LABELS).contains(&rows) {
        return Err(Fault::Disagree(format!("{name:?} has {rows} rows, and may have {LABELS} at most")));
    }
    mapper.weight(from, "cls.output", &[rows, width], Change::Keep)?;
    mapper.bias(from, "cls.output", rows, Change::Keep)?;
    let said = config.value("id2label").and_then(Value::as_object);
    if said.is_some_and(|said| said.len() as u64 != rows) {
        let what = format!("id2label has {} names, and {name:?} has {rows} rows", said.map_or(0, Map::len));
        return Err(Fault::Disagree(what));
    }
    // llama.cpp counts the scores by their names.
    let label = |number: u64| {
        let label = said.and_then(|said| said.get(&number.to_string())).and_then(Value::as_str);
        label.map_or_else(|| format!("LABEL_{number}"), str::to_owned)
    };
    let labels = gguf::Value::Texts((0..rows).map(label).collect());
    metadata.set(format!("{architecture}.classifier.output_labels"), labels);
    Ok(())
}
