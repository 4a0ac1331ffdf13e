//! From bytes that came in to a blob: hashed on the way, checked, made durable, named by their digest.
//!
//! ```text
//!   partial/<id>/data ──front──► Follower (thread) ──digest──► as promised? ─► fsync ─► 0444 ─► rename
//! ```
//!
//! The hash follows the bytes that lie without a gap from the start while later ones still come in, so
//! that a large file is whole and verified at nearly the same moment. Nothing else gives a file its name
//! under `blobs/`.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use fs_err::File;
use samovar_core::Digest;
use samovar_core::digest::Hasher;
use sha1::{Digest as _, Sha1};

use crate::disk::durable;
use crate::disk::layout::Layout;
use crate::disk::partial::{Front, Partial};
use crate::disk::plain;
use crate::error::Error;
use crate::index::{BlobRow, BlobState, Ownership, Stamp, now_ms};
use crate::source::Promise;

/// Bytes that are hashed at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Hashes a download while it comes in, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Follower {
    partial: Arc<Partial>,
    thread: Option<JoinHandle<io::Result<Option<Hashed>>>>,
}

/// What the bytes of a whole file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// As git names a blob of these bytes; only where a source promised that.
    pub(crate) git_sha1: Option<[u8; 20]>,
}

impl Follower {
    /// Begins to follow. With `size` known, git's hash is computed too when asked for.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(crate) fn start(partial: &Arc<Partial>) -> Result<Self, Error> {
        let follow = Arc::clone(partial);
        let thread = std::thread::Builder::new()
            .name("store-hash".to_owned())
            .spawn(move || hash_front(&follow))
            .map_err(Error::io("the thread that checks a download could not be started"))?;
        Ok(Self { partial: Arc::clone(partial), thread: Some(thread) })
    }

    /// Waits for the last byte's hash. The download is whole.
    fn finish(mut self) -> Result<Hashed, Error> {
        let thread = self.thread.take().expect("invariant: only finish takes the thread");
        let hashed = thread.join().unwrap_or_else(|_| Err(io::Error::other("the hashing thread panicked")));
        hashed
            .and_then(|hashed| hashed.ok_or_else(|| io::Error::other("the download was given up")))
            .map_err(Error::io("the download could not be read back"))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.partial.close();
        }
    }
}

fn hash_front(partial: &Partial) -> io::Result<Option<Hashed>> {
    let mut piece = vec![0; PIECE_BYTES];
    let (mut hasher, mut era, mut at) = (Hasher::new(), 0, 0);
    loop {
        let Front::At { era: now, end, is_whole } = partial.wait_front(era, at) else { return Ok(None) };
        if now != era {
            (hasher, era, at) = (Hasher::new(), now, 0);
            continue;
        }
        // A piece at a time, so that a download that is given up is noticed.
        let length = PIECE_BYTES.min((end - at) as usize);
        partial.read_at(at, &mut piece[..length])?;
        hasher.update(&piece[..length]);
        at += length as u64;
        if is_whole && partial.is_at(era, at) {
            return Ok(Some(Hashed { digest: hasher.finish(), size: at, git_sha1: None }));
        }
    }
}

/// What git calls a blob of these bytes.
///
/// *Source:* git's object format: SHA-1 over `blob <size>\0` and the content.
fn git_sha1(file: &File, size: u64) -> io::Result<[u8; 20]> {
    use std::os::unix::fs::FileExt as _;
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {size}\0"));
    let mut piece = vec![0; PIECE_BYTES.min(size.max(1) as usize)];
    let mut at = 0;
    while at < size {
        let length = piece.len().min((size - at) as usize);
        file.file().read_exact_at(&mut piece[..length], at)?;
        hasher.update(&piece[..length]);
        at += length as u64;
    }
    Ok(hasher.finalize().into())
}

