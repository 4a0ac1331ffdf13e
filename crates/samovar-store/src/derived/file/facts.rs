//! What is written beside a derived file: what it was made of and for, and what its bytes must be.

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
/// The engine's bytes, in a derived file's directory.
pub(super) const DATA: &str = "data";
/// This, beside them.
pub(super) const FACTS: &str = "facts.json";
/// Bytes of it that are read at all.
const FACTS_BYTES: u64 = 256 << 10;

/// What a derived file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DerivedKind {
    /// Weights in the layout that an engine computes with.
    #[default]
    Packed,
    /// A model as its author published it, in the format that an engine maps.
    Prepared,
}

/// An event that is counted for each kind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counted {
    Made,
    Opened,
    Damaged,
    Refused,
}

impl DerivedKind {
    pub(crate) const ALL: [Self; 2] = [Self::Packed, Self::Prepared];

    /// Where all of the kind lie.
    pub(super) fn folder(self, layout: &Layout) -> PathBuf {
        match self {
            Self::Packed => layout.packed(),
            Self::Prepared => layout.prepared(),
        }
    }

    /// Files of one source that stay when another is made. Of packed files: its own, and one for another build on the same
    /// disk. A model may be prepared in several number formats, each of which a name asks for.
    pub(super) const fn kept_of_source(self) -> usize {
        match self {
            Self::Packed => 2,
            Self::Prepared => 4,
        }
    }

    /// What is made, for people.
    pub(super) const fn subject(self) -> &'static str {
        match self {
            Self::Packed => "a model's packed weights",
            Self::Prepared => "a prepared model",
        }
    }

    pub(super) const fn counter(self, of: Counted) -> &'static str {
        match (self, of) {
            (Self::Packed, Counted::Made) => "packed_made",
            (Self::Packed, Counted::Opened) => "packed_opened",
            (Self::Packed, Counted::Damaged) => "packed_damaged",
            (Self::Packed, Counted::Refused) => "packed_refused",
            (Self::Prepared, Counted::Made) => "prepared_made",
            (Self::Prepared, Counted::Opened) => "prepared_opened",
            (Self::Prepared, Counted::Damaged) => "prepared_damaged",
            (Self::Prepared, Counted::Refused) => "prepared_refused",
        }
    }

    /// Begins the text that names are made of.
    const fn word(self) -> &'static str {
        match self {
            Self::Packed => "packed",
            Self::Prepared => "prepared",
        }
    }
}

/// The facts of a derived file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DerivedMetadata {
    format: u32,
    #[serde(default)]
    kind: DerivedKind,
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

/// Which derived file, as names of directories and of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(super) kind: DerivedKind,
    source: Digest,
    pub(crate) id: Digest,
}

impl Name {
    pub(super) fn of(kind: DerivedKind, source: &str, key: &str) -> Self {
        let word = kind.word();
        let id = format!("samovar {word} {FORMAT}\n{}:{source}\n{}:{key}\n", source.len(), key.len());
        let source = format!("samovar {word} {FORMAT}\n{source}\n");
        Self { kind, source: Digest::of_bytes(source.as_bytes()), id: Digest::of_bytes(id.as_bytes()) }
    }

    /// Its directory.
    pub(super) fn place(&self, layout: &Layout) -> PathBuf {
        self.kind.folder(layout).join(self.source.to_string()).join(self.id.to_string())
    }

    /// What is locked while it is made.
    pub(super) fn work(&self) -> PartialId {
        PartialId::of_digest(self.id)
    }
}

/// What a derived file is made of, and for what.
#[derive(Clone, Debug)]
pub(super) struct DerivedFrom {
    pub(super) kind: DerivedKind,
    pub(super) source: String,
    pub(super) key: String,
    pub(super) parent: Option<KeyDigest>,
}

impl DerivedFrom {
    pub(super) fn name(&self) -> Name {
        Name::of(self.kind, &self.source, &self.key)
    }
}

impl DerivedMetadata {
    pub(super) fn new(of: &DerivedFrom, digest: Digest, stamp: Stamp, created_ms: u64) -> Self {
        Self {
            format: FORMAT,
            kind: of.kind,
            source: of.source.clone(),
            key: of.key.clone(),
            parent: of.parent,
            bytes: stamp.size,
            digest,
            ino: stamp.ino,
            mtime_ns: stamp.mtime_ns,
            created_ms,
        }
    }

    /// Reads the facts in a derived file's directory; `None` when they are none of this name.
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
        Name::of(self.kind, &self.source, &self.key)
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
