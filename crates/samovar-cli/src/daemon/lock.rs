//! Locks beside the socket: one held by the daemon until its process ends, one by the process that is about to start it.
//!
//! The server has a lock of its own that guards the socket file; it is free again as soon as the listeners close.
//! The lock here is held on while requests drain and models unload, so that the next daemon waits for the memory.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use samovar_core::{ErrorKind, Failure};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{exposure, home};

/// How often a taken lock is tried again; there is no event to wait for.
const RETRY: Duration = Duration::from_millis(10);

/// Who the daemon is, as its lock file tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// Process id.
    pub(crate) pid: u32,
    /// Version of Samovar.
    pub(crate) version: String,
    /// Started by `run`, not by a person.
    pub(crate) in_background: bool,
}

impl Holder {
    /// This process.
    pub(crate) fn this_process(in_background: bool) -> Self {
        Self { pid: std::process::id(), version: env!("CARGO_PKG_VERSION").to_owned(), in_background }
    }
}

/// An exclusive lock on a file, given back when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

/// The lock that the daemon of `socket` holds for life.
pub(crate) fn daemon_lock(socket: &Path) -> PathBuf {
    with_suffix(socket, ".daemon")
}

/// The lock of the process that is about to start the daemon of `socket`.
pub(crate) fn start_lock(socket: &Path) -> PathBuf {
    with_suffix(socket, ".start")
}

fn with_suffix(socket: &Path, suffix: &str) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Lock {
    /// The lock, or `None` when another process has it.
    ///
    /// # Errors
    /// `Storage` when the file cannot be made.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>, Failure> {
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(home::storage("lock", path, &error.into())),
        }
    }

    /// The lock, as soon as it is free; `None` when it was not within `limit`.
    ///
    /// # Errors
    /// `Storage` when the file cannot be made.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn take(path: &Path, limit: Duration) -> Result<Option<Self>, Failure> {
        let until = Instant::now() + limit;
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(Some(lock));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Writes who holds it. A full disk is no reason not to serve, so nothing is reported.
    pub(crate) fn sign(&mut self, holder: &Holder) {
        let text = serde_json::to_string(holder).expect("invariant: a holder serializes");
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(text.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(%error, "could not write the process id into the lock file");
        }
    }
}

/// Who holds a lock by its file's text; `None` when no process signed.
pub(crate) fn holder(path: &Path) -> Option<Holder> {
    let mut text = String::new();
    plain(path, OFlags::RDONLY).ok()??.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Whether a process holds the lock now. Takes and gives back a shared lock, which is harmless: a process that
/// wants the exclusive one tries again.
pub(crate) fn is_held(path: &Path) -> bool {
    let Ok(Some(file)) = plain(path, OFlags::RDONLY) else { return false };
    matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK))
}

/// Waits until no process holds the lock; false when one still did after `limit`.
pub(crate) async fn released(path: &Path, limit: Duration) -> bool {
    until(limit, || !is_held(path)).await
}

/// Waits until the process `pid` does not hold the lock, though the daemon after it may; false when it
/// still did after `limit`.
pub(crate) async fn released_by(path: &Path, pid: u32, limit: Duration) -> bool {
    until(limit, || !is_held(path) || holder(path).is_some_and(|holder| holder.pid != pid)).await
}

async fn until(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !is_so() {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(RETRY).await;
    }
    true
}

/// Opens a lock file, and makes it when it is not there. Never follows a link, and takes nothing but a plain file of
/// this user's or root's with one name: in a folder where others may make files, one of theirs would be locked, or one
/// of ours elsewhere written over.
fn open(path: &Path) -> Result<File, Failure> {
    let flags = OFlags::RDWR | OFlags::CREATE;
    let file = plain(path, flags).map_err(|error| home::storage("open", path, &error))?;
    file.ok_or_else(|| {
        Failure::new(ErrorKind::Forbidden, format!("{} is not a lock file of yours", path.display()))
            .with_hint("remove it, or set SAMOVAR_HOME to a directory that only you may write")
    })
}

