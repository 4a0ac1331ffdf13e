//! Read-only views of an artifact with its real file names, for engines that want paths.
//!
//! ```text
//!   snapshots/<key>/model-00001-of-00002.gguf ─► the blob: a hard link, else a symlink
//! ```
//!
//! A snapshot is made complete under another name and then renamed, so that a directory with a snapshot's
//! name always holds all of its files. It holds nothing that the blobs do not.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::artifact::key::KeyDigest;
use crate::artifact::name::FilePath;
use crate::disk::durable;
use crate::disk::layout::Layout;
use crate::disk::stamp::Stamp;
use crate::error::Error;

/// A file of a snapshot: its name, where its bytes lie, and what they are.
pub(crate) struct Link<'a> {
    pub(crate) name: &'a FilePath,
    pub(crate) blob: &'a Path,
    pub(crate) stamp: Stamp,
    /// The bytes are this store's: others' get no further name.
    pub(crate) is_ours: bool,
}

/// The directory with these links, made anew unless it is there and right.
///
/// # Errors
/// Whatever the system says.
pub(crate) fn build(layout: &Layout, key: &KeyDigest, links: &[Link<'_>]) -> Result<PathBuf, Error> {
    let dir = layout.snapshot(key);
    let settle = || -> io::Result<()> {
        // A second try: another process may have put the same under the name meanwhile.
        for _ in 0..2 {
            if is_right(&dir, links) {
                return Ok(());
            }
            replace(layout, &dir, links)?;
        }
        if is_right(&dir, links) {
            Ok(())
        } else {
            Err(io::Error::other("the snapshot does not stay as it is made"))
        }
    };
    settle().map_err(Error::io("the snapshot could not be made"))?;
    Ok(dir)
}

/// Whether every name leads to the bytes that it should.
fn is_right(dir: &Path, links: &[Link<'_>]) -> bool {
    fs_err::symlink_metadata(dir).is_ok_and(|facts| facts.is_dir())
        && links.iter().all(|link| {
            // Following the link is the point: what counts is the file at its end.
            fs_err::metadata(dir.join(link.name.as_str()))
                .is_ok_and(|facts| (facts.dev(), facts.ino()) == (link.stamp.dev, link.stamp.ino))
        })
}

fn replace(layout: &Layout, dir: &Path, links: &[Link<'_>]) -> io::Result<()> {
    let new = layout.tmp().join(durable::random_name());
    let made = make(&new, links).and_then(|()| {
        if fs_err::symlink_metadata(dir).is_ok() {
            fs_err::rename(dir, layout.trash().join(durable::random_name()))?;
        }
        fs_err::rename(&new, dir)
    });
    match made {
        // Another process made it at the same time.
        Err(_) if is_right(dir, links) => (),
        other => other?,
    }
    // Renamed away, or not needed.
    let _ = fs_err::remove_dir_all(&new);
    Ok(())
}

fn make(new: &Path, links: &[Link<'_>]) -> io::Result<()> {
    durable::create_private_dir(new)?;
    for link in links {
        let at = new.join(link.name.as_str());
        if let Some(parent) = at.parent().filter(|parent| *parent != new) {
            durable::create_private_dir_all(parent)?;
        }
        let linked = link.is_ours && fs_err::hard_link(link.blob, &at).is_ok();
        if !linked {
            fs_err::os::unix::fs::symlink(link.blob, &at)?;
        }
    }
    Ok(())
}
