//! Facts of a checked header, put together as a [`Descriptor`].

use std::io::{Read, Seek};

use super::architecture::{self, Architecture};
use super::error::Fault;
use super::limits;
use super::metadata::Metadata;
use super::reader::Reader;
use super::split::{self, Split};
use super::tensors::{Tally, Tensors};
use super::tokenizer::{self, Tokenizer};
use super::types;
use crate::model::descriptor::is_encoder;
use crate::model::{Descriptor, Format};

/// An encoder whose feed-forward layers may have their gates in one matrix with what they let through.
const GATED: &str = "jina-bert-v2";

/// Reads and checks the header of a model in one file.
pub(super) fn read<R: Read + Seek>(reader: Reader<R>) -> Result<Descriptor, Fault> {
    match read_first(reader)? {
        (descriptor, None) => Ok(descriptor),
        (_, Some(Split { number, count, .. })) => Err(Fault::Split { number: number + 1, count }),
    }
}

/// Reads and checks the header of a model in one file, or of the first of several: then the bytes, formats
/// and weights are those of this file alone.
pub(super) fn read_first<R: Read + Seek>(reader: Reader<R>) -> Result<(Descriptor, Option<Split>), Fault> {
    let file_bytes = reader.file_bytes();
    let mut metadata = Metadata::read(reader)?;
    let split = split::read(&mut metadata)?;
    if let Some(Split { number, count, .. }) = split.filter(|split| split.number > 0) {
        return Err(Fault::Split { number: number + 1, count });
    }
    let facts = HeaderFields::read(&mut metadata)?;
    let mut tally = Tally::new();
    tally.add(&mut metadata)?;
    let descriptor = match split {
        None => facts.of_model(file_bytes, 1, tally)?,
        // The first of several may hold no tensors at all.
        Some(split) => facts.of(file_bytes, split.count, tally.finish()),
    };
    Ok((descriptor, split))
}

/// What the metadata of a model says: all that a descriptor needs but the tensors.
pub(super) struct HeaderFields {
    name: Option<String>,
    architecture: Architecture,
    chat_template: Option<String>,
    file_type: Option<u64>,
    tokenizer: Option<Tokenizer>,
}

impl HeaderFields {
    /// Reads and checks the metadata.
    pub(super) fn read<R: Read + Seek>(metadata: &mut Metadata<R>) -> Result<Self, Fault> {
        let architecture = architecture::read(metadata)?;
        let name = metadata.text("general.name", limits::NAME_BYTES)?;
        Ok(Self {
            name: name.filter(|name| !name.trim().is_empty()),
            architecture,
            chat_template: metadata.text("tokenizer.chat_template", limits::TEMPLATE_BYTES)?,
            file_type: metadata.unsigned("general.file_type", 0..=u64::MAX)?,
            tokenizer: tokenizer::read(metadata)?,
        })
    }

    /// The descriptor of a whole model, which has weights.
    pub(super) fn of_model(self, file_bytes: u64, parts: u32, tally: Tally) -> Result<Descriptor, Fault> {
        if tally.count() == 0 {
            return Err(Fault::NotAModel("a header without weights"));
        }
        let tensors = tally.finish();
        if is_encoder(&self.architecture.name) {
            check_encoder(&self.architecture, &tensors)?;
        }
        Ok(self.of(file_bytes, parts, tensors))
    }

    fn of(self, file_bytes: u64, parts: u32, tensors: Tensors) -> Descriptor {
        let rows = || self.architecture.vocabulary.or(tensors.embedding_rows).unwrap_or(0);
        let vocabulary = self
            .tokenizer
            .as_ref()
            .map_or_else(|| rows().min(limits::VOCABULARY), |tokenizer| tokenizer.vocabulary);
        let (architecture, tokenizer) = (self.architecture, self.tokenizer.unwrap_or_default());
        Descriptor {
            format: Format::Gguf,
            name: self.name,
            architecture: architecture.name,
            parameters: tensors.parameters,
            parts,
            file_bytes,
            tensor_bytes: tensors.bytes,
            quantization: quantization(self.file_type, &tensors),
            formats: tensors.formats,
            context_tokens: architecture.context_tokens as u32,
            embedding_width: architecture.embedding_width as u32,
            blocks: architecture.blocks as u32,
            heads: architecture.heads as u32,
            kv_heads: architecture.kv_heads as u32,
            key_width: architecture.key_width as u32,
            value_width: architecture.value_width as u32,
            feed_forward_width: architecture.feed_forward_width as u32,
            state_bytes: architecture.state_bytes,
            pooling: architecture.pooling,
            is_causal: architecture.is_causal,
            // llama.cpp puts layers that are behind the pooling behind the classifier, too, which they do not fit.
            has_classifier: tensors.classifier_rows == Some(architecture.classes)
                && tensors.dense == [false; 2],
            vocabulary: vocabulary as u32,
            chat_template: self.chat_template,
            bos_token: tokenizer.bos_token,
            eos_token: tokenizer.eos_token,
            adds_bos: tokenizer.adds_bos,
            infill: tokenizer.infill,
        }
    }
}

/// What llama.cpp asserts of an encoder's tensors, or reads beyond.
fn check_encoder(architecture: &Architecture, tensors: &Tensors) -> Result<(), Fault> {
    let Architecture { name, context_tokens, feed_forward_width: width, .. } = architecture;
    let out_of_range = |key: &str, value: u64, range: String| Fault::OutOfRange {
        key: format!("{name}.{key}"),
        value: value.to_string(),
        range,
    };
    // Positions are looked up in a table, which ends somewhere.
    if let Some(rows) = tensors.position_rows.filter(|rows| rows != context_tokens) {
        let range = format!("{rows}, as many as the table of positions has rows");
        return Err(out_of_range("context_length", *context_tokens, range));
    }
    let fitting = [*width, 2 * *width];
    if name == GATED
        && let Some(rows) = tensors.feed_forward_rows.iter().find(|rows| !fitting.contains(rows))
    {
        let range = format!("{rows} or half of that, as a matrix that leads there has {rows} rows");
        return Err(out_of_range("feed_forward_length", *width, range));
    }
    if tensors.dense[0] != tensors.dense[1] {
        return Err(Fault::NotAModel("one of the two layers behind the pooling (dense_2, dense_3)"));
    }
    Ok(())
}

/// The name that the file gives its quantization, or that of the type that holds most bytes.
fn quantization(file_type: Option<u64>, tensors: &Tensors) -> String {
    let by_file_type = file_type.and_then(types::file_type_name);
    let by_bytes = tensors.formats.first().map(|format| format.name.as_str());
    by_file_type.or(by_bytes).unwrap_or("unknown").to_owned()
}
