//! How much saved prefixes may take, which of them leave first, and how they leave.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::facts::STATE;
use crate::disk::durable::random_name;
use crate::disk::layout::Layout;
use crate::disk::space::{bytes_below, folders, free_disk_bytes};
use crate::error::Error;
use crate::local::Local;

/// What they may take when it is not set: this part of the cache's quota …
const PART_OF_QUOTA: u64 = 20;
/// … and no more than this.
const DEFAULT_BYTES: u64 = 10_000_000_000;
/// The quota of a cache for which none is set either, as in [`crate::collect`].
const CACHE_BYTES: u64 = 100_000_000_000;
/// A prefix is a directory of two files.
const DEPTH: u32 = 2;

/// A saved prefix on the disk.
#[derive(Clone, Debug)]
pub(crate) struct PrefixEntry {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Since it was saved or restored last, by the wall clock.
    used: SystemTime,
}

/// Every saved prefix.
///
/// # Errors
/// When a directory cannot be read.
pub(crate) fn kept(layout: &Layout) -> io::Result<Vec<PrefixEntry>> {
    let mut all = Vec::new();
    for (_, owner) in folders(&layout.prefixes())? {
        all.extend(kept_of(&owner)?);
    }
    Ok(all)
}

/// Those of some weights.
///
/// # Errors
/// As [`entries`].
pub(crate) fn kept_of(owner: &Path) -> io::Result<Vec<PrefixEntry>> {
    let mut all = Vec::new();
    for (_, kind) in folders(owner)? {
        for (_, path) in folders(&kind)? {
            let state = fs_err::symlink_metadata(path.join(STATE));
            let used = state.and_then(|state| state.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            all.push(PrefixEntry { bytes: bytes_below(&path, DEPTH).0, path, used });
        }
    }
    Ok(all)
}

/// What they may take together.
pub(crate) fn quota_bytes(local: &Local) -> u64 {
    local.config.prefixes.quota_bytes.unwrap_or_else(|| {
        let free = free_disk_bytes(local.cache.layout.root()).unwrap_or(0);
        let cache = local.config.max_size_bytes.unwrap_or_else(|| CACHE_BYTES.min(free / 10 * 7));
        (cache / PART_OF_QUOTA).min(DEFAULT_BYTES)
    })
}

/// Makes room for one more of so many bytes, of which so many are still to be written: the least recently used
/// leave.
///
/// # Errors
/// [`Error::NoRoom`] when it could not be kept whatever left; then nothing left.
pub(super) fn make_room(local: &Local, bytes: u64, unwritten_bytes: u64) -> Result<(), Error> {
    let quota = quota_bytes(local);
    let no_room = |free_bytes, limit| {
        Err(Error::NoRoom { subject: "a prompt's state".to_owned(), needed_bytes: bytes, free_bytes, limit })
    };
    if bytes > quota {
        return no_room(quota, "quota");
    }
    let free = free_disk_bytes(local.cache.layout.root()).unwrap_or(0);
    if free < local.config.min_free_bytes.saturating_add(unwritten_bytes) {
        return no_room(free.saturating_sub(local.config.min_free_bytes), "disk");
    }
    let mut kept = kept(&local.cache.layout).map_err(Error::io("the saved prefixes could not be listed"))?;
    let mut taken: u64 = kept.iter().map(|kept| kept.bytes).sum();
    kept.sort_by_key(|kept| kept.used);
    for oldest in kept {
        if taken.saturating_add(bytes) <= quota {
            break;
        }
        remove(&local.cache.layout, &oldest.path);
        taken -= oldest.bytes;
    }
    Ok(())
}

/// Lets one go: out of the way at once, unlinked afterwards. A process that has it open keeps what it has.
pub(super) fn remove(layout: &Layout, path: &Path) {
    let aside = layout.trash().join(random_name());
    let removed = fs_err::rename(path, &aside).and_then(|()| fs_err::remove_dir_all(&aside));
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "a saved prefix could not be removed");
    }
}
