//! From a path to a connection: what lies there is checked, brought up to date, or set aside.
//!
//! The file is its owner's alone (0600). Its journal is a rollback journal, which is removed with each commit: a write-ahead log would
//! keep what was deleted until it is taken over. What is deleted is overwritten (`secure_delete`), also in the index of words.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use rustix::fs::OFlags;

use super::schema;
use crate::error::ChatError;

/// How long a call waits for another process.
const PATIENCE: Duration = Duration::from_secs(10);
/// Files of up to so many bytes are looked through whenever they are opened; larger ones when a journal lies next to them.
const LOOKED_THROUGH_BYTES: u64 = 2 << 20;
/// Statements kept compiled; more than there are.
const STATEMENTS: usize = 64;

/// Opens or makes the file; a damaged one is set aside first, and its new place returned.
pub(super) fn open(path: &Path, must_look: bool) -> Result<(Connection, Option<PathBuf>), ChatError> {
    let path = settled(path)?;
    // One process at a time opens it or sets it aside. A file system without locks does without.
    let turn = private(&suffixed(&path, ".lock"))?;
    turn.lock().ok();
    match connect(&path, must_look) {
        Err(ChatError::Sql(error)) if is_damage(&error) => {
            let aside = set_aside(&path)?;
            tracing::warn!(%error, path = %path.display(), aside = %aside.display(), "the conversations were damaged and are set aside");
            let connection = connect(&path, false).map_err(|error| explain(error, &path))?;
            Ok((connection, Some(aside)))
        }
        connected => connected.map(|connection| (connection, None)).map_err(|error| explain(error, &path)),
    }
}

/// A fresh one without a file.
pub(super) fn in_memory() -> Result<Connection, ChatError> {
    prepared(Connection::open_in_memory()?)
}

/// The error with the file that it is about.
pub(super) fn explain(error: ChatError, path: &Path) -> ChatError {
    let ChatError::Sql(error) = error else { return error };
    let io = |kind| ChatError::Io {
        action: "use the conversations in",
        path: path.to_owned(),
        error: io::Error::new(kind, error.to_string()),
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ChatError::Locked { path: path.to_owned() }
        }
        Some(ErrorCode::DiskFull) => io(io::ErrorKind::StorageFull),
        Some(ErrorCode::ReadOnly) => io(io::ErrorKind::ReadOnlyFilesystem),
        Some(ErrorCode::PermissionDenied) => io(io::ErrorKind::PermissionDenied),
        _ => ChatError::Sql(error),
    }
}

/// Whether the file cannot be used, whatever is tried.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn connect(path: &Path, must_look: bool) -> Result<Connection, ChatError> {
    // A file that is there is not opened: to close it would end the locks that other connections of this process hold on it.
    if !path.symlink_metadata().is_ok_and(|facts| facts.is_file()) {
        drop(private(path)?);
    }
    let has_journal = suffixed(path, "-journal").exists();
    let bytes = path.metadata().map_or(0, |facts| facts.len());
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    let found = schema::version_of(&connection)?;
    if found > schema::VERSION {
        return Err(ChatError::Newer { path: path.to_owned(), found, known: schema::VERSION });
    }
    if must_look || has_journal || bytes <= LOOKED_THROUGH_BYTES {
        look_through(&connection)?;
    }
    prepared(connection)
}

fn prepared(mut connection: Connection) -> Result<Connection, ChatError> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A mapped file that another process cuts short would kill this one.
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // No words in files of another place.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    schema::migrate(&transaction)?;
    transaction.commit()?;
    Ok(connection)
}

/// Reads the whole file and checks that its parts fit each other.
fn look_through(connection: &Connection) -> Result<(), ChatError> {
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(said)).into())
}

/// A file that only its owner may read, made where it is missing; a link in its place is refused.
fn private(path: &Path) -> Result<fs_err::File, ChatError> {
    fs_err::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|error| ChatError::Io { action: "open", path: path.to_owned(), error })
}

/// Gives a damaged file another name, its journal first: a stale one next to a fresh database would be played into it.
fn set_aside(path: &Path) -> Result<PathBuf, ChatError> {
    let mut ms = now_ms();
    let mut aside = suffixed(path, &format!(".broken-{ms}"));
    while aside.symlink_metadata().is_ok() {
        ms += 1;
        aside = suffixed(path, &format!(".broken-{ms}"));
    }
    for part in ["-journal", "-wal", "-shm", ""] {
        match fs_err::rename(suffixed(path, part), suffixed(&aside, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ChatError::Io { action: "set aside", path: path.to_owned(), error });
            }
            _ => {}
        }
    }
    Ok(aside)
}

/// The path with its folder's links followed, so that SQLite can be told to follow none.
fn settled(path: &Path) -> Result<PathBuf, ChatError> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs_err::canonicalize(folder).map_err(|error| ChatError::Io {
        action: "open",
        path: path.to_owned(),
        error,
    })?;
    Ok(folder.join(path.file_name().unwrap_or("chats.sqlite3".as_ref())))
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
