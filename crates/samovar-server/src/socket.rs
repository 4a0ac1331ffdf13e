//! The owner's socket: a Unix socket that only this user can use, held by one daemon at a time.
//!
//! ```text
//!   SAMOVAR_HOME/             0700 when this server makes it
//!     samovar.sock.lock       locked for the daemon's life; the kernel lets go of it when it dies
//!     samovar.sock            0600; replaced only with the lock in hand and no process answering
//! ```

use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::process::Gid;
use tokio::net::{UnixListener, UnixStream};

use crate::error::Error;

/// A bound socket. Dropping it removes the socket's file and lets go of the lock.
#[derive(Debug)]
pub(crate) struct OwnerSocket {
    listener: UnixListener,
    path: PathBuf,
    _lock: fs_err::File,
}

impl OwnerSocket {
    /// Binds `path`, replacing what a dead daemon left there.
    pub(crate) fn bind(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Socket { path: path.to_owned(), source };
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_private(directory)?;
        let lock = lock(path)?;
        clear(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Until this line others might connect, but no peer of another user is ever served.
        fs_err::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    /// The next connection of this user.
    pub(crate) async fn accept(&self) -> io::Result<(UnixStream, u32)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?.uid();
            if may_enter(peer, rustix::process::geteuid().as_raw()) {
                return Ok((stream, peer));
            }
            tracing::warn!(peer, "another user at the owner's socket was turned away");
        }
    }
}

impl Drop for OwnerSocket {
    fn drop(&mut self) {
        // The lock is still held, so what is there is this daemon's own.
        if let Err(error) = fs_err::remove_file(&self.path) {
            tracing::debug!(%error, "the socket's file was gone already");
        }
    }
}

/// The owner, and root, who can be anyone.
const fn may_enter(peer: u32, owner: u32) -> bool {
    peer == owner || peer == 0
}

