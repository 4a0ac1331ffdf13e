//! The beginning of a model that is still at its source: enough to say whether it could ever be loaded here.

use std::io::Cursor;

use samovar_core::format::gguf::{self, Fault};
use samovar_core::{Descriptor, Failure};

/// The first bytes of a model's first file.
pub(crate) struct Head<'a> {
    /// The bytes.
    pub(crate) bytes: &'a [u8],
    /// Bytes of that file.
    pub(crate) file_bytes: u64,
    /// Bytes of all the model's files together.
    pub(crate) total_bytes: u64,
}

/// What the beginning says of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing speaks against fetching the rest.
    MayFit,
    /// The header is longer than what was given.
    NeedsMore {
        /// So many of the first bytes tell more.
        needed_bytes: u64,
    },
}

impl Head<'_> {
    /// The whole model's facts, or how many of its first bytes it takes to know more.
    pub(super) fn descriptor(&self) -> Result<Result<Descriptor, u64>, Failure> {
        match gguf::inspect_header(Cursor::new(self.bytes), self.file_bytes) {
            Ok(header) => {
                let others_bytes = self.total_bytes.saturating_sub(self.file_bytes);
                let mut descriptor = header.descriptor;
                descriptor.file_bytes += others_bytes;
                descriptor.tensor_bytes += others_bytes;
                Ok(Ok(descriptor))
            }
            Err(gguf::Error { fault: Fault::Cut { at, needed }, .. }) => Ok(Err(at.saturating_add(needed))),
            Err(error) => Err(error.into()),
        }
    }
}
