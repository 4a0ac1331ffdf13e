//! The way to the file: one connection for lookups, one for changes, both replaced when the file is.
//!
//! A change that waits for the disk or for another process does not hold up a lookup. Every change asks
//! first whether the open file is still the one under its name, so that nothing is written to a file that
//! is never read again. Lookups go on answering from the file that they have.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::connect::{Connections, connect_or_begin, in_memory};
use super::open_lock::OpenLock;
use super::{Journal, Was, connect, damage, schema};
use crate::error::Error;

/// How long a call waits for another process.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How often a change is tried anew because the file went away.
const MOVES: usize = 8;
/// What errors call an index in memory.
const MEMORY: &str = ":memory:";

/// What a change must survive once its call has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// The end of this process.
    Process,
    /// The loss of power.
    Power,
}

/// The connections to an index.
pub(super) struct Access {
    /// The file; `None` = in memory.
    path: Option<PathBuf>,
    journal: Journal,
    /// Locked before `reads` where both are.
    writes: Mutex<Writer>,
    /// `None` = lookups use the one connection that there is.
    reads: Mutex<Option<Connection>>,
    identity: Mutex<Identity>,
    /// Counts the files that were opened, so that one damage is not taken for two.
    generation: AtomicU64,
    must_rebuild: AtomicBool,
}

/// Which files are open, by device and inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Identity {
    file: Option<(u64, u64)>,
    log: Option<(u64, u64)>,
}

struct Writer {
    connection: Connection,
    durability: Durability,
}

impl Access {
    /// See [`super::Index::open`].
    pub(super) fn open(path: &Path, journal: Journal) -> Result<(Self, Was), Error> {
        let path = settled(path)?;
        let _turn = OpenLock::take(&path, PATIENCE)?;
        let (connections, was) = connect_or_begin(&path, journal)?;
        let access = Self {
            identity: Mutex::new(Identity::of(&path, connections.file)),
            path: Some(path),
            journal,
            writes: Mutex::new(Writer::over(connections.writes)),
            reads: Mutex::new(Some(connections.reads)),
            generation: AtomicU64::new(0),
            must_rebuild: AtomicBool::new(was != Was::Existing),
        };
        Ok((access, was))
    }

    /// See [`super::Index::in_memory`].
    pub(super) fn in_memory() -> Result<Self, Error> {
        let connection = in_memory().map_err(|error| damage::error(Path::new(MEMORY), &error))?;
        Ok(Self {
            path: None,
            journal: Journal::Rollback,
            writes: Mutex::new(Writer::over(connection)),
            reads: Mutex::new(None),
            identity: Mutex::default(),
            generation: AtomicU64::new(0),
            must_rebuild: AtomicBool::new(true),
        })
    }

