//! The facts of a published model, from its configuration and the headers of its files alone.

use std::collections::BTreeMap;
use std::path::Path;

use samovar_convert::{PublishedModel, Sides};
use samovar_core::model::TensorFormat;
use samovar_core::port::PublishedFacts;
use samovar_core::{Descriptor, Failure, Format, Pooling};
use serde_json::{Map, Value};

use crate::config::Family;
use crate::error::Error;
use crate::weights::dtype_of;

/// Describes the model in a folder, if candle runs it.
pub(crate) fn describe(folder: &Path) -> Result<PublishedFacts, Failure> {
    let model = PublishedModel::open(folder)?;
    let family = Family::of(&model)?;
    let files = model.files().ok_or_else(|| Error::Disagree { detail: "there are no weights".to_owned() })?;
    let settings = model.tokenizer_settings()?.unwrap_or_default();
    let (architecture, sides) = match &family {
        Family::Decoder(config) => (config.name, config.sides),
        Family::Encoder(config) => ("bert", config.sides),
    };
    let has_classifier = matches!(&family, Family::Encoder(config) if config.classifier.is_some());
    let is_encoder = matches!(family, Family::Encoder(_));
    let pooling = if has_classifier { Some(Pooling::Rank) } else { model.pooling()? };
    let formats = formats(&model)?;
    let (parts, file_bytes) = model.weight_files();
    let token = |key: &str| token_text(&settings, key);
    let names_begin = settings.get("add_bos_token").and_then(Value::as_bool).unwrap_or(false);
    let Sides { blocks, width, heads, kv_heads, head, feed_forward, vocabulary, context } = sides;
    let descriptor = Descriptor {
        format: Format::Safetensors,
        name: None,
        architecture: architecture.to_owned(),
        parameters: model.tensors().map(|(_, _, elements)| elements).sum(),
        parts: parts as u32,
        file_bytes,
        tensor_bytes: formats.iter().map(|format| format.bytes).sum(),
        quantization: formats.first().map(|format| format.name.clone()).unwrap_or_default(),
        formats,
        context_tokens: context as u32,
        embedding_width: width as u32,
        blocks: blocks as u32,
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        key_width: head as u32,
        value_width: head as u32,
        feed_forward_width: feed_forward as u32,
        state_bytes: 0,
        // Of decoders no vectors are made.
        pooling: pooling.filter(|_| is_encoder),
        is_causal: !is_encoder,
        has_classifier,
        vocabulary: vocabulary as u32,
        chat_template: if is_encoder { None } else { model.chat_template()? },
        bos_token: token("bos_token").or_else(|| token("cls_token")),
        eos_token: token("eos_token").or_else(|| token("sep_token")),
        adds_bos: names_begin,
        infill: None,
    };
    Ok(PublishedFacts { descriptor, files })
}

/// The element types that occur, largest first. Those of most numbers must be ones that candle reads.
fn formats(model: &PublishedModel) -> Result<Vec<TensorFormat>, Failure> {
    let mut found: BTreeMap<&'static str, (u32, u64)> = BTreeMap::new();
    for (_, kind, elements) in model.tensors() {
        let (tensors, numbers) = found.entry(kind).or_default();
        *tensors += 1;
        *numbers += elements;
    }
    let mut formats: Vec<TensorFormat> = found
        .into_iter()
        .map(|(kind, (tensors, numbers))| {
            let bytes =
                numbers.saturating_mul(dtype_of(kind).map_or(1, |dtype| dtype.size_in_bytes() as u64));
            TensorFormat { name: kind.to_owned(), tensors, bytes, matrix_bytes: bytes }
        })
        .collect();
    formats.sort_by_key(|format| std::cmp::Reverse(format.bytes));
    match formats.first() {
        Some(format) if dtype_of(&format.name).is_some() => Ok(formats),
        Some(format) => {
            Err(Error::UnknownModel { what: format!("models with weights of the type {}", format.name) }
                .into())
        }
        None => Err(Error::Disagree { detail: "there are no weights".to_owned() }.into()),
    }
}

/// The text of a token, which stands alone or among its properties.
fn token_text(settings: &Map<String, Value>, key: &str) -> Option<String> {
    let value = settings.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}
