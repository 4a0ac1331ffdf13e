//! Bytes by their digest: where they lie, and whether they are still what they were.
//!
//! ```text
//!   blobs/sha256/ab/<hex>       the bytes, ours
//!   blobs/sha256/ab/<hex>.ref   where they lie when they are another program's: used there, never changed
//! ```
//!
//! A blob is trusted while its file's stamp (device, inode, time of change, size) is the one in the index.
//! Only a changed stamp means that the bytes are hashed again.

use std::io;
use std::path::{Path, PathBuf};

use samovar_core::Digest;
use serde::{Deserialize, Serialize};

use crate::disk::durable;
use crate::disk::layout::Layout;
use crate::disk::lock::{FileLock, Hold};
use crate::disk::plain;
use crate::error::Error;
use crate::index::{BlobRow, BlobState, Index, Ownership, Stamp, now_ms};

/// Bytes of a reference that is read at all.
const REFERENCE_BYTES: u64 = 64 << 10;

/// Where bytes lie that are not ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Elsewhere {
    /// The file, absolute, without symlinks.
    pub(crate) path: PathBuf,
    /// What it was when it was hashed.
    pub(crate) size: u64,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) mtime_ns: i64,
}

/// Where the bytes of a digest lie now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlobFile {
    pub(crate) path: PathBuf,
    pub(crate) stamp: Stamp,
    /// The stamp that the reference recorded, where the bytes are referenced.
    referenced: Option<Stamp>,
}

impl Elsewhere {
    /// The record of a file that was hashed while it had this stamp.
    pub(crate) fn of(path: PathBuf, stamp: Stamp) -> Self {
        Self { path, size: stamp.size, dev: stamp.dev, ino: stamp.ino, mtime_ns: stamp.mtime_ns }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { dev: self.dev, ino: self.ino, mtime_ns: self.mtime_ns, size: self.size }
    }

    /// Reads a reference; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub(crate) fn read(layout: &Layout, digest: &Digest) -> io::Result<Option<Self>> {
        let path = layout.blob_reference(digest);
        match plain::read(layout.root(), &path, REFERENCE_BYTES) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a reference.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(crate) fn write(&self, layout: &Layout, digest: &Digest) -> io::Result<()> {
        let path = layout.blob_reference(digest);
        let shard = path.parent().ok_or_else(|| io::Error::other("a blob without a directory"))?;
        durable::create_private_dir(shard)?;
        durable::write(layout, &path, &serde_json::to_vec(self).map_err(io::Error::other)?)
    }
}