/// Makes the directory, or makes sure that others cannot replace what is in it.
fn make_private(directory: &Path) -> Result<(), Error> {
    let failed = |source| Error::Socket { path: directory.to_owned(), source };
    match fs_err::metadata(directory) {
        Ok(facts) => {
            let owner = facts.uid();
            if owner != rustix::process::geteuid().as_raw() && owner != 0 {
                return Err(Error::StrangersDirectory { path: directory.to_owned(), owner });
            }
            let is_sticky = facts.mode() & 0o1000 != 0;
            let is_open = others_write(&facts) && !is_sticky;
            if is_open { Err(Error::OpenDirectory(directory.to_owned())) } else { Ok(()) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Whether a user but this one and root may write what has these facts. A group that is this user alone is no other;
/// nor is one of this process's groups where root owns the place and gave it to that group, as container platforms do with
/// volumes.
pub fn others_write(facts: &Metadata) -> bool {
    let mut groups = vec![rustix::process::getegid().as_raw()];
    groups.extend(rustix::process::getgroups().unwrap_or_default().into_iter().map(Gid::as_raw));
    may_others_write(facts.mode(), [facts.uid(), facts.gid()], rustix::process::geteuid().as_raw(), &groups)
}

/// The same by numbers; the first of the groups is the one in force.
fn may_others_write(mode: u32, [owner, group]: [u32; 2], me: u32, groups: &[u32]) -> bool {
    // Where each user has a group of the same number, that group is the user alone.
    let is_me = me != 0 && group == me && groups.first() == Some(&me);
    let is_given = owner == 0 && groups.contains(&group);
    mode & 0o002 != 0 || mode & 0o020 != 0 && !is_me && !is_given
}

fn lock(path: &Path) -> Result<fs_err::File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let failed = |source| Error::Socket { path: lock_path.clone(), source };
    let mut file = open_lock(&lock_path)?;
    match flock(file.file(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(Error::AlreadyServed(path.to_owned())),
        Err(errno) => return Err(failed(errno.into())),
    }
    // For people who look; nothing reads it, and a full disk is no reason not to serve.
    if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
        tracing::warn!(%error, "the process id could not be written into the lock file");
    }
    Ok(file)
}

/// Opens the lock file, which must be a plain file of this user's or root's, with no other name: in a directory where
/// others may make files, one of theirs would be locked, or one of ours elsewhere written over.
fn open_lock(path: &Path) -> Result<fs_err::File, Error> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    // Without NONBLOCK a planted FIFO would hold the opening for ever.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => fs_err::File::from_parts(file.into(), path),
        Err(Errno::LOOP | Errno::NXIO) => return Err(Error::NotALock(path.to_owned())),
        Err(errno) => return Err(failed(errno.into())),
    };
    let facts = file.metadata().map_err(failed)?;
    let is_strange = facts.uid() != rustix::process::geteuid().as_raw() && facts.uid() != 0;
    if is_strange || !facts.is_file() || facts.nlink() != 1 {
        return Err(Error::NotALock(path.to_owned()));
    }
    Ok(file)
}

/// Removes the socket of a dead daemon.
fn clear(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    let facts = match fs_err::symlink_metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !facts.file_type().is_socket() {
        return Err(Error::NotASocket(path.to_owned()));
    }
    // A Unix socket answers at once or not at all.
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(Error::AlreadyServed(path.to_owned())),
        Err(_) => fs_err::remove_file(path).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().expect("tempdir");
        let path = home.path().join("run").join("samovar.sock");
        (home, path)
    }

    #[tokio::test]
    async fn is_for_the_owner_alone() {
        let (_home, path) = home();
        let _socket = OwnerSocket::bind(&path).expect("binds");
        let mode = |path: &Path| fs_err::metadata(path).expect("is there").mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("parent")), 0o700);
        assert!(may_enter(1000, 1000) && may_enter(0, 1000));
        assert!(!may_enter(1001, 1000) && !may_enter(1000, 0));
    }

    #[tokio::test]
    async fn a_second_daemon_is_refused_and_the_first_goes_on() {
        let (_home, path) = home();
        let first = OwnerSocket::bind(&path).expect("binds");
        assert!(matches!(OwnerSocket::bind(&path), Err(Error::AlreadyServed(_))));
        assert!(path.exists());
        drop(first);
        assert!(!path.exists());
        OwnerSocket::bind(&path).expect("binds after the first has gone");
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_daemon_is_replaced() {
        let (_home, path) = home();
        fs_err::create_dir_all(path.parent().expect("parent")).expect("creates");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        assert!(path.exists());
        OwnerSocket::bind(&path).expect("replaces");
    }

    #[tokio::test]
    async fn a_socket_that_somebody_answers_is_left_alone() {
        let (_home, path) = home();
        fs_err::create_dir_all(path.parent().expect("parent")).expect("creates");
        let _other = std::os::unix::net::UnixListener::bind(&path).expect("binds");
        assert!(matches!(OwnerSocket::bind(&path), Err(Error::AlreadyServed(_))));
    }

    #[tokio::test]
    async fn another_file_is_never_replaced() {
        let (_home, path) = home();
        fs_err::create_dir_all(path.parent().expect("parent")).expect("creates");
        fs_err::write(&path, "precious").expect("writes");
        assert!(matches!(OwnerSocket::bind(&path), Err(Error::NotASocket(_))));
        assert_eq!(fs_err::read_to_string(&path).expect("reads"), "precious");
    }

    #[tokio::test]
    async fn the_lock_is_never_taken_through_a_link() {
        let (_home, path) = home();
        let directory = path.parent().expect("parent");
        fs_err::create_dir_all(directory).expect("creates");
        let precious = directory.join("precious");
        fs_err::write(&precious, "precious").expect("writes");
        let lock = directory.join("samovar.sock.lock");
        fs_err::os::unix::fs::symlink(&precious, &lock).expect("links");
        assert!(matches!(OwnerSocket::bind(&path), Err(Error::NotALock(_))));
        fs_err::remove_file(&lock).expect("removes");
        fs_err::hard_link(&precious, &lock).expect("links");
        assert!(matches!(OwnerSocket::bind(&path), Err(Error::NotALock(_))));
        assert_eq!(fs_err::read_to_string(&precious).expect("reads"), "precious");
    }

    #[tokio::test]
    async fn a_directory_of_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give a directory away");
            return;
        }
        let (_home, path) = home();
        let directory = path.parent().expect("parent");
        fs_err::create_dir_all(directory).expect("creates");
        fs_err::os::unix::fs::chown(directory, Some(4242), None).expect("chown");
        let refused = OwnerSocket::bind(&path).expect_err("refused");
        assert!(matches!(refused, Error::StrangersDirectory { owner: 4242, .. }), "{refused:?}");
    }

    #[test]
    fn a_group_counts_as_others_unless_it_is_this_user_or_was_given_the_place() {
        let (user, own_group, volume, users) = (1000, 1000, 2000, 100);
        for (mode, facts, groups, is_open) in [
            (0o755, [user, own_group], &[own_group][..], false),
            (0o775, [user, own_group], &[own_group][..], false),
            (0o777, [user, own_group], &[own_group][..], true),
            (0o775, [user, users], &[users][..], true),
            (0o2775, [0, volume], &[own_group, volume][..], false),
            (0o2775, [0, volume], &[own_group][..], true),
            (0o2777, [0, volume], &[own_group, volume][..], true),
            (0o775, [0, 0], &[0][..], false),
        ] {
            assert_eq!(may_others_write(mode, facts, user, groups), is_open, "{mode:o} {facts:?} {groups:?}");
        }
        assert!(may_others_write(0o775, [0, volume], 0, &[0]), "root's place, and another user's group");
    }

    #[tokio::test]
    async fn a_directory_where_others_write_is_refused() {
        let (_home, path) = home();
        let directory = path.parent().expect("parent");
        fs_err::create_dir_all(directory).expect("creates");
        fs_err::set_permissions(directory, PermissionsExt::from_mode(0o777)).expect("chmod");
        assert!(matches!(OwnerSocket::bind(&path), Err(Error::OpenDirectory(_))));
    }
}
