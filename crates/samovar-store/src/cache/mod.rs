//! The store's own directory: blobs and manifests are the truth, and the index is filled from them.
//!
//! An index that was lost or damaged is filled again from the manifests, and one that cannot be had bars a store from
//! being written.

pub(crate) mod blob;
pub(crate) mod manifests;
pub(crate) mod tier;

use std::path::PathBuf;
use std::sync::Arc;

use samovar_core::{Digest, Failure};

use crate::artifact::Artifact;
use crate::disk::ballast;
use crate::disk::layout::Layout;
use crate::disk::lease::BlobLeases;
use crate::disk::lock::{FileLock, Hold};
use crate::error::Error;
use crate::index::{self, BlobRow, Index, Journal, Was};

/// What lies in a store's own directory.
pub(crate) struct Cache {
    pub(crate) layout: Layout,
    pub(crate) index: Index,
    pub(crate) leases: Arc<BlobLeases>,
    /// Why nothing can be put here.
    read_only_reason: Option<ReadOnlyReason>,
}

/// Why nothing can be put into a store.
enum ReadOnlyReason {
    ReadOnly,
    Failed(Failure),
}

impl Cache {
    /// The cache of these paths, with an index that is filled; and what was set aside because it was damaged. Where no
    /// index can be had, it is an empty one in memory, and nothing can be put here.
    ///
    /// # Errors
    /// When the index can neither be opened nor filled.
    pub(crate) fn open(layout: Layout) -> Result<(Self, Option<PathBuf>), Error> {
        let (index, aside, read_only_reason) = open_index(&layout)?;
        let cache = Self { leases: BlobLeases::new(layout.clone()), layout, index, read_only_reason };
        cache.recover_index()?;
        Ok((cache, aside))
    }

    /// Whether nothing can be put here.
    pub(crate) fn is_barred(&self) -> bool {
        self.read_only_reason.is_some()
    }

    /// Whether something can be put here.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn writable(&self, subject: &str) -> Result<(), Error> {
        match &self.read_only_reason {
            None => Ok(()),
            Some(ReadOnlyReason::ReadOnly) => {
                Err(Error::ReadOnly { subject: subject.to_owned(), path: self.layout.root().to_owned() })
            }
            Some(ReadOnlyReason::Failed(failure)) => Err(Error::Shared(failure.clone())),
        }
    }

    /// Fills the index again when its file was lost.
    ///
    /// # Errors
    /// When it can neither be opened nor filled.
    pub(crate) fn recover_index(&self) -> Result<(), Error> {
        if self.read_only_reason.is_none() && self.index.check_alive()? {
            // What a collection is just taking away must not be found here and filled in.
            let (root, gc_lock) = (self.layout.root(), self.layout.gc_lock());
            let _shared = FileLock::wait(root, &gc_lock, Hold::Shared)
                .map_err(Error::io("the cache could not be locked"))?;
            let filled = manifests::fill(&self.layout, &self.index)?;
            tracing::info!(filled, "the index was built again from the manifests");
        }
        Ok(())
    }

    /// Asks the index, once more after it was filled again when it turns out to be damaged.
    pub(crate) fn with_index<T>(&self, ask: impl Fn(&Index) -> Result<T, Error>) -> Result<T, Error> {
        self.recover_index()?;
        match ask(&self.index) {
            Err(Error::Index { .. }) => {
                self.recover_index()?;
                ask(&self.index)
            }
            answer => answer,
        }
    }

    /// The row of a blob that is here and right. A damaged one is not here any more: it was set aside.
    ///
    /// # Errors
    /// As [`blob::settle`], but for damage.
    pub(crate) fn here(&self, digest: &Digest, size: Option<u64>) -> Result<Option<BlobRow>, Error> {
        let Self { layout, index, .. } = self;
        let size = match size {
            Some(size) => size,
            None => match blob::locate(layout, digest)? {
                Some(place) => place.stamp.size,
                None => return Ok(None),
            },
        };
        match blob::settle(layout, index, digest, size) {
            Ok(Some(place)) => {
                let row = index.blob(digest)?;
                Ok(Some(row.unwrap_or_else(|| blob::unhashed(digest, &place))))
            }
            Ok(None) | Err(Error::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether every file of an artifact is here and unchanged.
    ///
    /// # Errors
    /// When a file cannot be looked at or read.
    pub(crate) fn is_right(&self, artifact: &Artifact) -> Result<bool, Error> {
        for file in &artifact.files {
            if self.here(&file.digest, Some(file.size))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The index of a store; what was set aside because it was damaged; where none can be had, an empty one and why.
fn open_index(layout: &Layout) -> Result<(Index, Option<PathBuf>, Option<ReadOnlyReason>), Error> {
    if !layout.is_writable() {
        return Ok((Index::in_memory()?, None, Some(ReadOnlyReason::ReadOnly)));
    }
    let journal = if layout.is_network() { Journal::Rollback } else { Journal::Wal };
    let mut opened = Index::open(layout.index_path(), journal);
    if opened.is_err() && ballast::give_up_if_full(layout) {
        opened = Index::open(layout.index_path(), journal);
    }
    match opened {
        Ok(index::Opened { index, was: Was::SetAside(aside) }) => Ok((index, Some(aside), None)),
        Ok(opened) => Ok((opened.index, None, None)),
        Err(error) => {
            tracing::warn!(%error, "the index cannot be used; what is in the cache is served without it");
            Ok((Index::in_memory()?, None, Some(ReadOnlyReason::Failed(Failure::from(&error)))))
        }
    }
}
