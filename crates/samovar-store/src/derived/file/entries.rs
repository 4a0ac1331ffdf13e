//! Which derived files there are, which of them are worth least, and how they leave.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use samovar_core::Digest;
use serde::{Deserialize, Serialize};

use super::facts::{DATA, DerivedKind, DerivedMetadata, FACTS, Name};
use crate::artifact::key::KeyDigest;
use crate::disk::durable::random_name;
use crate::disk::layout::Layout;
use crate::disk::lease::{self, alone};
use crate::disk::plain;
use crate::disk::space::{bytes_below, folders};
use crate::disk::trash::empty_trash;
use crate::error::Error;

/// How many bytes are expected, in the directory of a file that is made.
pub(super) const BYTES: &str = "bytes";
/// A derived file is a directory of two files.
const DEPTH: u32 = 2;

/// A derived file on the disk.
#[derive(Clone, Debug)]
pub(crate) struct DerivedEntry {
    pub(crate) path: PathBuf,
    /// What a lease on it says; `None` for a directory that no program of ours named.
    pub(crate) id: Option<Digest>,
    /// Bytes that it takes.
    bytes: u64,
    /// `None` when they are none.
    facts: Option<DerivedMetadata>,
    /// Of the same weights there is one that was made later.
    pub(crate) is_outdone: bool,
    used: SystemTime,
}

/// A derived file, as a list tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DerivedFacts {
    /// What tells the weights that it was made of from all others.
    pub source: String,
    /// The engine's key.
    pub key: String,
    /// The artifact that it was made of; `None` for weights that are not the store's.
    pub parent: Option<KeyDigest>,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was last opened or made, in milliseconds since 1970.
    pub used_ms: u64,
}

impl DerivedEntry {
    /// The artifact that it was made of.
    pub(crate) fn parent(&self) -> Option<KeyDigest> {
        self.facts.as_ref().and_then(|facts| facts.parent)
    }

    /// Whether it can be found at all.
    pub(crate) fn is_known(&self) -> bool {
        self.facts.is_some()
    }

    pub(super) fn into_file(self) -> Option<DerivedFacts> {
        let facts = self.facts?;
        Some(DerivedFacts {
            source: facts.source,
            key: facts.key,
            parent: facts.parent,
            bytes: self.bytes,
            created_ms: facts.created_ms,
            used_ms: self.used.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        })
    }

    fn created_ms(&self) -> u64 {
        self.facts.as_ref().map_or(0, |facts| facts.created_ms)
    }
}

/// Every file of a kind, those of one source together.
///
/// # Errors
/// When a directory cannot be read.
pub(crate) fn kept(layout: &Layout, kind: DerivedKind) -> io::Result<Vec<DerivedEntry>> {
    let mut all = Vec::new();
    for (_, source) in folders(&kind.folder(layout))? {
        all.extend(kept_of(layout, &source)?);
    }
    Ok(all)
}

/// How much there is.
pub(crate) fn total(layout: &Layout, kind: DerivedKind) -> (u64, u64) {
    let kept = kept(layout, kind).unwrap_or_default();
    (kept.len() as u64, kept.iter().map(|kept| kept.bytes).sum())
}

/// Those of one source, the last made first.
fn kept_of(layout: &Layout, source: &Path) -> io::Result<Vec<DerivedEntry>> {
    let mut all = Vec::new();
    for (name, path) in folders(source)? {
        let used = fs_err::symlink_metadata(path.join(FACTS)).and_then(|facts| facts.modified());
        all.push(DerivedEntry {
            bytes: bytes_below(&path, DEPTH).0,
            id: name.parse().ok(),
            // One that cannot be read now is as good as none.
            facts: DerivedMetadata::read(layout, &path).ok().flatten().filter(|_| path.join(DATA).exists()),
            is_outdone: false,
            used: used.unwrap_or(UNIX_EPOCH),
            path,
        });
    }
    all.sort_by_key(|kept| std::cmp::Reverse((kept.is_known(), kept.created_ms())));
    all.iter_mut().skip(1).for_each(|kept| kept.is_outdone = true);
    Ok(all)
}

/// How many bytes the maker of a derived file said it would be.
pub(crate) fn expected_bytes(layout: &Layout, dir: &Path) -> Option<u64> {
    let text = plain::read(layout.root(), &dir.join(BYTES), 64).ok()?;
    std::str::from_utf8(&text).ok()?.trim().parse().ok()
}

/// What is said when they cannot be listed.
pub(super) fn unlisted() -> impl FnOnce(io::Error) -> Error {
    Error::io("the files that were made of models could not be listed")
}

/// Lets those of a source go that are too many by now: never the one of this name, and none in use.
pub(super) fn thin_out(layout: &Layout, name: &Name) {
    let place = name.place(layout);
    let others = place.parent().map(|source| kept_of(layout, source));
    let mut others = others.and_then(Result::ok).unwrap_or_default();
    others.retain(|kept| kept.path != place);
    others.sort_by_key(|kept| std::cmp::Reverse((kept.is_known(), kept.used)));
    for kept in others.into_iter().skip(name.kind.kept_of_source() - 1) {
        if let Err(error) = take_unless_held(layout, &kept.path, kept.id) {
            tracing::debug!(%error, "a derived file could not be removed");
        }
    }
    empty_trash(layout);
}

/// Lets one go unless a process uses it; false when one does. Its bytes are given back when the trash is emptied.
///
/// # Errors
/// When the leases cannot be read or the disk refuses.
pub(crate) fn take_unless_held(layout: &Layout, place: &Path, id: Option<Digest>) -> Result<bool, Error> {
    let _alone = alone(layout)?;
    let held = lease::held(layout).map_err(Error::io("the leases could not be read"))?;
    if id.is_some_and(|id| held.contains_key(&id)) {
        return Ok(false);
    }
    move_out(layout, place).map_err(Error::io("a derived file could not be moved out of the way"))?;
    Ok(true)
}

/// Lets one go, used or not: out of the way at once, unlinked afterwards. A process that has it open keeps what it has.
pub(super) fn remove(layout: &Layout, place: &Path) {
    let moved = match alone(layout) {
        Ok(_alone) => move_out(layout, place),
        Err(error) => Err(io::Error::other(error)),
    };
    let removed = moved.and_then(|aside| aside.map_or(Ok(()), fs_err::remove_dir_all));
    if let Err(error) = removed {
        tracing::debug!(%error, "a derived file could not be removed");
    }
}

/// To the trash, with its source's directory when that is empty now. The caller is alone, so that no process is just
/// putting another one there.
fn move_out(layout: &Layout, place: &Path) -> io::Result<Option<PathBuf>> {
    let aside = layout.trash().join(random_name());
    match fs_err::rename(place, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        moved => moved?,
    }
    if let Some(source) = place.parent() {
        // It has others, or goes with the next one.
        let _ = fs_err::remove_dir(source);
    }
    Ok(Some(aside))
}
