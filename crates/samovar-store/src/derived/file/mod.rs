//! Files that an engine made of a model, so that a later load only maps them: packed weights, and prepared models.
//!
//! ```text
//!   find(source, key) ─► lease ─► is it what was put there? ─► path, until the lease is dropped
//!        └ none: make ─► lock: one at a time ─► room ─► packing/<id>/data
//!                          └ another makes it: said, not waited for  │ the engine writes
//!   <kind>/<source>/<id>/{data, facts.json} ◄── rename ◄── fsync, digest ◄── commit
//! ```
//!
//! **Packed files** have a model's weights in the layout that an engine computes with. **Prepared files** are models that were
//! published in a format that no engine maps, converted and written in a number format.
//!
//! `<source>` is made of what the weights are known by, which no others may share, `<id>` of that and the engine's
//! key: a file is only ever found by those who would write the same. Equal bytes that are known by two names are
//! packed twice. Its directory gets its name when all of it is on
//! the disk, so that the directories are the truth; nothing of this is in the index. When a file was used last
//! is the time of its facts.
//!
//! It is a copy of what can be made again: it leaves with the artifact it was made of, and before any artifact does; packed
//! files leave before everything else, prepared ones after saved prompts. It never keeps anything else alive, and is never
//! exported. A packed file pushes nothing out that had to be fetched or computed for a request; a prepared one, without which
//! its model cannot be used, gets room as a download does.

mod check;
pub(crate) mod entries;
mod facts;
mod making;
mod open;

use std::path::{Path, PathBuf};

use samovar_core::Digest;
use serde::{Deserialize, Serialize};

pub(crate) use check::verify;
pub use entries::DerivedFacts;
pub use making::{Make, Making};
pub(crate) use open::Remembered;

use crate::artifact::key::KeyDigest;
use crate::disk::lease::BlobLease;
use crate::disk::trash::empty_trash;
use crate::error::Error;
use crate::store::Store;
pub(crate) use facts::DerivedKind;
use facts::{DerivedFrom, DerivedMetadata, Name};

/// Bytes of a source or a key.
const TEXT_BYTES: usize = 16 << 10;

/// The packed or the prepared files of a store. Cheap to make and to clone.
#[derive(Clone)]
pub struct DerivedFiles {
    store: Store,
    kind: DerivedKind,
}

/// A derived file that stays where it is until this is dropped, whatever any process collects. Only one that is damaged,
/// or that its engine refuses, goes all the same: what is open or mapped outlives its name.
///
/// One of a read-only store is not leased: the keeper of that store decides.
#[derive(Debug)]
pub struct OpenedDerived {
    path: PathBuf,
    facts: DerivedMetadata,
    _lease: BlobLease,
}

/// How much was made of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DerivedUse {
    /// How many files.
    pub count: u64,
    /// Bytes that they take on the disk.
    pub bytes: u64,
}

impl Store {
    /// The packed files of this store. Looks at nothing yet.
    pub fn packed(&self) -> DerivedFiles {
        DerivedFiles { store: self.clone(), kind: DerivedKind::Packed }
    }

    /// The prepared files of this store. Looks at nothing yet.
    pub fn prepared(&self) -> DerivedFiles {
        DerivedFiles { store: self.clone(), kind: DerivedKind::Prepared }
    }
}

impl DerivedFiles {
    fn name(&self, source: &str, key: &str) -> Name {
        Name::of(self.kind, source, key)
    }

    /// Where the file of these weights and this key lies, and what it is known by, if it seems to be there. Nothing is read,
    /// leased or counted: a load [opens](Self::open) it. Blocks for microseconds.
    pub fn peek(&self, source: &str, key: &str) -> Option<(PathBuf, Digest)> {
        let (inner, name) = (&*self.store.0, self.name(source, key));
        Some((open::peek(&inner.local, &inner.derived, &name)?, name.id))
    }

