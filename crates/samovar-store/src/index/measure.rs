//! A door to the index for the bench that measures it; nothing else uses it.

use std::path::Path;

use samovar_core::Digest;

use super::{BlobRow, BlobState, Entry, Index, Journal, Origin, Stamp, now_ms};
use crate::artifact::Artifact;
use crate::error::Error;
use crate::key::KeyDigest;
use crate::manifest::Manifest;

/// The index of a store without its store.
pub struct MeasuredIndex(Index);

impl MeasuredIndex {
    /// Opens or makes an index with a write-ahead log.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let opened = Index::open(path, Journal::Wal)?;
        opened.index.set_rebuilt()?;
        Ok(Self(opened.index))
    }

    /// Records artifacts whose blobs are all as their manifests say, in one transaction.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn commit(&self, manifests: &[Manifest]) -> Result<(), Error> {
        let blobs: Vec<Vec<BlobRow>> = manifests.iter().map(blobs).collect();
        let manifest_digest = Digest::of_bytes(b"a manifest's file");
        let entries: Vec<Entry<'_>> = manifests
            .iter()
            .zip(&blobs)
            .map(|(manifest, blobs)| Entry { manifest, manifest_digest, blobs })
            .collect();
        self.0.commit_artifacts(&entries)
    }

    /// The artifact of this canonical text.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn by_reference(&self, reference: &str) -> Result<Option<Artifact>, Error> {
        self.0.by_reference(reference)
    }

    /// The artifact of this key.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn artifact(&self, key: &KeyDigest) -> Result<Option<Artifact>, Error> {
        self.0.artifact(key)
    }

    /// All artifacts.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn artifacts(&self) -> Result<Vec<Artifact>, Error> {
        self.0.artifacts()
    }

    /// Notes a hit.
    pub fn note_hit(&self, key: &KeyDigest) {
        self.0.note(key, super::Use::Hit);
    }

    /// Writes what was noted.
    pub fn flush(&self) {
        self.0.flush();
    }
}

fn blobs(manifest: &Manifest) -> Vec<BlobRow> {
    let row = |(place, file): (usize, &crate::manifest::ManifestFile)| BlobRow {
        digest: file.digest,
        size: file.size,
        state: BlobState::Ready,
        verified_ms: now_ms(),
        stamp: Stamp {
            dev: 64_769,
            ino: 9_000_000 + place as u64,
            mtime_ns: now_ms().cast_signed() * 1_000_000,
            size: file.size,
        },
        origin: Origin::Owned,
        created_ms: manifest.created_ms,
    };
    manifest.files.iter().enumerate().map(row).collect()
}
