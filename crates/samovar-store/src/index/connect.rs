//! From a path to connections: what lies there is checked, brought up to date, or set aside.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::access::{Durability, PATIENCE, inode_of};
use super::{Journal, Was, damage, schema};
use crate::error::Error;

/// Pause between two tries of what SQLite does not wait for.
const LOOK: Duration = Duration::from_millis(5);
/// Statements kept compiled; more than there are.
const STATEMENTS: usize = 64;
/// The log is cut to so many bytes when it is taken over into the file.
const LOG_BYTES: u32 = 1 << 20;
/// Files of up to so many bytes are looked through whenever they are opened, which takes a few milliseconds
/// at most; larger ones when they were not closed in order, or are open elsewhere.
const LOOKED_THROUGH_BYTES: u64 = 2 << 20;
/// How often a file that goes away is opened anew.
const MOVES: usize = 8;
/// What a connection's changes survive, as it is set up here.
pub(super) const DURABILITY: Durability = Durability::Power;

/// Both ways to one file.
pub(super) struct Connections {
    pub(super) writes: Connection,
    pub(super) reads: Connection,
    /// The file, by device and inode.
    pub(super) file: Option<(u64, u64)>,
}

/// What lies under the index's name.
#[allow(clippy::large_enum_variant, reason = "one lives for a moment, when the index is opened")]
enum Found {
    /// An index of ours, up to date now.
    Index { connections: Connections, is_rebuilt: bool },
    /// The index of a newer program, of this version.
    Newer(u32),
}

/// Connects to what lies under this name, or to a fresh index where that is nothing or unusable. The caller
/// has the turn.
pub(super) fn connect_or_begin(path: &Path, journal: Journal) -> Result<(Connections, Was), Error> {
    let mut aside = None;
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        aside = Some(damage::set_aside(path)?);
    }
    let mut moves = 0;
    loop {
        let before = inode_of(path);
        if before.is_none() {
            damage::remove_log(path)?;
        }
        let found = connect(path, journal);
        let after = inode_of(path);
        // Another process deleted or replaced it while it was being opened: the connections may be to anything, and
        // what lies beside the file may be of the one that is gone.
        if moves < MOVES && (after.is_none() || before.is_some_and(|before| after != Some(before))) {
            moves += 1;
            drop(found);
            damage::remove_log(path)?;
            continue;
        }
        match found {
            Ok(Found::Index { connections, is_rebuilt }) => {
                let was = match aside {
                    Some(to) => Was::SetAside(to),
                    None if is_rebuilt => Was::Existing,
                    None => Was::Fresh,
                };
                return Ok((Connections { file: after, ..connections }, was));
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

/// A fresh index without a file.
pub(super) fn in_memory() -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "foreign_keys", true)?;
    let transaction = connection.transaction()?;
    schema::migrate(&transaction)?;
    transaction.commit()?;
    Ok(connection)
}

fn connect(path: &Path, journal: Journal) -> rusqlite::Result<Found> {
    let was_closed = !damage::with_suffix(path, "-wal").exists();
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    let mut writes = open(path, OpenFlags::SQLITE_OPEN_CREATE)?;
    let version = schema::version_of(&writes)?;
    if version > schema::VERSION {
        return Ok(Found::Newer(version));
    }
    if writes.is_readonly(rusqlite::MAIN_DB)? {
        return Err(read_only());
    }
    if bytes <= LOOKED_THROUGH_BYTES || !was_closed {
        look_through(&writes)?;
    }
    set_journal(&writes, journal)?;
    let transaction = writes.transaction_with_behavior(TransactionBehavior::Immediate)?;
    schema::migrate(&transaction)?;
    let is_rebuilt = schema::is_rebuilt(&transaction)?;
    transaction.commit()?;
    let reads = open(path, OpenFlags::empty())?;
    reads.pragma_update(None, "query_only", true)?;
    // SQLite opens the log by its name at the first question: now it is still the one that belongs to the file.
    schema::version_of(&reads)?;
    Ok(Found::Index { connections: Connections { writes, reads, file: None }, is_rebuilt })
}

fn open(path: &Path, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | more
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
