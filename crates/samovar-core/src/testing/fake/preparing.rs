//! What a fake engine prepares: a small model, or a small adapter, whatever the folder has besides a configuration.

use std::path::Path;

use super::script::Script;
use crate::error::{ErrorKind, Failure};
use crate::model::Quantization;
use crate::port::{PreparePlan, PrepareRequest};
use crate::testing::gguf::{LlamaShape, llama, lora};

/// What preparing a folder takes.
pub(super) fn plan(
    script: &Script,
    folder: &Path,
    quantization: Quantization,
) -> Result<PreparePlan, Failure> {
    if script.preparing.is_none() {
        return Err(Failure::new(ErrorKind::Unsupported, "this engine prepares nothing"));
    }
    fs_err::metadata(folder.join("config.json"))
        .map_err(|error| Failure::new(ErrorKind::InvalidModel, error.to_string()))?;
    let f16_bytes = llama(LlamaShape::TINY).build().len() as u64;
    let prepared_bytes = quantization.bytes_of(f16_bytes).max(f16_bytes);
    Ok(PreparePlan {
        architecture: "llama".to_owned(),
        source_bytes: f16_bytes,
        prepared_bytes,
        disk_bytes: 2 * prepared_bytes,
        held_bytes: 1 << 20,
    })
}

/// Writes the model, or an adapter of its base, in two pieces, with `halfway` in between.
pub(super) fn write(
    request: PrepareRequest<'_>,
    halfway: impl FnOnce() -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let content = match request.base {
        Some(base) => lora(base, 2).build(),
        None => llama(LlamaShape::TINY).text("fake.quantization", request.quantization.as_str()).build(),
    };
    let refuse = |error: std::io::Error| Failure::new(ErrorKind::Storage, error.to_string());
    fs_err::write(request.target, &content[..content.len() / 2]).map_err(refuse)?;
    halfway()?;
    fs_err::write(request.target, &content).map_err(refuse)?;
    Ok(content.len() as u64)
}