    /// Answers a question.
    pub(super) fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let generation = self.generation.load(Ordering::Acquire);
        let reads = lock(&self.reads);
        let answer = match &*reads {
            Some(connection) => query(connection),
            // In memory, where nothing is ever reopened and so the two are never locked the other way round.
            None => query(&lock(&self.writes).connection),
        };
        drop(reads);
        answer.map_err(|error| self.explain(&error, generation))
    }

    /// Makes a change, whole or not at all, waiting up to `timeout` for other processes.
    pub(super) fn write<T>(
        &self,
        durability: Durability,
        timeout: Duration,
        change: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let mut writer = lock(&self.writes);
        for _ in 0..MOVES {
            if self.has_moved() {
                self.reopen(&mut writer)?;
            }
            let generation = self.generation.load(Ordering::Acquire);
            match writer.change(durability, timeout, &change) {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(found)) => return Err(self.newer(found)),
                // The file went away in the midst of it; nothing was changed.
                Err(error) if !damage::is_busy(&error) && self.has_moved() => {
                    tracing::debug!(%error, "the index went away during a change");
                }
                Err(error) => {
                    drop(writer);
                    return Err(self.explain(&error, generation));
                }
            }
        }
        Err(self.restless())
    }

    /// See [`super::Index::check_alive`].
    pub(super) fn check_alive(&self) -> Result<bool, Error> {
        // Nothing is locked while all is well: this is asked often, and a change may be waiting for the disk.
        if self.has_moved() {
            let mut writer = lock(&self.writes);
            if self.has_moved() {
                self.reopen(&mut writer)?;
            }
        }
        Ok(self.must_rebuild.load(Ordering::Acquire))
    }

    /// See [`super::Index::set_rebuilt`].
    pub(super) fn set_rebuilt(&self) -> Result<(), Error> {
        self.write(Durability::Process, PATIENCE, |change| schema::set_rebuilt(change, true))?;
        self.must_rebuild.store(false, Ordering::Release);
        Ok(())
    }

    fn has_moved(&self) -> bool {
        self.path.as_deref().is_some_and(|path| inode_of(path) != lock(&self.identity).file)
    }

    /// Opens what lies under the name now, for both connections.
    fn reopen(&self, writer: &mut Writer) -> Result<(), Error> {
        let path = self.path.as_deref().expect("invariant: only a file can move");
        let _turn = OpenLock::take(path, PATIENCE)?;
        self.reopen_in_turn(path, writer)
    }

    fn reopen_in_turn(&self, path: &Path, writer: &mut Writer) -> Result<(), Error> {
        self.drop_stale_log(path)?;
        let (Connections { writes, reads, file }, _) = connect_or_begin(path, self.journal)?;
        tracing::warn!(path = %path.display(), "the index was replaced while it was open");
        *writer = Writer::over(writes);
        *lock(&self.reads) = Some(reads);
        *lock(&self.identity) = Identity::of(path, file);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.must_rebuild.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes the log of the file that was open away from the one that has its name now: SQLite would play it
    /// into that.
    fn drop_stale_log(&self, path: &Path) -> Result<(), Error> {
        let was = lock(&self.identity).log;
        if was.is_some() && was == log_of(path) {
            damage::set_log_aside(path)?;
        }
        Ok(())
    }

    /// The store's error for SQLite's; sets a damaged file aside on the way, unless that was done already.
    fn explain(&self, error: &rusqlite::Error, generation: u64) -> Error {
        let path = self.path.as_deref().unwrap_or(Path::new(MEMORY));
        if self.path.is_none() || !damage::is_damage(error) {
            return damage::error(path, error);
        }
        match self.replace(path, generation) {
            Ok(()) => Error::Index {
                path: path.to_owned(),
                message: format!("it was damaged ({error}) and is built again from the files"),
            },
            Err(error) => error,
        }
    }

    fn replace(&self, path: &Path, generation: u64) -> Result<(), Error> {
        let mut writer = lock(&self.writes);
        if self.generation.load(Ordering::Acquire) != generation {
            return Ok(());
        }
        match schema::version_of(&writer.connection) {
            Ok(found) if found > schema::VERSION => return Err(self.newer(found)),
            _ => (),
        }
        let _turn = OpenLock::take(path, PATIENCE)?;
        if !self.has_moved() {
            damage::set_aside(path)?;
        }
        self.reopen_in_turn(path, &mut writer)
    }

    fn restless(&self) -> Error {
        let path = self.path.clone().unwrap_or_default();
        Error::Index { path, message: "its file is deleted or replaced again and again".to_owned() }
    }

    fn newer(&self, found: u32) -> Error {
        let path = self.path.clone().unwrap_or_default();
        Error::Newer { path, found, known: schema::VERSION }
    }
}

impl Writer {
    fn over(connection: Connection) -> Self {
        Self { connection, durability: connect::DURABILITY }
    }

