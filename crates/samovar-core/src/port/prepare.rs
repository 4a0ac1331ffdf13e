//! How a model as its author published it becomes a file that an engine maps.
//!
//! ```text
//!   folder (config.json, *.safetensors, tokenizer) ─► Converter ─► GGUF, 16-bit floats ─► quantized by the engine
//! ```
//!
//! An adapter, as its author published it, becomes a GGUF file in the same way, without being quantized.
//!
//! A [`Converter`] knows formats and names of tensors, and calls no native code; an engine that has one prepares models for
//! itself ([`Engine::prepare`](super::Engine::prepare)). Another engine may run published models as they are
//! ([`Engine::describe`](super::Engine::describe)).

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use super::{EngineId, LoadControl};
use crate::error::{ErrorKind, Failure};
use crate::model::{Descriptor, ModelFiles, Quantization};

/// Private memory that preparing an adapter takes, at most: pieces of weights, and what a program needs besides.
pub const ADAPTER_HELD_BYTES: u64 = 64 << 20;

/// Endings of the names of files that a published model may consist of. A converter reads no others.
pub const PUBLISHED_ENDINGS: [&str; 5] = ["safetensors", "json", "jinja", "model", "txt"];

/// The engine that prepares models, and what prepared ones are known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparer {
    /// The engine.
    pub engine: EngineId,
    /// Versions of everything that decides which bytes are written: two prepared models of the same source, key and number
    /// format are the same.
    pub key: String,
}

/// What preparing a model is predicted to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreparePlan {
    /// The architecture of the model, as engines call it.
    pub architecture: String,
    /// Bytes of the published weights.
    pub source_bytes: u64,
    /// Bytes of the prepared file, at most.
    pub prepared_bytes: u64,
    /// Bytes on the disk at the same time while it is prepared, the prepared file included.
    pub disk_bytes: u64,
    /// Private memory, at most.
    pub held_bytes: u64,
}

/// A published model that an engine runs as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedFacts {
    /// What its configuration and the headers of its files say.
    pub descriptor: Descriptor,
    /// Its files, all in one folder.
    pub files: ModelFiles,
}

/// Everything that it takes to prepare a model, or an adapter.
#[derive(Clone, Copy, Debug)]
pub struct PrepareRequest<'a> {
    /// The folder with the published files under their own names.
    pub folder: &'a Path,
    /// The number format of the weights.
    pub quantization: Quantization,
    /// The file that is written. It lies in a private folder in which further files may be kept meanwhile; it may be there and
    /// empty, and is another file afterwards.
    pub target: &'a Path,
    /// The model whose adapter lies in the folder; `None` for a folder with a model. Adapters are not quantized.
    pub base: Option<&'a Descriptor>,
    /// How to report progress, how to give way, and how to learn that no caller waits any more.
    pub control: &'a LoadControl,
}

/// Which 16-bit floats matrices are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvertedWeights {
    /// Those that the author published; of 32-bit floats, F16.
    AsPublished,
    /// F16, where the values fit.
    F16,
}

/// What a conversion is predicted to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// The architecture of the model, as GGUF files call it.
    pub architecture: String,
    /// Bytes of the published weights.
    pub source_bytes: u64,
    /// Bytes of the converted file, about.
    pub converted_bytes: u64,
    /// Private memory, at most.
    pub held_bytes: u64,
}

/// Turns a published model into a GGUF file of 16-bit floats.
pub trait Converter: fmt::Debug + Send + Sync + 'static {
    /// Changes whenever what is written for the same folder may change.
    fn version(&self) -> &'static str;

    /// Judges a folder by its configuration and the headers of its files alone. Blocks for milliseconds.
    ///
    /// # Errors
    /// `Unsupported` for an architecture or a number format that is not converted, by its name; `InvalidModel` for files that
    /// lie, lack or contradict each other.
    fn judge(&self, folder: &Path) -> Result<Conversion, Failure>;

    /// Writes the file at `target`, and returns its bytes. `progress` is told the part done (0..=1) and says whether to go on.
    /// Blocks for about as long as reading the model takes.
    ///
    /// # Errors
    /// Those of [`judge`](Self::judge); `Cancelled` when it was told to stop; `Storage` when a file cannot be read or written.
    /// Nothing is left at `target` then.
    fn convert(
        &self,
        folder: &Path,
        target: &Path,
        weights: ConvertedWeights,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<u64, Failure>;

    /// Writes the adapter in a folder at `target`, for a model like `base`, as [`convert`](Self::convert) writes a model. It passes
    /// the gate for adapters of that model.
    ///
    /// # Errors
    /// `Unsupported` for an adapter that is not converted, by its name; `InvalidModel` for one that is not sound or does not fit
    /// the model; `Cancelled`, `Storage`. Nothing is left at `target` then.
    fn convert_adapter(
        &self,
        folder: &Path,
        base: &Descriptor,
        target: &Path,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<u64, Failure> {
        let _ = (folder, base, target, progress);
        Err(Failure::new(ErrorKind::Unsupported, "this build converts no published adapters")
            .with_param("model")
            .with_hint("take adapters in GGUF"))
    }
}
