//! Facts of a checked header, put together as a [`Descriptor`].

use std::io::{Read, Seek};

use super::error::Fault;
use super::metadata::Metadata;
use super::reader::Reader;
use super::tensors::Tensors;
use super::types;
use super::{architecture, limits, split, tensors, tokenizer};
use crate::model::Descriptor;

/// Reads and checks a whole header.
pub(super) fn read<R: Read + Seek>(reader: Reader<R>) -> Result<Descriptor, Fault> {
    let file_bytes = reader.file_bytes();
    let mut metadata = Metadata::read(reader)?;
    split::check(&mut metadata)?;
    let architecture = architecture::read(&mut metadata)?;
    let name = metadata.text("general.name", limits::NAME_BYTES)?.filter(|name| !name.trim().is_empty());
    let chat_template = metadata.text("tokenizer.chat_template", limits::TEMPLATE_BYTES)?;
    let file_type = metadata.unsigned("general.file_type", 0..=u64::MAX)?;
    let tokenizer = tokenizer::read(&mut metadata)?;
    let tensors = tensors::read(&mut metadata)?;
    let vocabulary = match &tokenizer {
        Some(tokenizer) => tokenizer.vocabulary,
        None => architecture.vocabulary.or(tensors.embedding_rows).unwrap_or(0).min(limits::VOCABULARY),
    };
    let tokenizer = tokenizer.unwrap_or_default();
    Ok(Descriptor {
        name,
        architecture: architecture.name,
        parameters: tensors.parameters,
        file_bytes,
        tensor_bytes: tensors.bytes,
        quantization: quantization(file_type, &tensors),
        formats: tensors.formats,
        context_tokens: architecture.context_tokens as u32,
        embedding_width: architecture.embedding_width as u32,
        blocks: architecture.blocks as u32,
        heads: architecture.heads as u32,
        kv_heads: architecture.kv_heads as u32,
        key_width: architecture.key_width as u32,
        value_width: architecture.value_width as u32,
        feed_forward_width: architecture.feed_forward_width as u32,
        vocabulary: vocabulary as u32,
        chat_template,
        bos_token: tokenizer.bos_token,
        eos_token: tokenizer.eos_token,
        adds_bos: tokenizer.adds_bos,
    })
}

/// The name that the file gives its quantization, or that of the type that holds most bytes.
fn quantization(file_type: Option<u64>, tensors: &Tensors) -> String {
    let by_file_type = file_type.and_then(types::file_type_name);
    let by_bytes = tensors.formats.first().map(|format| format.name.as_str());
    by_file_type.or(by_bytes).unwrap_or("unknown").to_owned()
}
