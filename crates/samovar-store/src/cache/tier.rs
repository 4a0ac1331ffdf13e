//! Stores that are only read: searched before anything is fetched, and never written.
//!
//! A tier has no index of its own here: one in memory is filled from its manifests, again whenever they
//! change. Nothing is leased in a tier; its keeper keeps what its readers use. On Linux a file that is
//! mapped outlives its name.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::cache::manifests;
use crate::disk::layout::Layout;
use crate::error::Error;
use crate::index::{Index, Stamp};

/// Which store had an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Location {
    /// The cache itself.
    Cache,
    /// A store that is only read: this directory.
    ReadOnly(PathBuf),
}

/// A store that is only read.
pub(crate) struct ReadOnly {
    pub(crate) layout: Layout,
    filled: Mutex<Option<Filled>>,
}

struct Filled {
    /// The manifests' directory at the time.
    stamp: Option<Stamp>,
    index: Arc<Index>,
}

impl ReadOnly {
    /// The store in this directory.
    ///
    /// # Errors
    /// When there is none, or one of a later format.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self { layout: Layout::open_read_only(dir)?, filled: Mutex::new(None) })
    }

    /// What is in it now.
    ///
    /// # Errors
    /// When its manifests cannot be listed.
    pub(crate) fn index(&self) -> Result<Arc<Index>, Error> {
        let stamp = fs_err::metadata(self.layout.manifests()).ok().map(|facts| Stamp::of(&facts));
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filled) = filled.as_ref().filter(|filled| filled.stamp == stamp) {
            return Ok(Arc::clone(&filled.index));
        }
        let index = Index::in_memory()?;
        manifests::fill(&self.layout, &index)?;
        let index = Arc::new(index);
        *filled = Some(Filled { stamp, index: Arc::clone(&index) });
        Ok(index)
    }
}

/// The stores that are only read, in the order in which they are asked.
pub(crate) struct Tiers(Vec<ReadOnly>);

impl Tiers {
    /// Those in these directories. One that is not there today is left out, and does not hide the others.
    pub(crate) fn open(dirs: &[PathBuf]) -> Self {
        let open = |dir: &PathBuf| match ReadOnly::open(dir) {
            Ok(tier) => Some(tier),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "a read-only store is left out");
                None
            }
        };
        Self(dirs.iter().filter_map(open).collect())
    }

    /// The same, with one that is asked before the others.
    pub(crate) fn after(mut self, first: ReadOnly) -> Self {
        self.0.insert(0, first);
        self
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[ReadOnly] {
        &self.0
    }

    /// The first that knows an answer gives it; one that cannot be asked is passed over.
    pub(crate) fn first<T>(&self, ask: impl Fn(&Layout, &Index) -> Result<Option<T>, Error>) -> Option<T> {
        self.0.iter().find_map(|tier| {
            let answer = tier.index().and_then(|index| ask(&tier.layout, &index));
            answer.unwrap_or_else(|error| {
                tracing::warn!(dir = %tier.layout.root().display(), %error, "a read-only store is passed over");
                None
            })
        })
    }
}
