//! The GGUF gate.

use std::io::{Read, Seek};
use std::path::Path;

use crate::model::Descriptor;

mod error;
pub use error::Error;

/// Checks the file's header and gathers its facts.
///
/// # Errors
/// [`Error`] for any file that is not a sound GGUF model.
pub fn inspect(path: &Path) -> Result<Descriptor, Error> {
    let file = fs_err::File::open(path).map_err(Error::Io)?;
    let file_bytes = file.metadata().map_err(Error::Io)?.len();
    inspect_reader(file, file_bytes)
}

/// As [`inspect`], for anything that can be read and sought.
///
/// # Errors
/// [`Error`] for bytes that are not a sound GGUF model.
pub fn inspect_reader(_reader: impl Read + Seek, _file_bytes: u64) -> Result<Descriptor, Error> {
    Err(Error::NotGguf)
}