/// Where the bytes of a digest lie; `None` when they are not here. Reads no bytes.
///
/// # Errors
/// When that cannot be found out, or something else than a plain file lies there.
pub(crate) fn locate(layout: &Layout, digest: &Digest) -> Result<Option<BlobFile>, Error> {
    let look = || -> io::Result<Option<BlobFile>> {
        let path = layout.blob(digest);
        if let Some(facts) = plain::metadata(layout.root(), &path)? {
            return Ok(Some(BlobFile { path, stamp: Stamp::of(&facts), referenced: None }));
        }
        let Some(elsewhere) = Elsewhere::read(layout, digest)? else { return Ok(None) };
        match fs_err::symlink_metadata(&elsewhere.path) {
            Ok(facts) if facts.is_file() => Ok(Some(BlobFile {
                referenced: Some(elsewhere.stamp()),
                path: elsewhere.path,
                stamp: Stamp::of(&facts),
            })),
            // Its owner took it away.
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    };
    look().map_err(Error::io("the blob could not be looked at"))
}

/// Whether a blob is here and is what it was; hashed again only when its file changed. What was found is
/// noted in the index. `size` is what others say of it: only the bytes decide whether it is damaged.
///
/// # Errors
/// [`Error::Damaged`] when the bytes are not right any more; they were set aside. [`Error::BadAnswer`] when they
/// are right and of another size than was said.
pub(crate) fn settle(
    layout: &Layout,
    index: &Index,
    digest: &Digest,
    size: u64,
) -> Result<Option<BlobFile>, Error> {
    let Some(place) = settle_any(layout, index, digest, size)? else { return Ok(None) };
    if place.stamp.size == size {
        return Ok(Some(place));
    }
    let message = format!("it is said to have {size} bytes and has {}", place.stamp.size);
    Err(Error::BadAnswer { subject: format!("sha256:{digest}"), message })
}

fn settle_any(layout: &Layout, index: &Index, digest: &Digest, size: u64) -> Result<Option<BlobFile>, Error> {
    let Some(place) = locate(layout, digest)? else { return Ok(None) };
    let row = index.blob(digest)?;
    match row {
        Some(row) if row.state == BlobState::Ready && row.stamp == place.stamp => return Ok(Some(place)),
        Some(row) if row.state == BlobState::Deleting && layout.is_writable() => {
            return left_by_collection(layout, index, digest);
        }
        // The index forgot it, the file is as it was put there. For references their own stamp decides.
        None if place.stamp.size == size && place.referenced.is_none_or(|stamp| stamp == place.stamp) => {
            let _ = index.put_blob(&unhashed(digest, &place));
            return Ok(Some(place));
        }
        _ => (),
    }
    if hash(&place.path)? == *digest {
        let origin = row.map_or(place.origin(), |row| row.origin);
        let now = now_ms();
        let created_ms = row.map_or(now, |row| row.created_ms);
        let found = BlobRow { created_ms, verified_ms: now, origin, ..unhashed(digest, &place) };
        let _ = index.put_blob(&found);
        return Ok(Some(place));
    }
    set_aside(layout, index, digest)?;
    Err(Error::Damaged { digest: *digest, of: None })
}

/// Waits for the collection that marked a blob. One that died left it where it was: it is as good as before.
fn left_by_collection(layout: &Layout, index: &Index, digest: &Digest) -> Result<Option<BlobFile>, Error> {
    let _shared = FileLock::wait(layout.root(), &layout.gc_lock(), Hold::Shared)
        .map_err(Error::io("the cache could not be locked"))?;
    let place = locate(layout, digest)?;
    if place.is_some() {
        index.set_blob_state(digest, BlobState::Ready)?;
    }
    Ok(place)
}

impl BlobFile {
    pub(crate) fn origin(&self) -> Ownership {
        if self.referenced.is_some() { Ownership::Reference } else { Ownership::Owned }
    }
}

/// The row of a blob that lies here and was not hashed now.
pub(crate) fn unhashed(digest: &Digest, place: &BlobFile) -> BlobRow {
    BlobRow {
        digest: *digest,
        size: place.stamp.size,
        state: BlobState::Ready,
        verified_ms: 0,
        stamp: place.stamp,
        origin: place.origin(),
        created_ms: now_ms(),
    }
}

fn hash(path: &Path) -> Result<Digest, Error> {
    Digest::of_file(path).map_err(Error::io("the blob could not be read"))
}

/// Takes a damaged blob out of the way. Bytes that are not ours stay where they are; only our reference
/// to them goes.
///
/// # Errors
/// When it cannot be moved.
pub(crate) fn set_aside(layout: &Layout, index: &Index, digest: &Digest) -> Result<(), Error> {
    if !layout.is_writable() {
        return Ok(());
    }
    let away = |path: &Path, to: Option<&Path>| {
        let moved = match to {
            Some(to) => fs_err::rename(path, to),
            None => fs_err::remove_file(path),
        };
        match moved {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    };
    // The index first: a row that calls a blob ready never outlives its file, wherever this breaks off. A file
    // that stays behind under a marked row is hashed before it is trusted.
    index.set_blob_state(digest, BlobState::Quarantined)?;
    let moved = away(&layout.blob(digest), Some(&layout.quarantine(digest)))
        .and_then(|()| away(&layout.blob_reference(digest), None))
        .and_then(|()| match durable::sync_parent(&layout.blob(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        });
    moved.map_err(Error::io("the damaged blob could not be set aside"))?;
    tracing::warn!(%digest, "a blob was damaged; it was set aside");
    index.count("quarantined", 1);
    Ok(())
}

/// Whether bytes are what their digest says, by reading them all. Wrong ones are set aside.
///
/// # Errors
/// When they cannot be read or moved.
pub(crate) fn rehash(layout: &Layout, index: &Index, digest: &Digest) -> Result<bool, Error> {
    let Some(place) = locate(layout, digest)? else { return Ok(false) };
    if hash(&place.path)? == *digest {
        let _ = index.stamp_blob(digest, place.stamp, now_ms());
        return Ok(true);
    }
    set_aside(layout, index, digest)?;
    Ok(false)
}
