//! The beginning of a model that is still at its source: enough to say whether it could ever be loaded here.

use samovar_core::{Descriptor, Failure, format};

/// The first bytes of a model's first file.
pub(crate) struct HeaderBytes<'a> {
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

impl HeaderBytes<'_> {
    /// The whole model's facts, or how many of its first bytes it takes to know more.
    pub(super) fn descriptor(&self) -> Result<Result<Descriptor, u64>, Failure> {
        match format::inspect_head(self.bytes, self.file_bytes)? {
            format::Head::Whole(mut descriptor) => {
                let others_bytes = self.total_bytes.saturating_sub(self.file_bytes);
                descriptor.file_bytes += others_bytes;
                descriptor.tensor_bytes += others_bytes;
                Ok(Ok(*descriptor))
            }
            format::Head::NeedsMore { needed_bytes } => Ok(Err(needed_bytes)),
        }
    }
}
