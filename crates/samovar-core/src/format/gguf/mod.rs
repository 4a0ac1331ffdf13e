//! The GGUF gate: checks a model file's header before any native parser sees the file, and gathers
//! the facts in it.
//!
//! ```text
//!   file ─► reader ─► metadata ─┬─► split         whole, or which part?
//!          (64 KiB    (index of ├─► architecture  numbers in range
//!           window)    keys)    ├─► tokenizer     vocabulary sound, tokens for gaps (infill)
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

mod adapter;
mod architecture;
mod descriptor;
mod error;
mod infill;
pub mod limits;
mod lookalike;
mod metadata;
mod parts;
mod reader;
mod split;
mod tensors;
mod tokenizer;
mod types;
mod value;
mod vocabularies;

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

pub use adapter::AdapterHeader;
pub use error::{Error, Fault};
pub use lookalike::Lookalike;
pub use split::Split;
pub use vocabularies::vocabularies_differ;

use crate::model::Descriptor;
use metadata::Metadata;
use parts::Parts;
use reader::Reader;
use tensors::Tally;

/// A key of Samovar's own: how a vocabulary of SentencePiece puts a space before texts, where llama.cpp's
/// `tokenizer.ggml.add_space_prefix` cannot say it.
pub const SPACE_PREFIX: &str = "samovar.tokenizer.space_prefix";
/// Its only value: before the beginning of a text that does not begin with a space itself, and nowhere else.
pub const SPACE_FIRST: &str = "first";

/// What the header of a file says: of a model in one file, or of the first of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The model's facts. Of a split model `file_bytes`, `tensor_bytes`, `parameters` and `formats` are
    /// those of this file alone: the caller that knows the other files adds them.
    pub descriptor: Descriptor,
    /// Which part it is, if the model is split: the first.
    pub split: Option<Split>,
}

/// Checks the header of the model file at `path` and gathers its facts.
///
/// # Errors
/// [`Error`], which names the file and the [`Fault`]: [`Fault::Split`] for one of several files.
pub fn inspect(path: &Path) -> Result<Descriptor, Error> {
    open(path)
        .and_then(|(file, file_bytes)| descriptor::read(Reader::new(file, file_bytes)))
        .map_err(|fault| Error { path: Some(path.to_owned()), fault })
}

/// Checks the headers of all files of one model and gathers their facts as if they were one. `paths` are
/// the files in their order; which ones they are, the caller knows from a manifest. Of one path it is
/// [`inspect`].
///
/// # Errors
/// [`Error`], which names the file at fault; [`Fault::WrongPart`] for a file that is not the part that its
/// place says, [`Fault::SplitLies`] where the parts do not add up to what they announce.
pub fn inspect_parts(paths: &[PathBuf]) -> Result<Descriptor, Error> {
    if let [path] = paths {
        return inspect(path);
    }
    let mut parts = Parts::new(paths.len());
    for path in paths {
        open(path)
            .and_then(|(file, file_bytes)| parts.add(Reader::new(file, file_bytes)))
            .map_err(|fault| Error { path: Some(path.clone()), fault })?;
    }
    parts.finish().map_err(|fault| Error { path: paths.first().cloned(), fault })
}

/// As [`inspect`], for anything of `file_bytes` bytes that can be read and sought. The reader may end
/// before that: of a remote file its beginning is enough, if all of the header is in it.
///
/// # Errors
/// [`Error`] without a path. [`Fault::Cut`] says that the reader ended inside the header and how much of
/// the file must be there to go on.
pub fn inspect_reader(reader: impl Read + Seek, file_bytes: u64) -> Result<Descriptor, Error> {
    descriptor::read(Reader::new(reader, file_bytes)).map_err(|fault| Error { path: None, fault })
}

/// As [`inspect_reader`], but takes the first file of a split model, too, and says which part it is. So
/// the shape of a remote model is known from the beginning of its first file.
///
/// # Errors
/// As [`inspect_reader`]; [`Fault::Split`] for the second file of a split model and those after it, which
/// say nothing about the model.
pub fn inspect_header(reader: impl Read + Seek, file_bytes: u64) -> Result<Header, Error> {
    descriptor::read_first(Reader::new(reader, file_bytes))
        .map(|(descriptor, split)| Header { descriptor, split })
        .map_err(|fault| Error { path: None, fault })
}

/// Bytes of the header of a file that has passed the gate: all before the first tensor's data, padding included. Reads
/// from the beginning.
///
/// # Errors
/// [`Error`] without a path where the metadata or the tensors' descriptions are not sound.
pub fn header_bytes(mut reader: impl Read + Seek, file_bytes: u64) -> Result<u64, Error> {
    let measure = |reader| {
        let mut tally = Tally::new();
        tally.add(&mut Metadata::read(Reader::new(reader, file_bytes))?)?;
        Ok(tally.data_begin())
    };
    let start = reader.rewind().map_err(Fault::Read);
    start.and_then(|()| measure(reader)).map_err(|fault| Error { path: None, fault })
}

/// Checks the header of the adapter (LoRA) at `path`, which is to change the model `base`.
///
/// # Errors
/// [`Error`], which names the file and the [`Fault`]: [`Fault::NotAnAdapter`], [`Fault::AdapterOfOther`],
/// [`Fault::AdapterShape`] and others where it does not fit the model.
pub fn inspect_adapter(path: &Path, base: &Descriptor) -> Result<AdapterHeader, Error> {
    open(path)
        .and_then(|(file, file_bytes)| adapter::read(Reader::new(file, file_bytes), base))
        .map_err(|fault| Error { path: Some(path.to_owned()), fault })
}

/// As [`inspect_adapter`], for anything of `file_bytes` bytes that can be read and sought.
///
/// # Errors
/// As [`inspect_adapter`], without a path.
pub fn inspect_adapter_reader(
    reader: impl Read + Seek,
    file_bytes: u64,
    base: &Descriptor,
) -> Result<AdapterHeader, Error> {
    adapter::read(Reader::new(reader, file_bytes), base).map_err(|fault| Error { path: None, fault })
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
mod split_tests;
#[cfg(test)]
mod tests;
