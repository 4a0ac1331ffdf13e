//! The store at one moment, as the plan of a collection sees it: values only, taken by the survey.

use std::collections::HashMap;

use samovar_core::Digest;
use serde::{Deserialize, Serialize};

use crate::artifact::key::KeyDigest;

/// The store at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) artifacts: Vec<ArtifactFacts>,
    pub(crate) blobs: HashMap<Digest, BlobFacts>,
    pub(crate) leftovers: Vec<Leftover>,
    /// Bytes that downloads on their way will still take.
    pub(crate) promised_bytes: u64,
    /// Bytes of the disk that we may still write.
    pub(crate) free_disk_bytes: u64,
}

/// What is known of an artifact.
#[derive(Clone, Debug)]
pub(crate) struct ArtifactFacts {
    pub(crate) key: KeyDigest,
    pub(crate) blobs: Vec<Digest>,
    pub(crate) is_pinned: bool,
    /// Since its last use, in time that the store saw.
    pub(crate) idle_ms: u64,
    /// What keeping it saves; the lowest goes first.
    pub(crate) rank: f64,
}

/// What is known of a blob that the index has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlobFacts {
    /// Bytes that the disk gains when it goes.
    pub(crate) frees_bytes: u64,
    /// Leased, or locked by a process that fetches it.
    pub(crate) is_held: bool,
    /// Since it was made.
    pub(crate) idle_ms: u64,
}

/// Something that no artifact needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) kind: LeftoverKind,
    pub(crate) bytes: u64,
    /// Since it was written last.
    pub(crate) idle_ms: u64,
    /// A process works on it, or uses it.
    pub(crate) is_held: bool,
    /// It cannot be wanted any more, however young it is.
    pub(crate) is_needless: bool,
    /// Something better of the same is there.
    pub(crate) is_outdone: bool,
    /// The artifact that it leaves with.
    pub(crate) parent: Option<KeyDigest>,
}

impl Leftover {
    /// One of nothing, and unused.
    pub(crate) fn of(kind: LeftoverKind, idle_ms: u64) -> Self {
        let (is_held, is_needless, is_outdone) = (false, false, false);
        Self { kind, bytes: 0, idle_ms, is_held, is_needless, is_outdone, parent: None }
    }
}

/// Why it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftoverKind {
    /// A download that broke off.
    Partial,
    /// A blob or a snapshot that no artifact needs.
    Orphan,
    /// A file that was under construction.
    Tmp,
    /// What a collection could not unlink any more.
    Trash,
    /// What was found damaged.
    Quarantine,
    /// Prompt state that can be computed again.
    Prefix,
    /// Weights in an engine's own layout, which can be made again.
    Packed,
    /// A published model in a format that an engine maps, which can be prepared again.
    Prepared,
}

impl LeftoverKind {
    /// Whether it is a file that an engine made, which a lease keeps.
    pub(super) const fn is_derived_file(self) -> bool {
        matches!(self, Self::Packed | Self::Prepared)
    }
}

/// Whether a process uses it: one that opened it holds each of its blobs. One that shares a blob with
/// another artifact in use is not in use for that.
pub(crate) fn is_in_use(artifact: &ArtifactFacts, blobs: &HashMap<Digest, BlobFacts>) -> bool {
    !artifact.blobs.is_empty()
        && artifact.blobs.iter().all(|digest| blobs.get(digest).is_some_and(|blob| blob.is_held))
}

/// All bytes that are ours, or will be.
pub(crate) fn used_bytes(view: &View) -> u64 {
    let blobs: u64 = view.blobs.values().map(|blob| blob.frees_bytes).sum();
    let leftovers: u64 = view.leftovers.iter().map(|leftover| leftover.bytes).sum();
    blobs + leftovers + view.promised_bytes
}
