//! What SQLite's errors mean here, and how a file that is no usable index is set aside.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_CONSTRAINT_FOREIGNKEY, SQLITE_ERROR};

use super::now_ms;
use crate::error::Error;

/// What lies beside a database of this name. The log and journal first: a stale one beside a fresh
/// database would be played into it.
const COMPANIONS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// What stands between the name of an index and the time at which it was set aside.
const BROKEN: &str = ".broken-";
/// Damaged indexes that are kept.
const KEPT: usize = 3;

/// Whether the file is no index that can be used, whatever is tried. Our statements never change, so one that
/// does not fit the tables, or a rule of theirs that is broken, means that the tables are not ours.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(code, _) => is_damage_code(*code),
        // A statement that does not fit the tables, or a value that no program of ours writes.
        E::SqlInputError { .. }
        | E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..) => true,
        _ => false,
    }
}

fn is_damage_code(code: rusqlite::ffi::Error) -> bool {
    match code.code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => true,
        // The one rule that a caller can break: a manifest names a blob that the index does not know.
        ErrorCode::ConstraintViolation => code.extended_code != SQLITE_CONSTRAINT_FOREIGNKEY,
        _ => code.extended_code == SQLITE_ERROR,
    }
}

/// Whether another connection has what was asked for, and waiting may help.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// SQLite's error as one of the store's.
pub(super) fn error(path: &Path, error: &rusqlite::Error) -> Error {
    let io = |kind| Error::Io {
        action: "the index could not be used",
        error: io::Error::new(kind, format!("{}: {error}", path.display())),
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Locked { path: path.to_owned() },
        Some(ErrorCode::DiskFull) => io(io::ErrorKind::StorageFull),
        Some(ErrorCode::ReadOnly) => io(io::ErrorKind::ReadOnlyFilesystem),
        Some(ErrorCode::PermissionDenied) => io(io::ErrorKind::PermissionDenied),
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => io(io::ErrorKind::Other),
        Some(ErrorCode::OutOfMemory) => io(io::ErrorKind::OutOfMemory),
        _ => Error::Index { path: path.to_owned(), message: error.to_string() },
    }
}

/// Gives what lies under the index's name another name, with what SQLite keeps beside it, so that a
/// fresh index can begin. A file that is gone already is no error.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let to = set_log_aside(path)?;
    rename(path, &to)?;
    drop_oldest(path);
    tracing::warn!(path = %path.display(), to = %to.display(), "the index was damaged and is set aside; it is built again");
    Ok(to)
}

/// Removes what was set aside long ago, so that a disk that damages everything is not filled on top of that.
fn drop_oldest(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let prefix = format!("{name}{BROKEN}");
    let ms_of = |path: &PathBuf| -> Option<u64> {
        let rest = path.file_name()?.to_str()?.strip_prefix(&prefix)?;
        rest.split('-').next()?.parse().ok()
    };
    let entries = fs_err::read_dir(parent).into_iter().flatten().flatten();
    let all: Vec<(u64, PathBuf)> =
        entries.filter_map(|entry| Some((ms_of(&entry.path())?, entry.path()))).collect();
    let newest: BTreeSet<u64> = all.iter().map(|(ms, _)| *ms).collect();
    let Some(oldest_kept) = newest.iter().rev().nth(KEPT - 1) else { return };
    for (_, path) in all.iter().filter(|(ms, _)| ms < oldest_kept) {
        // What cannot be removed, such as a directory that was put there, stays.
        let _ = fs_err::remove_file(path);
    }
}

/// Gives what SQLite keeps beside a database another name; the database's own stays. Returns the name that
/// goes with it.
pub(super) fn set_log_aside(path: &Path) -> Result<PathBuf, Error> {
    let to = free_name(path);
    for companion in COMPANIONS {
        rename(&with_suffix(path, companion), &with_suffix(&to, companion))?;
    }
    Ok(to)
}

/// Removes what SQLite kept beside a database that is gone. SQLite itself drops a log without a database, but
/// a fresh one would take over the shared memory, to which processes with the old one open go on writing.
pub(super) fn remove_log(path: &Path) -> Result<(), Error> {
    for companion in COMPANIONS {
        match fs_err::remove_file(with_suffix(path, companion)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Io {
                    action: "what is left of a deleted index could not be removed",
                    error,
                });
            }
            _ => (),
        }
    }
    Ok(())
}

/// The path with something behind its last letter.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

fn free_name(path: &Path) -> PathBuf {
    let mut ms = now_ms();
    loop {
        let name = with_suffix(path, &format!("{BROKEN}{ms}"));
        if name.symlink_metadata().is_err() {
            return name;
        }
        ms += 1;
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    match fs_err::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Io { action: "the damaged index could not be set aside", error })
        }
        _ => Ok(()),
    }
}
