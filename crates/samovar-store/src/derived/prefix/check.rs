//! Holds saved states against their digests: one when it is opened, all when the store is verified.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use samovar_core::Digest;
use samovar_core::digest::Hasher;

use super::facts::{PrefixMetadata, STATE};
use super::quota;
use crate::artifact::key::KeyDigest;
use crate::cache::Cache;
use crate::disk::layout::Layout;
use crate::disk::plain;
use crate::error::Error;

const PIECE_BYTES: usize = 256 * 1024;

/// What a verification found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checked {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) damaged: u64,
}

/// Opens a state that is what it was, from its beginning; one that is not goes. `None` = it is not there.
///
/// # Errors
/// When it cannot be read.
pub(super) fn open(cache: &Cache, prefix: &Path) -> io::Result<Option<File>> {
    match look(&cache.layout, prefix) {
        Ok(Some((file, _))) => Ok(Some(file)),
        Ok(None) => {
            tracing::warn!(path = %prefix.display(), "a saved prefix was damaged; it goes");
            cache.index.count("prefixes_damaged", 1);
            quota::remove(&cache.layout, prefix);
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The state with its size; `None` when its bytes are not what they were.
fn look(layout: &Layout, prefix: &Path) -> io::Result<Option<(File, u64)>> {
    let Some(facts) = PrefixMetadata::read(layout, prefix)? else { return Ok(None) };
    let (file, _) = plain::open(layout.root(), &prefix.join(STATE))?.into_parts();
    let is_right = file.metadata()?.len() == facts.bytes && digest_of(&file, facts.bytes)? == facts.digest;
    Ok(is_right.then_some((file, facts.bytes)))
}

/// The digest of the first bytes of a file. Leaves its position alone, which others may share.
///
/// # Errors
/// When it cannot be read, or is shorter.
pub(super) fn digest_of(file: &File, bytes: u64) -> io::Result<Digest> {
    let (mut hasher, mut piece, mut at) = (Hasher::new(), vec![0; PIECE_BYTES], 0);
    while at < bytes {
        let count = PIECE_BYTES.min(usize::try_from(bytes - at).unwrap_or(PIECE_BYTES));
        file.read_exact_at(&mut piece[..count], at)?;
        hasher.update(&piece[..count]);
        at += count as u64;
    }
    Ok(hasher.finish())
}

/// Reads every saved state of these artifacts, or of everything when none is named. Damaged ones go.
///
/// # Errors
/// When a directory cannot be listed.
pub(crate) fn verify(layout: &Layout, keys: &[KeyDigest], stop: &AtomicBool) -> Result<Checked, Error> {
    let kept = if keys.is_empty() {
        quota::kept(layout)
    } else {
        keys.iter()
            .map(|key| quota::kept_of(&layout.prefixes_of(key)))
            .collect::<io::Result<Vec<_>>>()
            .map(|all| all.concat())
    };
    let mut checked = Checked::default();
    for kept in kept.map_err(Error::io("the saved prefixes could not be listed"))? {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match look(layout, &kept.path) {
            Ok(Some((_, bytes))) => {
                checked.count += 1;
                checked.bytes += bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !kept.path.exists() => (),
            // What cannot be read is of no use, and is only a copy of what can be computed.
            Ok(None) | Err(_) => {
                checked.damaged += 1;
                if layout.is_writable() {
                    quota::remove(layout, &kept.path);
                }
            }
        }
    }
    Ok(checked)
}
