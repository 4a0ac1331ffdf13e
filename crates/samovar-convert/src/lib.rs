//! From a model as its author published it (safetensors, `config.json`, tokenizer) to one GGUF file.
//!
//! ```text
//!   folder ─► judge ─► ConversionPlan ─► convert ─► file.gguf ─► the GGUF gate of samovar-core
//!               │                           └ number, write    weights in pieces, types settled, all or nothing
//!               ├ source/         files of the folder, headers of shards: bounded, contradictions refused
//!               ├ config          numbers of config.json, each in its range
//!               ├ architecture/   which tensor becomes which, what is done to its rows, the metadata
//!               └ tokenizer/      vocabulary, merges, scores, special tokens, chat templates
//!   folder with an adapter, header of its model ─► judge_adapter ─► ConversionPlan ─► convert_adapter ─► adapter.gguf ─► the gate
//!   published   the same files, for engines that compute a published model as it is
//! ```
//!
//! Judging reads no weights. Converting holds a few pieces of one tensor at a time. The same files give the same bytes.
//! Nothing here calls native code, runs what a model brings along, or reads a pickle.
#![forbid(unsafe_code)]

mod adapter;
mod architecture;
mod config;
mod error;
mod gguf;
mod number;
mod plan;
mod published;
mod source;
mod tensor;
mod tokenizer;
mod write;

use std::ops::ControlFlow;
use std::path::Path;

use samovar_core::{Descriptor, Failure};

pub use architecture::{CLASSES, Head, Rope, Scaling, Sides};
pub use plan::{ConversionPlan, Input, PlannedTensor};
pub use published::{PublishedModel, PublishedTensor};
pub use write::Progress;

/// Changes whenever other bytes may be written for the same files.
pub const VERSION: &str = "2";

/// The 16-bit floats in which matrices are written. Vectors and tables of positions are 32-bit floats in all cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FloatFormat {
    /// Those that the author published; for 32-bit floats, F16.
    #[default]
    AsPublished,
    /// F16. A matrix with values beyond its range becomes BF16.
    F16,
    /// BF16.
    Bf16,
}

/// What a conversion may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The format of matrices.
    pub float: FloatFormat,
    /// `general.name` of the file; without it the file has none. A name by which llama.cpp knows how to read the vocabulary
    /// counts more.
    pub name: Option<String>,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its facts, from its header.
    pub descriptor: Descriptor,
    /// Names of matrices that are BF16 because F16 cannot hold a value of theirs.
    pub beyond_f16: Vec<String>,
}

/// Judges the published model in `folder`. Reads its configuration, its tokenizer and the headers of its weights alone.
///
/// # Errors
/// `Unsupported` for an architecture, tokenizer or number format that is not converted, by its name; `InvalidModel` for
/// files that lie, are missing or contradict each other; `Storage` for files that cannot be read.
pub fn judge(folder: &Path) -> Result<ConversionPlan, Failure> {
    Ok(plan::plan(folder)?)
}

/// Writes the GGUF file of a plan to `target`, which must be absent or empty, and checks it. `progress` hears what is done
/// after each piece, and says whether to go on. Nothing is synced: the caller that keeps the file does that.
///
/// # Errors
/// `Cancelled` when `progress` says stop; `Storage` when a file cannot be read or written, or changed since it was judged;
/// `InvalidModel` for weights that are no finite numbers. Nothing is left at `target` then, unless it was not empty.
pub fn convert(
    plan: &ConversionPlan,
    target: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Converted, Failure> {
    Ok(write::convert(plan, target, options, progress)?)
}

/// Judges the adapter (LoRA, as PEFT publishes it) in `folder` for a model like `base`. Reads its configuration and the header of
/// its weights alone.
///
/// # Errors
/// `Unsupported` for an adapter that GGUF cannot hold, or of a model whose adapters are not converted, by its name; `InvalidModel`
/// for files that lie, are missing or do not fit the model; `Storage` for files that cannot be read.
pub fn judge_adapter(folder: &Path, base: &Descriptor) -> Result<ConversionPlan, Failure> {
    Ok(plan::plan_adapter(folder, base)?)
}

/// Writes the GGUF file of an adapter's plan to `target` as [`convert`] does, in 32-bit floats, checks that it fits `base`, and
/// returns its bytes.
///
/// # Errors
/// As [`convert`].
pub fn convert_adapter(
    plan: &ConversionPlan,
    base: &Descriptor,
    target: &Path,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<u64, Failure> {
    Ok(write::convert_adapter(plan, base, target, progress)?)
}
