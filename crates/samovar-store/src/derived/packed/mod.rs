//! Packed files: weights in the layout that an engine computes with, so that a later load only maps them.
//!
//! ```text
//!   find(source, key) ─► lease ─► is it what was put there? ─► path, until the lease is dropped
//!        └ none: make ─► lock: one at a time ─► room, of what can be made again only ─► packing/<id>/data
//!                          └ another makes it: said, not waited for                        │ the engine writes
//!   packed/<source>/<id>/{data, facts.json} ◄── rename ◄── fsync, digest ◄── commit ◄──────┘
//! ```
//!
//! `<source>` is made of what the weights are known by, which no others may share, `<id>` of that and the engine's
//! key: a file is only ever found by those who would write the same. Equal bytes that are known by two names are
//! packed twice. Its directory gets its name when all of it is on
//! the disk, so that the directories are the truth; nothing of this is in the index. When a file was used last
//! is the time of its facts.
//!
//! It is a copy of what can be made again: it leaves before anything else does, and with the artifact it was
//! made of. It never keeps anything else alive, pushes nothing out that had to be fetched or computed for a
//! request, and is never exported.

mod check;
pub(crate) mod entries;
mod facts;
mod making;
mod open;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use check::verify;
pub use entries::PackedFacts;
pub use making::{Make, Making};
pub(crate) use open::Remembered;

use crate::artifact::key::KeyDigest;
use crate::disk::lease::BlobLease;
use crate::error::Error;
use crate::store::Store;
use facts::{Name, PackedMetadata};

/// Bytes of a source or a key.
const TEXT_BYTES: usize = 16 << 10;

/// The packed files of a store. Cheap to make and to clone.
#[derive(Clone)]
pub struct PackedFiles {
    store: Store,
}

/// A packed file that stays where it is until this is dropped, whatever any process collects. Only one that is damaged,
/// or that its engine refuses, goes all the same: what is open or mapped outlives its name.
///
/// One of a read-only store is not leased: the keeper of that store decides.
#[derive(Debug)]
pub struct OpenedPacked {
    path: PathBuf,
    facts: PackedMetadata,
    _lease: BlobLease,
}

/// How much was packed of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedUse {
    /// How many files.
    pub count: u64,
    /// Bytes that they take on the disk.
    pub bytes: u64,
}

impl Store {
    /// The packed files of this store. Looks at nothing yet.
    pub fn packed(&self) -> PackedFiles {
        PackedFiles { store: self.clone() }
    }
}

impl PackedFiles {
    /// Opens the file that was packed of these weights under this key, and notes that it was used. Blocks for about
    /// a hundred microseconds; a file that was touched since it was made is read whole, once (one of a read-only store
    /// once in each process). One that is not what was put there goes.
    ///
    /// `source` tells the weights' bytes from all others: their digest, or a file's stamp.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn find(&self, source: &str, key: &str) -> Result<Option<OpenedPacked>, Error> {
        let inner = &*self.store.0;
        open::find(&inner.local, &inner.packed, &Name::of(source, key))
    }

    /// Begins to make the file of these weights and this key. Who begins is the only one in all processes until
    /// the answer is dropped. `expected_bytes` is what it will take on the disk: for so much is looked first, and
    /// only what can be made again goes for it. Blocks for milliseconds, and for as long as unlinking takes where
    /// something has to go.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when it does not fit beside what has to stay; [`Error::ReadOnly`] where nothing can be
    /// written; or whatever the disk says. Then nothing was changed.
    pub fn make(
        &self,
        source: &str,
        key: &str,
        expected_bytes: u64,
        parent: Option<KeyDigest>,
    ) -> Result<Make, Error> {
        if source.len().max(key.len()) > TEXT_BYTES {
            return Err(Error::Unsupported {
                message: format!("the name of a packed file has more than {TEXT_BYTES} bytes"),
                hint: "name weights and engine by digests".to_owned(),
            });
        }
        making::begin(&self.store, source, key, expected_bytes, parent)
    }

    /// Lets a file go that the engine does not take, and counts it as refused; one of a read-only store is not
    /// offered again by this process. Telling people is up to the caller, who knows what comes next. Not being able
    /// to is no harm.
    pub fn discard(&self, source: &str, key: &str, why: &str) {
        let inner = &*self.store.0;
        open::discard(&inner.local.cache, &inner.packed.refused, &Name::of(source, key), why);
    }

    /// Lets a sound file go that is of no use, so that it costs no disk; one that is used all the same stays, and
    /// so does one of a read-only store. Not being able to is no harm.
    pub fn give_up(&self, source: &str, key: &str) {
        open::give_up(&self.store.0.local.cache.layout, &Name::of(source, key));
    }

    /// All that are here, those of one source together. Blocks for a look at each.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn list(&self) -> Result<Vec<PackedFacts>, Error> {
        let kept = entries::kept(&self.store.0.local.cache.layout).map_err(entries::unlisted())?;
        Ok(kept.into_iter().filter_map(entries::PackedEntry::into_file).collect())
    }

    /// How much was packed of an artifact, for all engines. Blocks for a look at each file.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn of(&self, artifact: &KeyDigest) -> Result<PackedUse, Error> {
        let files = self.list()?;
        let of_it = || files.iter().filter(|file| file.parent == Some(*artifact));
        Ok(PackedUse { count: of_it().count() as u64, bytes: of_it().map(|file| file.bytes).sum() })
    }
}

impl OpenedPacked {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes, holes included.
    pub fn bytes(&self) -> u64 {
        self.facts.bytes
    }

    /// When it was made, in milliseconds since 1970.
    pub fn created_ms(&self) -> u64 {
        self.facts.created_ms
    }
}

impl std::fmt::Debug for PackedFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedFiles").finish_non_exhaustive()
    }
}