/// `None` for what is no plain file of ours.
fn plain(path: &Path, flags: OFlags) -> std::io::Result<Option<File>> {
    use std::os::unix::fs::MetadataExt;
    // Without NONBLOCK a planted FIFO would hold the opening for ever.
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        // A link, a FIFO without a reader, or a device.
        Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let facts = file.metadata()?;
    let is_ours = facts.is_file() && facts.nlink() == 1 && !exposure::is_strange(facts.uid());
    Ok(is_ours.then_some(file))
}

/// What a second daemon is told.
pub(crate) fn occupied(socket: &Path) -> Failure {
    let who = match holder(&daemon_lock(socket)) {
        Some(holder) if holder.in_background => {
            format!(" (process {}, started by `samovar run`)", holder.pid)
        }
        Some(holder) => format!(" (process {})", holder.pid),
        None => String::new(),
    };
    Failure::new(ErrorKind::Unavailable, format!("a daemon already serves {}{who}", socket.display()))
        .with_hint("`samovar shutdown` stops it; a second daemon needs another SAMOVAR_HOME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_exclusive_and_given_back_when_dropped() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("x.lock");
        assert!(!is_held(&path));
        let lock = Lock::try_take(&path).expect("opens").expect("free");
        assert!(Lock::try_take(&path).expect("opens").is_none());
        assert!(is_held(&path));
        drop(lock);
        assert!(!is_held(&path));
        assert!(Lock::try_take(&path).expect("opens").is_some());
    }

    #[test]
    fn no_lock_is_taken_through_a_link_or_on_a_file_with_another_name() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (path, precious) = (folder.path().join("x.lock"), folder.path().join("precious"));
        let text = "{\"pid\":1,\"version\":\"1\",\"in_background\":true}";
        fs_err::write(&precious, text).expect("file");
        for plant in [
            |to: &Path, at: &Path| fs_err::os::unix::fs::symlink(to, at),
            |to: &Path, at: &Path| fs_err::hard_link(to, at),
            |_: &Path, at: &Path| {
                Ok(rustix::fs::mknodat(
                    rustix::fs::CWD,
                    at,
                    rustix::fs::FileType::Fifo,
                    Mode::RUSR | Mode::WUSR,
                    0,
                )?)
            },
        ] {
            plant(&precious, &path).expect("planted");
            let failure = Lock::try_take(&path).expect_err("refused");
            assert!(
                failure.message.ends_with("is not a lock file of yours") && failure.hint.is_some(),
                "{failure}"
            );
            assert!(!is_held(&path) && holder(&path).is_none());
            fs_err::remove_file(&path).expect("removed");
        }
        assert_eq!(fs_err::read_to_string(&precious).expect("reads"), text);
    }

    #[test]
    fn the_holder_is_read_back() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("x.lock");
        let mut lock = Lock::try_take(&path).expect("opens").expect("free");
        assert_eq!(holder(&path), None);
        let me = Holder::this_process(true);
        lock.sign(&me);
        assert_eq!(holder(&path), Some(me));
        let other = Holder { pid: 1, version: "9".into(), in_background: false };
        lock.sign(&other);
        assert_eq!(holder(&path), Some(other));
    }

    #[tokio::test]
    async fn waiting_for_a_lock_ends_when_the_time_is_over() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("x.lock");
        let _lock = Lock::try_take(&path).expect("opens").expect("free");
        assert!(Lock::take(&path, Duration::ZERO).await.expect("opens").is_none());
        assert!(!released(&path, Duration::ZERO).await);
    }

    #[tokio::test]
    async fn the_next_holder_is_not_taken_for_the_one_before() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("x.lock");
        let mut lock = Lock::try_take(&path).expect("opens").expect("free");
        let me = Holder::this_process(true);
        lock.sign(&me);
        assert!(!released_by(&path, me.pid, Duration::ZERO).await);
        assert!(released_by(&path, me.pid + 1, Duration::ZERO).await);
    }
}
