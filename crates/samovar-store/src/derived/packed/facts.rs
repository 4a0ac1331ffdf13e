//! What is written beside a packed file: what it was made of and for, and what its bytes must be.

use std::io;
use std::path::PathBuf;

use samovar_core::Digest;
use serde::{Deserialize, Serialize};

use crate::artifact::key::KeyDigest;
use crate::disk::layout::Layout;
use crate::disk::partial::PartialId;
use crate::disk::plain;
use crate::index::Stamp;

/// Version of this and of what leads to a directory's name.
const FORMAT: u32 = 1;
/// The engine's bytes, in a packed file's directory.
pub(super) const DATA: &str = "data";
/// This, beside them.
pub(super) const FACTS: &str = "facts.json";
/// Bytes of it that are read at all.
const FACTS_BYTES: u64 = 256 << 10;

/// The facts of a packed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackedMetadata {
    format: u32,
    pub(crate) source: String,
    pub(crate) key: String,
    pub(crate) parent: Option<KeyDigest>,
    /// Bytes of the file, holes included.
    pub(crate) bytes: u64,
    /// Digest of the file.
    pub(crate) digest: Digest,
    /// The file as it was when its digest was taken; one that is the same still is not read for it again.
    ino: u64,
    mtime_ns: i64,
    pub(crate) created_ms: u64,
}

/// Which packed file, as names of directories and of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    source: Digest,
    pub(crate) id: Digest,
}

impl Name {
    pub(super) fn of(source: &str, key: &str) -> Self {
        let id = format!("samovar packed {FORMAT}\n{}:{source}\n{}:{key}\n", source.len(), key.len());
        let source = format!("samovar packed {FORMAT}\n{source}\n");
        Self { source: Digest::of_bytes(source.as_bytes()), id: Digest::of_bytes(id.as_bytes()) }
    }

    /// Its directory.
    pub(super) fn place(&self, layout: &Layout) -> PathBuf {
        layout.packed_of(&self.source).join(self.id.to_string())
    }

    /// What is locked while it is made.
    pub(super) fn work(&self) -> PartialId {
        PartialId::of_digest(self.id)
    }
}

impl PackedMetadata {
    pub(super) fn new(
        source: &str,
        key: &str,
        parent: Option<KeyDigest>,
        digest: Digest,
        stamp: Stamp,
        created_ms: u64,
    ) -> Self {
        Self {
            format: FORMAT,
            source: source.to_owned(),
            key: key.to_owned(),
            parent,
            bytes: stamp.size,
            digest,
            ino: stamp.ino,
            mtime_ns: stamp.mtime_ns,
            created_ms,
        }
    }

    /// Reads the facts in a packed file's directory; `None` when they are none of this name.
    ///
    /// # Errors
    /// `NotFound` when the file is gone; whatever else the system says.
    pub(super) fn read(layout: &Layout, place: &std::path::Path) -> io::Result<Option<Self>> {
        let bytes = match plain::read(layout.root(), &place.join(FACTS), FACTS_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            read => read?,
        };
        let facts = serde_json::from_slice::<Self>(&bytes).ok().filter(|facts| facts.format == FORMAT);
        Ok(facts.filter(|facts| facts.name().place(layout) == place))
    }

    pub(super) fn name(&self) -> Name {
        Name::of(&self.source, &self.key)
    }

    pub(super) fn to_text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("invariant: texts and numbers are JSON")
    }

    /// Whether the file with this stamp was not touched since its digest was taken.
    pub(super) fn is_untouched(&self, stamp: &Stamp) -> bool {
        (self.bytes, self.ino, self.mtime_ns) == (stamp.size, stamp.ino, stamp.mtime_ns)
    }

    /// The same of a file that was held against its digest when it had this stamp.
    pub(super) fn stamped(&self, stamp: &Stamp) -> Self {
        Self { ino: stamp.ino, mtime_ns: stamp.mtime_ns, ..self.clone() }
    }
}
