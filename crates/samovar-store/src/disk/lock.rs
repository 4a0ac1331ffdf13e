//! Locks between processes: `flock` on files that are never unlinked.
//!
//! The kernel gives a lock back when its holder dies, however it dies, so that no process has to judge
//! whether a holder is alive. A lock belongs to an open file, not to a process: two handles in one
//! process exclude each other like two processes do.

use std::io;
use std::path::Path;
use std::time::Duration;

use fs_err::File;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::disk::plain;

/// First wait between two looks at a lock that another process has.
const FIRST_WAIT: Duration = Duration::from_millis(2);
/// Longest wait; bounds how long a waiter takes to notice that the holder is gone.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
}

/// A lock that is waited for, as long as it takes, without holding a thread:
///
/// ```text
/// loop { if let Some(lock) = waiting.look()? { … }  waiting.pause().await }
/// ```
///
/// Dropping it at any point leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Waiting {
    file: File,
    hold: Hold,
    pause: Duration,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

impl FileLock {
    /// Waits as long as it takes. Only for locks that are held for as long as a few megabytes take, and never on the
    /// event loop.
    ///
    /// # Errors
    /// When the lock file cannot be opened or the file system has no locks.
    pub(crate) fn wait(root: &Path, path: &Path, hold: Hold) -> io::Result<Self> {
        let operation = match hold {
            Hold::Shared => FlockOperation::LockShared,
            Hold::Exclusive => FlockOperation::LockExclusive,
        };
        let file = lock_file(root, path)?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Self { file }),
                Err(Errno::INTR) => (),
                Err(errno) => return Err(named(errno, path)),
            }
        }
    }

    /// Takes the lock if no process is in the way; `None` when one is.
    ///
    /// # Errors
    /// When the lock file cannot be opened or the file system has no locks.
    pub(crate) fn try_now(root: &Path, path: &Path, hold: Hold) -> io::Result<Option<Self>> {
        let file = lock_file(root, path)?;
        Ok(try_lock(&file, path, hold)?.then_some(Self { file }))
    }

    /// The locked file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Locks a file that is open already, such as a lease; `None` when another process has it.
    ///
    /// # Errors
    /// When the file system has no locks.
    pub(crate) fn of_file(file: File, hold: Hold) -> io::Result<Option<Self>> {
        let path = file.path().to_owned();
        Ok(try_lock(&file, &path, hold)?.then_some(Self { file }))
    }
}

impl Waiting {
    /// Begins to wait.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub(crate) fn begin(root: &Path, path: &Path, hold: Hold) -> io::Result<Self> {
        Ok(Self { file: lock_file(root, path)?, hold, pause: FIRST_WAIT })
    }

    /// Takes the lock if it is free now.
    ///
    /// # Errors
    /// When the file system has no locks.
    pub(crate) fn look(&self) -> io::Result<Option<FileLock>> {
        if !try_lock(&self.file, self.file.path(), self.hold)? {
            return Ok(None);
        }
        // The lock belongs to the open file, which both now share.
        let file = File::from_parts(self.file.file().try_clone()?, self.file.path());
        Ok(Some(FileLock { file }))
    }

    /// Waits a little, longer each time.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_WAIT);
    }
}

fn try_lock(file: &File, path: &Path, hold: Hold) -> io::Result<bool> {
    let operation = match hold {
        Hold::Shared => FlockOperation::NonBlockingLockShared,
        Hold::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        match flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => (),
            Err(errno) => return Err(named(errno, path)),
        }
    }
}

fn lock_file(root: &Path, path: &Path) -> io::Result<File> {
    plain::open_with(root, path, OFlags::RDWR | OFlags::CREATE, Mode::RUSR | Mode::WUSR)
}

fn named(errno: Errno, path: &Path) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("lock {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn excludes_a_second_holder_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let held = FileLock::try_now(dir.path(), &path, Hold::Exclusive).unwrap();
        assert!(held.is_some());
        assert!(FileLock::try_now(dir.path(), &path, Hold::Exclusive).unwrap().is_none());
        assert!(FileLock::try_now(dir.path(), &path, Hold::Shared).unwrap().is_none());
        drop(held);
        let shared = FileLock::try_now(dir.path(), &path, Hold::Shared).unwrap();
        assert!(shared.is_some());
        assert!(FileLock::try_now(dir.path(), &path, Hold::Shared).unwrap().is_some());
        assert!(FileLock::try_now(dir.path(), &path, Hold::Exclusive).unwrap().is_none());
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_waiter_looks_on_and_gets_the_lock_when_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let mut held = FileLock::try_now(dir.path(), &path, Hold::Exclusive).unwrap();
        let waited = Instant::now();
        let mut waiting = Waiting::begin(dir.path(), &path, Hold::Exclusive).unwrap();
        let mut looks = 0;
        let lock = loop {
            match waiting.look().unwrap() {
                Some(lock) => break lock,
                None => looks += 1,
            }
            if looks == 4 {
                held = None;
            }
            waiting.pause().await;
        };
        drop(waiting);
        assert!(looks == 4 && waited.elapsed() < Duration::from_secs(2));
        assert!(FileLock::try_now(dir.path(), &path, Hold::Exclusive).unwrap().is_none());
        drop((lock, held));
        assert!(FileLock::try_now(dir.path(), &path, Hold::Exclusive).unwrap().is_some());
    }

    #[test]
    fn a_waiter_that_gives_up_leaves_the_lock_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let held = FileLock::try_now(dir.path(), &path, Hold::Exclusive).unwrap();
        let waiting = Waiting::begin(dir.path(), &path, Hold::Exclusive).unwrap();
        assert!(waiting.look().unwrap().is_none());
        drop((waiting, held));
        assert!(FileLock::try_now(dir.path(), &path, Hold::Exclusive).unwrap().is_some());
    }

    #[test]
    fn no_lock_is_taken_through_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        fs_err::os::unix::fs::symlink(dir.path().join("target"), &path).unwrap();
        assert!(FileLock::wait(dir.path(), &path, Hold::Exclusive).is_err());
        assert!(!dir.path().join("target").exists());
    }
}
