//! How a derived file is found: leased first, then looked at, and let go when it is not what was put there.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use samovar_core::Digest;

use super::facts::{Counted, DATA, DerivedMetadata, FACTS, Name};
use super::{OpenedDerived, check, entries};
use crate::cache::Cache;
use crate::disk::durable;
use crate::disk::layout::Layout;
use crate::disk::plain;
use crate::disk::trash::empty_trash;
use crate::error::Error;
use crate::index::Stamp;
use crate::local::Local;

/// Derived files that an engine of this process did not take: those of read-only stores are still there.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<HashSet<Digest>>);

impl Refused {
    fn names(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, name: &Name) -> bool {
        self.names().contains(&name.id)
    }

    fn note(&self, name: &Name) {
        self.names().insert(name.id);
    }

    /// It was made anew.
    pub(super) fn forget(&self, name: &Name) {
        self.names().remove(&name.id);
    }
}

/// Derived files that this process held against their digests without being able to write down beside them what came of
/// it: those of stores that are only read. Each with what it was then, and whether it was right.
#[derive(Debug, Default)]
struct Judged(Mutex<HashMap<PathBuf, (Stamp, Digest, bool)>>);

impl Judged {
    fn files(&self) -> MutexGuard<'_, HashMap<PathBuf, (Stamp, Digest, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file was right, if it is the same still.
    fn verdict(&self, place: &Path, stamp: &Stamp, digest: Digest) -> Option<bool> {
        let files = self.files();
        let (then, of, is_right) = files.get(place)?;
        (then == stamp && *of == digest).then_some(*is_right)
    }

    fn note(&self, place: &Path, stamp: Stamp, digest: Digest, is_right: bool) {
        self.files().insert(place.to_owned(), (stamp, digest, is_right));
    }
}

/// What this process remembers of derived files that it cannot change.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    pub(super) refused: Refused,
    judged: Judged,
}

/// What lies under a name.
enum Look {
    Right(DerivedMetadata),
    /// Not what was put there.
    Wrong,
}

/// Opens a derived file, of the cache or of a read-only store.
///
/// # Errors
/// When it is there and cannot be read.
pub(super) fn find(
    local: &Local,
    remembered: &Remembered,
    name: &Name,
) -> Result<Option<OpenedDerived>, Error> {
    if let Some(opened) = find_here(&local.cache, &remembered.judged, name)? {
        return Ok(Some(opened));
    }
    if remembered.refused.has(name) {
        return Ok(None);
    }
    let in_tier = local.tiers.all().iter().find_map(|tier| {
        let place = name.place(&tier.layout);
        match look(&remembered.judged, &tier.layout, &place) {
            Ok(Look::Right(facts)) => Some((place.join(DATA), facts)),
            _ => None,
        }
    });
    Ok(in_tier.map(|(path, facts)| OpenedDerived { path, facts, _lease: local.cache.leases.nothing() }))
}

fn find_here(cache: &Cache, judged: &Judged, name: &Name) -> Result<Option<OpenedDerived>, Error> {
    let place = name.place(&cache.layout);
    if fs_err::symlink_metadata(&place).is_err() {
        return Ok(None);
    }
    let lease = cache.leases.take(&[name.id]).unwrap_or_else(|error| {
        // A full disk must not hide what is there; mapped files outlive their names.
        tracing::warn!(%error, "a derived file is opened without a lease");
        cache.leases.nothing()
    });
    match look(judged, &cache.layout, &place) {
        Ok(Look::Right(facts)) => {
            note_used(&cache.layout, &place);
            cache.index.count(name.kind.counter(Counted::Opened), 1);
            Ok(Some(OpenedDerived { path: place.join(DATA), facts, _lease: lease }))
        }
        Ok(Look::Wrong) => {
            tracing::warn!(path = %place.display(), "{} is damaged", name.kind.subject());
            cache.index.count(name.kind.counter(Counted::Damaged), 1);
            if !cache.is_barred() {
                entries::remove(&cache.layout, &place);
            }
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("a derived file could not be read")(error)),
    }
}