    /// The inner error is the version of a newer program, which has changed the tables since; nothing was written.
    fn change<T>(
        &mut self,
        durability: Durability,
        timeout: Duration,
        change: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Result<T, u32>> {
        self.connection.busy_timeout(timeout)?;
        if self.durability != durability {
            let mode = if durability == Durability::Power { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", mode)?;
            self.durability = durability;
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found = schema::version_of(&transaction)?;
        if found > schema::VERSION {
            return Ok(Err(found));
        }
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(Ok(value))
    }
}

/// The path with its directory's links followed, so that SQLite can be told to follow none.
fn settled(path: &Path) -> Result<PathBuf, Error> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = fs_err::canonicalize(directory).map_err(Error::io("the index could not be opened"))?;
    let name = path.file_name().unwrap_or("index.sqlite3".as_ref());
    Ok(directory.join(name))
}

impl Identity {
    fn of(path: &Path, file: Option<(u64, u64)>) -> Self {
        Self { file, log: log_of(path) }
    }
}

fn log_of(path: &Path) -> Option<(u64, u64)> {
    inode_of(&damage::with_suffix(path, "-wal"))
}

/// Device and inode of what has this name, which may be a link.
pub(super) fn inode_of(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    path.symlink_metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn a_change_that_waits_too_long_is_a_clear_error_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.sqlite3");
        let access = Access::open(&path, Journal::Wal).unwrap().0;
        let hog = Connection::open(&path).unwrap();
        hog.execute_batch("BEGIN IMMEDIATE").unwrap();
        let error =
            access.write(Durability::Process, SHORT, |change| schema::set_rebuilt(change, true)).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        hog.execute_batch("COMMIT").unwrap();
        assert!(!access.read(schema::is_rebuilt).unwrap());
    }

    #[test]
    fn a_full_disk_is_an_error_of_its_kind_and_lookups_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::open(&folder.path().join("index.sqlite3"), Journal::Wal).unwrap().0;
        let limit = |pages: u32| {
            let set = format!("PRAGMA max_page_count = {pages}");
            lock(&access.writes).connection.query_row(&set, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        let fill = |bytes: u32| {
            access.write(Durability::Power, PATIENCE, |change| {
                change.execute("INSERT INTO memo VALUES ('a', hex(zeroblob(?1)), 0)", [bytes])
            })
        };
        limit(1);
        let error = fill(100_000).unwrap_err();
        let Error::Io { error: cause, .. } = &error else { panic!("{error}") };
        assert_eq!(cause.kind(), std::io::ErrorKind::StorageFull);
        assert!(error.hint().is_some());
        assert!(!access.read(schema::is_rebuilt).unwrap());
        let memos = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM memo", [], |row| row.get::<_, i64>(0))
        };
        assert_eq!(access.read(memos).unwrap(), 0, "nothing of it is there");
        limit(1 << 20);
        assert_eq!(fill(100_000).unwrap(), 1);
    }

    #[test]
    fn connections_are_set_up_as_the_design_says() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::open(&folder.path().join("index.sqlite3"), Journal::Wal).unwrap().0;
        let said = |connection: &Connection, name: &str| -> i64 {
            connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap()
        };
        let writer = lock(&access.writes);
        let reads = lock(&access.reads);
        for connection in [&writer.connection, reads.as_ref().unwrap()] {
            assert_eq!(said(connection, "mmap_size"), 0);
            assert_eq!(said(connection, "foreign_keys"), 1);
            assert_eq!(said(connection, "busy_timeout"), 10_000);
        }
        assert_eq!(said(reads.as_ref().unwrap(), "query_only"), 1);
    }

    #[test]
    fn what_must_survive_the_loss_of_power_is_synced_and_uses_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::open(&folder.path().join("index.sqlite3"), Journal::Wal).unwrap().0;
        let level = |durability| {
            let ask = |change: &Transaction<'_>| {
                change.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0))
            };
            access.write(durability, PATIENCE, ask).unwrap()
        };
        assert_eq!(level(Durability::Power), 2, "FULL");
        assert_eq!(level(Durability::Process), 1, "NORMAL");
        assert_eq!(level(Durability::Power), 2, "FULL");
    }
}
