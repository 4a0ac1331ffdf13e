//! Holds derived files against their digests when the store is verified.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use samovar_core::Digest;
use samovar_core::digest::Hasher;

use super::entries::{self, DerivedEntry};
use super::facts::{Counted, DATA, DerivedKind, DerivedMetadata};
use crate::artifact::key::KeyDigest;
use crate::cache::Cache;
use crate::disk::layout::Layout;
use crate::disk::plain;
use crate::error::Error;

const PIECE_BYTES: usize = 1 << 20;

/// What a verification found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checked {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) damaged: u64,
}

/// Reads every file of a kind of these artifacts, or all when none is named. Damaged ones go.
///
/// # Errors
/// When a directory cannot be listed.
pub(crate) fn verify(
    cache: &Cache,
    kind: DerivedKind,
    keys: &[KeyDigest],
    stop: &AtomicBool,
) -> Result<Checked, Error> {
    let mut kept = entries::kept(&cache.layout, kind).map_err(entries::unlisted())?;
    kept.retain(|kept| keys.is_empty() || kept.parent().is_some_and(|parent| keys.contains(&parent)));
    let mut checked = Checked::default();
    for kept in kept {
        match check(&cache.layout, &kept, stop) {
            Ok(Finding::Unread) => break,
            Ok(Finding::Right(bytes)) => {
                checked.count += 1;
                checked.bytes += bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !kept.path.exists() => (),
            // What cannot be read is of no use, and is only a copy of what can be made again.
            Ok(Finding::Wrong) | Err(_) => {
                checked.damaged += 1;
                cache.index.count(kind.counter(Counted::Damaged), 1);
                if cache.layout.is_writable() {
                    entries::remove(&cache.layout, &kept.path);
                }
            }
        }
    }
    Ok(checked)
}

/// What a derived file turned out to be.
enum Finding {
    /// What was put there, with its bytes.
    Right(u64),
    Wrong,
    /// It was not read to its end.
    Unread,
}

fn check(layout: &Layout, kept: &DerivedEntry, stop: &AtomicBool) -> io::Result<Finding> {
    let Some(facts) = DerivedMetadata::read(layout, &kept.path)? else { return Ok(Finding::Wrong) };
    let file = plain::open(layout.root(), &kept.path.join(DATA))?;
    if file.metadata()?.len() != facts.bytes {
        return Ok(Finding::Wrong);
    }
    Ok(match digest_of(file.file(), facts.bytes, stop)? {
        Some(digest) if digest == facts.digest => Finding::Right(facts.bytes),
        Some(_) => Finding::Wrong,
        None => Finding::Unread,
    })
}

/// The digest of the first bytes of a file, unless it is told to stop. Leaves its position alone, which others may
/// share.
///
/// # Errors
/// When it cannot be read, or is shorter.
pub(super) fn digest_of(file: &File, bytes: u64, stop: &AtomicBool) -> io::Result<Option<Digest>> {
    let (mut hasher, mut piece, mut at) = (Hasher::new(), vec![0; PIECE_BYTES], 0);
    while at < bytes {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let count = PIECE_BYTES.min(usize::try_from(bytes - at).unwrap_or(PIECE_BYTES));
        file.read_exact_at(&mut piece[..count], at)?;
        hasher.update(&piece[..count]);
        at += count as u64;
    }
    Ok(Some(hasher.finish()))
}
