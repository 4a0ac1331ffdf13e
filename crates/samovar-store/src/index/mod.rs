//! The index: what the store has, how it was used, and where names led, in one SQLite file.
//!
//! ```text
//!   blob ◄── artifact_file ──► artifact ◄── reference   (canonical text → artifact)
//!   (bytes by digest)            ▲    ▲
//!                              usage  ref (moving name → commit)      counters  memo  fact
//!
//!   lookups ──► connection for reading ──┐
//!                                        ├──► index.sqlite3
//!   changes ──► connection for writing ──┘
//!   uses, counters ──► in memory ──(about once a second)──► connection for writing
//! ```
//!
//! It is a memo: everything that matters can be built again from manifests and blobs. So a file that
//! is damaged is set aside and a fresh one begun, and the owner of the index is told to fill it.
//!
//! It never reads a model's bytes, never deletes a file of the store, and never waits on an event loop:
//! all calls block, mostly for microseconds.

mod access;
mod artifacts;
mod blobs;
mod commit;
mod connect;
mod damage;
mod names;
mod open_lock;
mod pending;
mod rescue;
mod row;
mod schema;
mod usage;

use std::path::{Path, PathBuf};

pub(crate) use commit::Entry;
pub(crate) use row::{BlobRow, BlobState, Ownership};
pub(crate) use usage::Use;

pub(crate) use crate::disk::stamp::Stamp;
use crate::error::Error;
use access::Access;
use pending::Pending;

/// How SQLite keeps its transactions whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Journal {
    /// A write-ahead log: readers and a writer do not disturb each other. Needs a local disk.
    Wal,
    /// A rollback journal: works wherever file locks do.
    Rollback,
}

/// What was found under the index's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Was {
    /// Nothing, or an index that was not filled yet: the caller fills it and says [`Index::set_rebuilt`].
    Fresh,
    /// An index in order.
    Existing,
    /// Something that is no usable index. It has this name now; the caller fills the fresh one.
    SetAside(PathBuf),
}

/// An index, and what was found when it was opened.
pub(crate) struct Opened {
    pub(crate) index: Index,
    pub(crate) was: Was,
}

/// The index of a store. Shared by threads by reference, and by processes through its file.
pub(crate) struct Index {
    access: std::sync::Arc<Access>,
    pending: Pending,
}

impl Index {
    /// Opens or makes the index in this file, bringing an older one up to date.
    ///
    /// Beside the file lie `<name>.lock`, held while it is opened or replaced, and SQLite's own.
    ///
    /// # Errors
    /// [`Error::Newer`] for the index of a newer program, which is left as it is; [`Error::Locked`] when
    /// another process keeps it for too long; [`Error::Io`] or [`Error::Index`] when the file system says no.
    pub(crate) fn open(path: &Path, journal: Journal) -> Result<Opened, Error> {
        let (access, was) = Access::open(path, journal)?;
        Ok(Opened { index: Self::over(access), was })
    }

    /// An index that lives in memory and ends with its owner, for stores that can only be read.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn in_memory() -> Result<Self, Error> {
        Ok(Self::over(Access::in_memory()?))
    }

    fn over(access: Access) -> Self {
        let access = std::sync::Arc::new(access);
        Self { pending: Pending::over(std::sync::Arc::clone(&access)), access }
    }

    /// Looks whether the file is still the one that is open, and opens it anew where it was deleted or
    /// replaced. True = the caller must fill the index again, now or because of what an earlier call met;
    /// it stays true, also for later processes, until [`Index::set_rebuilt`].
    ///
    /// # Errors
    /// As [`Index::open`].
    pub(crate) fn check_alive(&self) -> Result<bool, Error> {
        self.access.check_alive()
    }

    /// Says that the index now holds all that the manifests say.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub(crate) fn set_rebuilt(&self) -> Result<(), Error> {
        self.access.set_rebuilt()
    }

    /// Writes the uses and counters that were only noted so far. What cannot be written now is kept for later.
    pub(crate) fn flush(&self) {
        self.pending.flush();
    }
}

/// Milliseconds since 1970 by the system's clock, which may be wrong.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
