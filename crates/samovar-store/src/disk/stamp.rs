//! What tells whether a file is still the one that it was, without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// What tells whether a file is still the one that was verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Device number.
    pub(crate) dev: u64,
    /// Inode number.
    pub(crate) ino: u64,
    /// Time of the last change of content, in nanoseconds since 1970.
    pub(crate) mtime_ns: i64,
    /// Bytes.
    pub(crate) size: u64,
}

impl Stamp {
    /// The stamp of the file that this is the metadata of.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let mtime_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { dev: metadata.dev(), ino: metadata.ino(), mtime_ns, size: metadata.size() }
    }
}
