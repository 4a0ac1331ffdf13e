//! The way to the file: one connection for lookups, one for changes, both replaced when the file is.
//!
//! A change that waits for the disk or for another process does not hold up a lookup. Every change asks
//! first whether the open file is still the one under its name, so that nothing is written to a file that
//! nobody will ever read again. Lookups go on answering from the file that they have.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{Journal, Was, damage, schema};
use crate::error::Error;

/// How long a call waits for another process.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks at a lock that cannot be waited for.
const LOOK: Duration = Duration::from_millis(5);
/// Statements kept compiled; more than there are.
const STATEMENTS: usize = 64;
/// The log is cut to so many bytes when it is taken over into the file.
const LOG_BYTES: u32 = 1 << 20;
/// A whole look through the file at opening costs about a millisecond for so many bytes; larger files
/// are looked through when they were not closed in order.
const LOOKED_THROUGH_BYTES: u64 = 2 << 20;

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
    /// Device and inode of the open file.
    identity: Mutex<Option<Identity>>,
    /// Counts the files that were opened, so that one damage is not taken for two.
    generation: AtomicU64,
    must_rebuild: AtomicBool,
}

/// Device and inode.
type Identity = (u64, u64);

struct Writer {
    connection: Connection,
    durability: Durability,
}

impl Access {
    /// See [`super::Index::open`].
    pub(super) fn open(path: &Path, journal: Journal) -> Result<(Self, Was), Error> {
        let path = settled(path)?;
        let _turn = Turn::take(&path)?;
        let (writer, reads, was) = connect_or_begin(&path, journal)?;
        let access = Self {
            identity: Mutex::new(identity_of(&path)),
            path: Some(path),
            journal,
            writes: Mutex::new(writer),
            reads: Mutex::new(Some(reads)),
            generation: AtomicU64::new(0),
            must_rebuild: AtomicBool::new(was != Was::Existing),
        };
        Ok((access, was))
    }

    /// See [`super::Index::in_memory`].
    pub(super) fn in_memory() -> Result<Self, Error> {
        let path = Path::new(":memory:");
        let open = || {
            let mut connection = Connection::open_in_memory()?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            connection.pragma_update(None, "foreign_keys", true)?;
            let transaction = connection.transaction()?;
            schema::migrate(&transaction)?;
            transaction.commit()?;
            Ok(connection)
        };
        let connection = open().map_err(|error| damage::error(path, &error))?;
        Ok(Self {
            path: None,
            journal: Journal::Rollback,
            writes: Mutex::new(Writer { connection, durability: Durability::Power }),
            reads: Mutex::new(None),
            identity: Mutex::new(None),
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
            // In memory, where nothing is ever reopened and so nobody locks the two the other way round.
            None => query(&lock(&self.writes).connection),
        };
        drop(reads);
        answer.map_err(|error| self.explain(&error, generation))
    }

    /// Makes a change, whole or not at all, waiting up to `patience` for other processes.
    pub(super) fn write<T>(
        &self,
        durability: Durability,
        patience: Duration,
        change: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let mut writer = lock(&self.writes);
        let generation = self.generation.load(Ordering::Acquire);
        if self.has_moved() {
            self.reopen(&mut writer)?;
        }
        let made = writer.change(durability, patience, &change);
        drop(writer);
        match made {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(self.newer()),
            Err(error) => Err(self.explain(&error, generation)),
        }
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
        self.path.as_deref().is_some_and(|path| identity_of(path) != *lock(&self.identity))
    }

    /// Opens what lies under the name now, for both connections.
    fn reopen(&self, writer: &mut Writer) -> Result<(), Error> {
        let path = self.path.as_deref().expect("invariant: only a file can move");
        let _turn = Turn::take(path)?;
        self.reopen_in_turn(path, writer)
    }

    fn reopen_in_turn(&self, path: &Path, writer: &mut Writer) -> Result<(), Error> {
        let (new, reads, _) = connect_or_begin(path, self.journal)?;
        tracing::warn!(path = %path.display(), "the index was replaced while it was open");
        *writer = new;
        *lock(&self.reads) = Some(reads);
        *lock(&self.identity) = identity_of(path);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.must_rebuild.store(true, Ordering::Release);
        Ok(())
    }

    /// The store's error for SQLite's; sets a damaged file aside on the way, unless somebody has already.
    fn explain(&self, error: &rusqlite::Error, generation: u64) -> Error {
        let path = self.path.as_deref().unwrap_or(Path::new(":memory:"));
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
        if schema::version_of(&writer.connection).is_ok_and(|version| version > schema::VERSION) {
            return Err(self.newer());
        }
        let _turn = Turn::take(path)?;
        if !self.has_moved() {
            damage::set_aside(path)?;
        }
        self.reopen_in_turn(path, &mut writer)
    }

    fn newer(&self) -> Error {
        let found = self.read(schema::version_of).unwrap_or(u32::MAX);
        let path = self.path.clone().unwrap_or_default();
        Error::Newer { path, found, known: schema::VERSION }
    }
}

impl Writer {
    /// `None` = a newer program has changed the tables since, and nothing was written.
    fn change<T>(
        &mut self,
        durability: Durability,
        patience: Duration,
        change: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.connection.busy_timeout(patience)?;
        if self.durability != durability {
            let mode = if durability == Durability::Power { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", mode)?;
            self.durability = durability;
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if schema::version_of(&transaction)? > schema::VERSION {
            return Ok(None);
        }
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(Some(value))
    }
}

/// The right to open or replace an index's file; one at a time over all processes.
struct Turn {
    /// `None` where the file system has no locks: then two openers meet in SQLite, which copes.
    _lock: Option<fs_err::File>,
}

impl Turn {
    fn take(path: &Path) -> Result<Self, Error> {
        let name = damage::with_suffix(path, ".lock");
        let file = fs_err::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&name)
            .map_err(Error::io("the index could not be opened"))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _lock: Some(file) }),
                Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => std::thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: path.to_owned() }),
                Err(TryLockError::Error(_)) => return Ok(Self { _lock: None }),
            }
        }
    }
}

