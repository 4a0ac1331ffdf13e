//! An index that was lost or damaged is filled again from the manifests, and one that cannot be had bars a store from
//! being written.

use std::path::PathBuf;

use samovar_core::Failure;

use crate::ballast;
use crate::error::Error;
use crate::index::{self, Index, Journal, Was};
use crate::layout::Layout;
use crate::lock::{FileLock, Hold};
use crate::manifests;
use crate::store::Inner;

/// Why nothing can be put into a store.
pub(crate) enum Bar {
    ReadOnly,
    Failed(Failure),
}

/// The index of a store; what was set aside because it was damaged; where none can be had, an empty one and why.
pub(crate) fn open(layout: &Layout) -> Result<(Index, Option<PathBuf>, Option<Bar>), Error> {
    if !layout.is_writable() {
        return Ok((Index::in_memory()?, None, Some(Bar::ReadOnly)));
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
            Ok((Index::in_memory()?, None, Some(Bar::Failed(Failure::from(&error)))))
        }
    }
}

impl Inner {
    /// Fills the index again when its file was lost.
    ///
    /// # Errors
    /// When it can neither be opened nor filled.
    pub(crate) fn heal(&self) -> Result<(), Error> {
        if self.barred.is_none() && self.index.check_alive()? {
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
        self.heal()?;
        match ask(&self.index) {
            Err(Error::Index { .. }) => {
                self.heal()?;
                ask(&self.index)
            }
            answer => answer,
        }
    }
}