/// What lies in a derived file's directory. Reads it whole only when it was touched since it was made.
///
/// # Errors
/// `NotFound` when it is gone; whatever else the system says.
fn look(judged: &Judged, layout: &Layout, place: &Path) -> io::Result<Look> {
    let is_half = |looked: &io::Result<Look>| match looked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs_err::symlink_metadata(place).is_ok(),
        _ => false,
    };
    let mut looked = look_once(judged, layout, place);
    if is_half(&looked) {
        // It left between two looks, and a new one came in its place; or one of its files was taken away.
        looked = look_once(judged, layout, place);
    }
    if is_half(&looked) { Ok(Look::Wrong) } else { looked }
}

fn look_once(judged: &Judged, layout: &Layout, place: &Path) -> io::Result<Look> {
    let Some(facts) = DerivedMetadata::read(layout, place)? else { return Ok(Look::Wrong) };
    let data = plain::metadata(layout.root(), &place.join(DATA))?;
    let stamp = Stamp::of(&data.ok_or(io::ErrorKind::NotFound)?);
    if facts.is_untouched(&stamp) {
        return Ok(Look::Right(facts));
    }
    match judged.verdict(place, &stamp, facts.digest) {
        Some(true) => Ok(Look::Right(facts)),
        Some(false) => Ok(Look::Wrong),
        None => read_again(judged, layout, place, facts),
    }
}

/// Holds a derived file against its digest.
///
/// # Errors
/// When it cannot be read.
fn read_again(judged: &Judged, layout: &Layout, place: &Path, facts: DerivedMetadata) -> io::Result<Look> {
    let file = plain::open(layout.root(), &place.join(DATA))?;
    let stamp = Stamp::of(&file.metadata()?);
    let never = AtomicBool::new(false);
    let is_right =
        stamp.size == facts.bytes && check::digest_of(file.file(), stamp.size, &never)? == Some(facts.digest);
    let is_written = is_right
        && layout.is_writable()
        && durable::write(layout, &place.join(FACTS), &facts.stamped(&stamp).to_text()).is_ok();
    if !is_written {
        judged.note(place, stamp, facts.digest, is_right);
    }
    Ok(if is_right { Look::Right(facts) } else { Look::Wrong })
}

/// The derived file that lies at this path, in the cache or in a read-only store.
///
/// # Errors
/// When what is written beside it cannot be read.
pub(super) fn named(local: &Local, data: &Path) -> io::Result<Option<Name>> {
    let Some(place) = data.parent() else { return Ok(None) };
    let tiers = local.tiers.all().iter().map(|tier| &tier.layout);
    let Some(layout) =
        std::iter::once(&local.cache.layout).chain(tiers).find(|layout| place.starts_with(layout.root()))
    else {
        return Ok(None);
    };
    match DerivedMetadata::read(layout, place) {
        Ok(facts) => Ok(facts.map(|facts| facts.name())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the data of a derived file lies, if it seems to be there: nothing is read, leased or counted.
pub(super) fn peek(local: &Local, remembered: &Remembered, name: &Name) -> Option<PathBuf> {
    let is_there = |layout: &Layout| {
        let place = name.place(layout);
        let has = |part: &str| fs_err::symlink_metadata(place.join(part)).is_ok();
        (has(DATA) && has(FACTS)).then(|| place.join(DATA))
    };
    if let Some(path) = is_there(&local.cache.layout) {
        return Some(path);
    }
    if remembered.refused.has(name) {
        return None;
    }
    local.tiers.all().iter().find_map(|tier| is_there(&tier.layout))
}

fn note_used(layout: &Layout, place: &Path) {
    if layout.is_writable()
        && let Ok(facts) = plain::open(layout.root(), &place.join(FACTS))
    {
        // Without it the file counts as unused since its last use before.
        let _ = facts.file().set_modified(SystemTime::now());
    }
}

/// Lets a derived file go that an engine refused.
pub(super) fn discard(cache: &Cache, refused: &Refused, name: &Name, why: &str) {
    tracing::debug!(why, "a derived file is not taken by its engine; it goes");
    refused.note(name);
    cache.index.count(name.kind.counter(Counted::Refused), 1);
    if cache.layout.is_writable() {
        entries::remove(&cache.layout, &name.place(&cache.layout));
    }
}

/// Lets a derived file go that is sound, and of no use, unless it is used all the same.
pub(super) fn give_up(layout: &Layout, name: &Name) {
    if !layout.is_writable() {
        return;
    }
    match entries::take_unless_held(layout, &name.place(layout), Some(name.id)) {
        Ok(_) => empty_trash(layout),
        Err(error) => tracing::debug!(%error, "a derived file could not be given up"),
    }
}