/// The connections to what lies under this name, to a fresh index where that is nothing or unusable.
fn connect_or_begin(path: &Path, journal: Journal) -> Result<(Writer, Connection, Was), Error> {
    let mut aside = None;
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        aside = Some(damage::set_aside(path)?);
    }
    loop {
        match connect(path, journal) {
            Ok(Found::Index { writer, reads, is_rebuilt }) => {
                let was = match aside {
                    Some(to) => Was::SetAside(to),
                    None if is_rebuilt => Was::Existing,
                    None => Was::Fresh,
                };
                return Ok((writer, reads, was));
            }
            Ok(Found::Newer(found)) => {
                return Err(Error::Newer { path: path.to_owned(), found, known: schema::VERSION });
            }
            Err(error) if damage::is_damage(&error) && aside.is_none() => {
                aside = Some(damage::set_aside(path)?);
            }
            Err(error) => return Err(damage::error(path, &error)),
        }
    }
}

/// What lies under the index's name.
#[allow(clippy::large_enum_variant, reason = "one lives for a moment, when the index is opened")]
enum Found {
    /// An index of ours, up to date now.
    Index { writer: Writer, reads: Connection, is_rebuilt: bool },
    /// The index of a newer program, of this version.
    Newer(u32),
}

fn connect(path: &Path, journal: Journal) -> rusqlite::Result<Found> {
    let was_closed = !damage::with_suffix(path, "-wal").exists();
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    let mut connection = open(path)?;
    let version = schema::version_of(&connection)?;
    if version > schema::VERSION {
        return Ok(Found::Newer(version));
    }
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return Err(read_only());
    }
    if bytes <= LOOKED_THROUGH_BYTES || !was_closed {
        look_through(&connection)?;
    }
    set_journal(&connection, journal)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    schema::migrate(&transaction)?;
    let is_rebuilt = schema::is_rebuilt(&transaction)?;
    transaction.commit()?;
    let reads = open(path)?;
    reads.pragma_update(None, "query_only", true)?;
    let writer = Writer { connection, durability: Durability::Power };
    Ok(Found::Index { writer, reads, is_rebuilt })
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A mapped file that another process cuts short would kill this one.
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// Sets the journal's kind, which the file keeps. Switching needs the file for a moment alone, and SQLite
/// does not wait for that by itself.
fn set_journal(connection: &Connection, journal: Journal) -> rusqlite::Result<()> {
    let wanted = if journal == Journal::Wal { "wal" } else { "delete" };
    let start = Instant::now();
    loop {
        let now: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        if now == wanted {
            return Ok(());
        }
        let set =
            connection.pragma_update_and_check(None, "journal_mode", wanted, |row| row.get::<_, String>(0));
        match set {
            Ok(mode) if mode != wanted => {
                tracing::warn!(mode, wanted, "the index keeps another journal than it should");
                return Ok(());
            }
            Ok(_) => return Ok(()),
            Err(error) if damage::is_busy(&error) && start.elapsed() < PATIENCE => std::thread::sleep(LOOK),
            Err(error) => return Err(error),
        }
    }
}

/// Reads the whole file and checks that its parts fit each other.
fn look_through(connection: &Connection) -> rusqlite::Result<()> {
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(said)))
}

fn read_only() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY),
        Some("the file can only be read".to_owned()),
    )
}

/// The path with its directory's links followed, so that SQLite can be told to follow none.
fn settled(path: &Path) -> Result<PathBuf, Error> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = fs_err::canonicalize(directory).map_err(Error::io("the index could not be opened"))?;
    let name = path.file_name().unwrap_or("index.sqlite3".as_ref());
    Ok(directory.join(name))
}

fn identity_of(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    path.symlink_metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
