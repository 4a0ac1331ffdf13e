//! The right to open or replace an index's file: one process, and in it one thread, at a time.

use std::fs::TryLockError;
use std::path::Path;
use std::time::{Duration, Instant};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::OFlags;

use super::damage;
use crate::error::Error;

/// Pause between two looks at the lock.
const LOOK: Duration = Duration::from_millis(5);

/// The right to open or replace an index's file; one at a time over all processes.
pub(super) struct OpenLock {
    /// `None` where the file system has no locks: then two openers meet in SQLite, which copes.
    _lock: Option<fs_err::File>,
}

impl OpenLock {
    /// Waits for it. Its lock lies beside the index, and is never removed.
    ///
    /// # Errors
    /// [`Error::Locked`] when another has it for longer than `timeout`; [`Error::Io`] when there can be no lock.
    pub(super) fn take(path: &Path, timeout: Duration) -> Result<Self, Error> {
        let name = damage::with_suffix(path, ".lock");
        let file = fs_err::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&name)
            .map_err(Error::io("the index could not be opened"))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _lock: Some(file) }),
                Err(TryLockError::WouldBlock) if start.elapsed() < timeout => std::thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: path.to_owned() }),
                Err(TryLockError::Error(_)) => return Ok(Self { _lock: None }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn one_at_a_time_has_the_turn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.sqlite3");
        let turn = OpenLock::take(&path, SHORT).unwrap();
        let error = OpenLock::take(&path, SHORT).err().unwrap();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        assert_eq!(error.kind(), samovar_core::ErrorKind::Busy);
        assert!(error.hint().is_some());
        drop(turn);
        assert!(OpenLock::take(&path, SHORT).is_ok());
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, folder.path().join("index.sqlite3.lock")).unwrap();
        assert!(matches!(OpenLock::take(&folder.path().join("index.sqlite3"), SHORT), Err(Error::Io { .. })));
        assert!(!elsewhere.exists());
    }
}