    /// As [`find`](Self::find), for a file that lies at a path which [`peek`](Self::peek) gave.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn open(&self, path: &Path) -> Result<Option<OpenedDerived>, Error> {
        let inner = &*self.store.0;
        let name = open::named(&inner.local, path).map_err(Error::io("a derived file could not be read"))?;
        match name.filter(|name| name.kind == self.kind) {
            Some(name) => open::find(&inner.local, &inner.derived, &name),
            None => Ok(None),
        }
    }

    /// Opens the file that was made of these weights under this key, and notes that it was used. Blocks for about
    /// a hundred microseconds; a file that was touched since it was made is read whole, once (one of a read-only store
    /// once in each process). One that is not what was put there goes.
    ///
    /// `source` tells the weights' bytes from all others: their digest, or a file's stamp.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn find(&self, source: &str, key: &str) -> Result<Option<OpenedDerived>, Error> {
        let inner = &*self.store.0;
        open::find(&inner.local, &inner.derived, &self.name(source, key))
    }

    /// Begins to make the file of these weights and this key. Who begins is the only one in all processes until
    /// the answer is dropped. `expected_bytes` is what it will take on the disk, further files included: for so much is looked
    /// first, and for a packed file only what can be made again goes. Blocks for milliseconds, and for as long as unlinking takes where
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
                message: format!("the name of a derived file has more than {TEXT_BYTES} bytes"),
                hint: "name weights and engine by digests".to_owned(),
            });
        }
        let (source, key) = (source.to_owned(), key.to_owned());
        making::begin(&self.store, DerivedFrom { kind: self.kind, source, key, parent }, expected_bytes)
    }

    /// Lets a file go that the engine does not take, and counts it as refused; one of a read-only store is not
    /// offered again by this process. Telling people is up to the caller, who knows what comes next. Not being able
    /// to is no harm.
    pub fn discard(&self, source: &str, key: &str, why: &str) {
        let inner = &*self.store.0;
        open::discard(&inner.local.cache, &inner.derived.refused, &self.name(source, key), why);
    }

    /// Lets a sound file go that is of no use, so that it costs no disk; one that is used all the same stays, and
    /// so does one of a read-only store. Not being able to is no harm.
    pub fn give_up(&self, source: &str, key: &str) {
        open::give_up(&self.store.0.local.cache.layout, &self.name(source, key));
    }

    /// Lets a file of the [list](Self::list) go, unless it is used. Whether it went.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] where nothing can be removed; whatever else the disk says.
    pub fn remove(&self, file: &DerivedFacts) -> Result<bool, Error> {
        let (cache, name) = (&self.store.0.local.cache, self.name(&file.source, &file.key));
        cache.writable(self.kind.subject())?;
        let has_gone = entries::take_unless_held(&cache.layout, &name.place(&cache.layout), Some(name.id))?;
        empty_trash(&cache.layout);
        Ok(has_gone)
    }

    /// All that are here, those of one source together. Blocks for a look at each.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn list(&self) -> Result<Vec<DerivedFacts>, Error> {
        let kept = entries::kept(&self.store.0.local.cache.layout, self.kind).map_err(entries::unlisted())?;
        Ok(kept.into_iter().filter_map(entries::DerivedEntry::into_file).collect())
    }

    /// How much was made of an artifact, for all engines. Blocks for a look at each file.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn of(&self, artifact: &KeyDigest) -> Result<DerivedUse, Error> {
        let files = self.list()?;
        let of_it = || files.iter().filter(|file| file.parent == Some(*artifact));
        Ok(DerivedUse { count: of_it().count() as u64, bytes: of_it().map(|file| file.bytes).sum() })
    }
}

impl OpenedDerived {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes, holes included.
    pub fn bytes(&self) -> u64 {
        self.facts.bytes
    }

    /// The artifact that it was made of; `None` for what is not the store's.
    pub fn parent(&self) -> Option<KeyDigest> {
        self.facts.parent
    }

    /// When it was made, in milliseconds since 1970.
    pub fn created_ms(&self) -> u64 {
        self.facts.created_ms
    }
}

impl std::fmt::Debug for DerivedFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DerivedFiles").field("kind", &self.kind).finish_non_exhaustive()
    }
}
