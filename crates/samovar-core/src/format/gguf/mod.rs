//! The GGUF gate: checks a model file's header before any native parser sees the file, and gathers
//! the facts in it.
//!
//! ```text
//!   file ─► reader ─► metadata ─┬─► split         one file, whole?
//!          (64 KiB    (index of ├─► architecture  numbers in range
//!           window)    keys)    ├─► tokenizer     vocabulary sound
//!                               └─► tensors       shapes, types, places
//!                                        └─► descriptor
//! ```
//!
//! Everything a header says is bounded by [`limits`] and by what is left of the file *before* memory
//! is taken for it. There is no recursion, at most 8 MiB of memory, and the weights are not read.
//! It never repairs and never guesses: a file that contradicts itself is refused, with a [`Fault`]
//! that names what, where and which limit.
//!
//! *Source:* the GGUF specification of the ggml project, and the checks that llama.cpp asserts.

mod architecture;
mod descriptor;
mod error;
pub mod limits;
mod lookalike;
mod metadata;
mod reader;
mod split;
mod tensors;
mod tokenizer;
mod types;
mod value;

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::Path;

pub use error::{Error, Fault};
pub use lookalike::Lookalike;

use crate::model::Descriptor;
use reader::Reader;

/// Checks the header of the model file at `path` and gathers its facts.
///
/// # Errors
/// [`Error`], which names the file and the [`Fault`].
pub fn inspect(path: &Path) -> Result<Descriptor, Error> {
    open(path)
        .and_then(|(file, file_bytes)| descriptor::read(Reader::new(file, file_bytes)))
        .map_err(|fault| Error { path: Some(path.to_owned()), fault })
}

/// As [`inspect`], for anything of `file_bytes` bytes that can be read and sought.
///
/// # Errors
/// [`Error`] without a path.
pub fn inspect_reader(reader: impl Read + Seek, file_bytes: u64) -> Result<Descriptor, Error> {
    descriptor::read(Reader::new(reader, file_bytes)).map_err(|fault| Error { path: None, fault })
}

#[allow(clippy::disallowed_methods, reason = "`Error` names the path, once")]
fn open(path: &Path) -> Result<(File, u64), Fault> {
    let refuse = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Fault::Missing,
        _ => Fault::Read(error),
    };
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let facts = fs::metadata(path).map_err(refuse)?;
    if facts.is_dir() {
        return Err(Fault::Directory);
    }
    if !facts.is_file() {
        return Err(Fault::NotAFile);
    }
    let file = File::open(path).map_err(refuse)?;
    let file_bytes = file.metadata().map_err(refuse)?.len();
    Ok((file, file_bytes))
}

#[cfg(test)]
mod tests;