/// Waits until a whole download is hashed and holds it against what was promised.
///
/// # Errors
/// [`Error::Mismatch`] when the bytes are not the promised ones; [`Error::Io`] when they cannot be read.
pub(crate) fn check(
    subject: &str,
    partial: &Partial,
    follower: Follower,
    promise: Promise,
) -> Result<Hashed, Error> {
    let mut hashed = follower.finish()?;
    if matches!(promise, Promise::GitSha1(_)) {
        let git = git_sha1(partial.data(), hashed.size)
            .map_err(Error::io("the download could not be read back"))?;
        hashed.git_sha1 = Some(git);
    }
    hashed.hold_against(subject, promise)?;
    Ok(hashed)
}

impl Hashed {
    fn hold_against(&self, subject: &str, promise: Promise) -> Result<(), Error> {
        let mismatch = |expected: String, got: String| {
            Err(Error::Mismatch { subject: subject.to_owned(), expected, got })
        };
        match promise {
            Promise::Sha256(digest) if digest != self.digest => {
                mismatch(format!("sha256:{digest}"), format!("sha256:{}", self.digest))
            }
            Promise::GitSha1(sha1) if self.git_sha1 != Some(sha1) => mismatch(
                format!("git:{}", hex(&sha1)),
                format!("git:{}", hex(&self.git_sha1.unwrap_or_default())),
            ),
            _ => Ok(()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Gives verified bytes their final name. The caller leases the digest, so that they are not removed again.
///
/// A name that is there is never replaced by equal bytes: a worker may have been allowed to read that inode, and
/// would be refused another. What lies there counts once it was hashed; `from` is removed then. What is wrong is
/// set aside.
///
/// A failed `fsync` is never tried again; the caller throws the file away.
///
/// # Errors
/// Whatever the system says; then nothing lies under the final name that was not there before.
pub(crate) fn publish(layout: &Layout, file: &File, from: &Path, digest: &Digest) -> Result<BlobRow, Error> {
    let settle = || -> io::Result<BlobRow> {
        let to = layout.blob(digest);
        durable::seal(file)?;
        let shard = to.parent().ok_or_else(|| io::Error::other("a blob without a directory"))?;
        durable::create_private_dir(shard)?;
        let mut facts = file.metadata()?;
        if !durable::publish_new(from, &to)? {
            if let Some(there) = right(layout, &to, digest)? {
                facts = there;
                fs_err::remove_file(from)?;
            } else {
                fs_err::rename(&to, layout.quarantine(digest))?;
                if !durable::publish_new(from, &to)? {
                    return Err(io::Error::other("another process writes the same blob, with other bytes"));
                }
            }
        }
        // Bytes of our own need no other's any more.
        let _ = fs_err::remove_file(layout.blob_reference(digest));
        Ok(row(digest, &facts, Ownership::Owned))
    };
    settle().map_err(Error::io("the blob could not be written"))
}

/// What lies under a blob's name, if it is a plain file of the right bytes.
fn right(layout: &Layout, path: &Path, digest: &Digest) -> io::Result<Option<std::fs::Metadata>> {
    let there = match plain::open(layout.root(), path) {
        Err(error) if is_no_blob(&error) => return Ok(None),
        opened => opened?,
    };
    let facts = there.metadata()?;
    Ok((Digest::of_reader(&there)? == *digest).then_some(facts))
}

/// Whether a file could not be opened because of what it is: a link or a folder is no blob, and a file that may not be
/// read is of no use. Any other error says nothing about the bytes.
fn is_no_blob(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied)
}

/// The row of a blob that was verified just now.
pub(crate) fn row(digest: &Digest, facts: &std::fs::Metadata, origin: Ownership) -> BlobRow {
    let now = now_ms();
    BlobRow {
        digest: *digest,
        size: facts.len(),
        state: BlobState::Ready,
        verified_ms: now,
        stamp: Stamp::of(facts),
        origin,
        created_ms: now,
    }
}

/// Makes a blob of bytes that the program has.
///
/// # Errors
/// Whatever the system says.
pub(crate) fn of_bytes(layout: &Layout, digest: &Digest, bytes: &[u8]) -> Result<BlobRow, Error> {
    use std::os::unix::fs::FileExt as _;
    let tmp = layout.tmp().join(durable::random_name());
    let fail = Error::io("the blob could not be written");
    let written = durable::create_new(&tmp).and_then(|file| {
        file.file().write_all_at(bytes, 0)?;
        Ok(file)
    });
    let published = written.map_err(fail).and_then(|file| publish(layout, &file, &tmp, digest));
    // Renamed away, or not wanted any more.
    let _ = fs_err::remove_file(&tmp);
    published
}

/// Makes a blob of a file on this machine: shares its blocks where the file system can, else copies.
///
/// # Errors
/// [`Error::Mismatch`] when it is not what was promised; else whatever the system says.
pub(crate) fn of_file(
    layout: &Layout,
    subject: &str,
    from: &Path,
    promise: Promise,
    lease: impl FnOnce(Digest) -> Result<(), Error>,
) -> Result<BlobRow, Error> {
    let tmp = layout.tmp().join(durable::random_name());
    let copy = || -> io::Result<(File, Hashed)> {
        reflink_copy::reflink_or_copy(from, &tmp)?;
        // A copy carries the permissions of what it was made from.
        let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
        fs_err::set_permissions(&tmp, private)?;
        let file = plain::open(layout.root(), &tmp)?;
        let digest = Digest::of_reader(&file)?;
        let size = file.metadata()?.len();
        let git_sha1 = match promise {
            Promise::GitSha1(_) => Some(git_sha1(&file, size)?),
            _ => None,
        };
        Ok((file, Hashed { digest, size, git_sha1 }))
    };
    let published = copy().map_err(Error::io("the file could not be copied into the cache")).and_then(
        |(file, hashed)| {
            hashed.hold_against(subject, promise)?;
            lease(hashed.digest)?;
            publish(layout, &file, &tmp, &hashed.digest)
        },
    );
    // Renamed away, or not wanted any more.
    let _ = fs_err::remove_file(&tmp);
    published
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::config::StoreConfig;

    #[test]
    fn equal_bytes_never_replace_those_that_are_there_and_wrong_ones_are_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(&StoreConfig::new(dir.path().join("c"), dir.path().join("s"))).unwrap();
        let digest = Digest::of_bytes(b"bytes");
        let path = layout.blob(&digest);
        let first = of_bytes(&layout, &digest, b"bytes").unwrap();
        let second = of_bytes(&layout, &digest, b"bytes").unwrap();
        assert_eq!(second.stamp, first.stamp, "the name still means the file that it meant");
        fs_err::remove_file(&path).unwrap();
        fs_err::write(&path, "bites").unwrap();
        let third = of_bytes(&layout, &digest, b"bytes").unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"bytes");
        assert_eq!(third.stamp.ino, fs_err::metadata(&path).unwrap().ino());
        assert_eq!(fs_err::read(layout.quarantine(&digest)).unwrap(), b"bites");
        assert_eq!(fs_err::read_dir(layout.tmp()).unwrap().count(), 0);
    }

    #[test]
    fn a_planted_link_folder_or_socket_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(&StoreConfig::new(dir.path().join("c"), dir.path().join("s"))).unwrap();
        let plant_link = |path: &Path| fs_err::os::unix::fs::symlink("/etc/hostname", path).unwrap();
        let plant_folder = |path: &Path| fs_err::create_dir(path).unwrap();
        let plant_socket = |path: &Path| {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Socket, mode, 0).unwrap();
        };
        let plants = [plant_link as fn(&Path), plant_folder, plant_socket];
        for (name, plant) in ["link", "folder", "socket"].into_iter().zip(plants) {
            let bytes = name.as_bytes();
            let digest = Digest::of_bytes(bytes);
            let path = layout.blob(&digest);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            plant(&path);
            of_bytes(&layout, &digest, bytes).unwrap();
            assert_eq!(fs_err::read(&path).unwrap(), bytes);
            let aside = fs_err::symlink_metadata(layout.quarantine(&digest)).unwrap();
            assert!(!aside.is_file(), "{}", path.display());
        }
    }

    #[test]
    fn a_lack_of_descriptors_or_memory_says_nothing_about_a_blob() {
        use rustix::io::Errno;
        for errno in [Errno::MFILE, Errno::NFILE, Errno::IO, Errno::NOMEM] {
            assert!(!is_no_blob(&errno.into()), "{errno}");
        }
        assert!(is_no_blob(&Errno::ACCESS.into()));
    }
}
