//! Readers of foreign bytes. They check everything and trust nothing.
//!
//! ```text
//!   a model's files ──► inspect ───────────┐
//!   the first bytes of its first file ─────┼─► the reader of its format ─► Descriptor (which says the format)
//!   an adapter ───────► inspect_adapter ───┘
//!   two models ───────► cannot_draft      whether one can say what the other may say next
//! ```
//!
//! Here is the one place that decides which reader looks at which files. GGUF is the only format that has a reader; it
//! says of other bytes what they seem to be. A further format is a folder beside `gguf` and its arms here.

mod draft;
pub mod gguf;

use std::io::Cursor;
use std::path::{Path, PathBuf};

pub use draft::cannot_draft;

use crate::error::{ErrorKind, Failure};
use crate::model::{Descriptor, Format, ModelFiles};

/// What the first bytes of a model's first file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// The model's facts. Its bytes are those of this file alone: the caller that knows the other files adds them.
    Whole(Box<Descriptor>),
    /// So many of the first bytes say more.
    NeedsMore {
        /// How many.
        needed_bytes: u64,
    },
}

/// Whether models in this format can be inspected.
pub const fn has_reader(format: Format) -> bool {
    matches!(format, Format::Gguf)
}

/// Checks the headers of a model's files and gathers its facts.
///
/// # Errors
/// What is wrong with a file, in the words of the reader of its format.
pub fn inspect(files: &ModelFiles) -> Result<Descriptor, Failure> {
    let weights: Vec<PathBuf> = files.weights().map(Path::to_owned).collect();
    Ok(gguf::inspect_parts(&weights)?)
}

/// The same of the beginning of a file of `file_bytes` bytes, which is a model or the first part of one.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_head(bytes: &[u8], file_bytes: u64) -> Result<Head, Failure> {
    match gguf::inspect_header(Cursor::new(bytes), file_bytes) {
        Ok(header) => Ok(Head::Whole(Box::new(header.descriptor))),
        Err(gguf::Error { fault: gguf::Fault::Cut { at, needed }, .. }) => {
            Ok(Head::NeedsMore { needed_bytes: at.saturating_add(needed) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks the adapter at `path`, which is to change the model `base`, and returns how many bytes its tensors have.
///
/// # Errors
/// What is wrong with it; `Unsupported` for a model in a format of which no adapters are known.
pub fn inspect_adapter(path: &Path, base: &Descriptor) -> Result<u64, Failure> {
    match base.format {
        Format::Gguf => Ok(gguf::inspect_adapter(path, base)?.tensor_bytes),
        Format::Safetensors => {
            let message = format!("adapters of {} models cannot be read", base.format);
            Err(Failure::new(ErrorKind::Unsupported, message)
                .with_param("model")
                .with_hint("take `adapters` out of the model's settings"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::gguf::{LlamaShape, llama};

    #[test]
    fn what_was_inspected_says_its_format() {
        let (folder, bytes) = (tempfile::tempdir().unwrap(), llama(LlamaShape::TINY).build());
        let path = folder.path().join("weights");
        fs_err::write(&path, &bytes).unwrap();
        let descriptor = inspect(&ModelFiles::of(&path)).unwrap();
        assert_eq!(descriptor.format, Format::Gguf);
        let whole = Head::Whole(Box::new(descriptor));
        assert_eq!(inspect_head(&bytes, bytes.len() as u64).unwrap(), whole);
        let Head::NeedsMore { needed_bytes } = inspect_head(&bytes[..100], bytes.len() as u64).unwrap()
        else {
            panic!("a hundred bytes are no header");
        };
        assert!(needed_bytes > 100);
    }

    #[test]
    fn files_that_are_no_models_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        fs_err::write(&path, [&200_u64.to_le_bytes()[..], b"{\"__metadata__\":", &[b' '; 999]].concat())
            .unwrap();
        let failure = inspect(&ModelFiles::of(path)).unwrap_err();
        assert!(failure.message.contains("safetensors") && failure.hint.is_some(), "{failure:?}");
    }
}
