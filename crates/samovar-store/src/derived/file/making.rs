//! How a derived file is made: by one at a time, beside its place, and there at once when it is whole.
//!
//! ```text
//!   packing/<id>/data         the engine's bytes, as they come; what is prepared may have other files next to it
//!   packing/<id>/bytes        how many are expected, so that others count them
//!   locks/blob/<id>.lock      held while it is made
//! ```
//!
//! A process that dies meanwhile leaves an unlocked directory; the next who makes the same, and every
//! collection, takes it away.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::entries::{self, BYTES};
use super::facts::{Counted, DATA, DerivedFrom, DerivedKind, DerivedMetadata, FACTS, Name};
use super::{OpenedDerived, check};
use crate::collect::promise::Reservation;
use crate::collect::room;
use crate::disk::durable;
use crate::disk::layout::Layout;
use crate::disk::lock::{FileLock, Hold};
use crate::disk::partial::PartialId;
use crate::disk::{plain, space};
use crate::error::Error;
use crate::index::{Stamp, now_ms};
use crate::local::Local;
use crate::store::Store;

/// How often it is looked for the lock, which a survey takes for moments …
const LOOKS: u32 = 5;
/// … and how long is waited in between.
const BETWEEN: Duration = Duration::from_millis(2);

/// What came of the wish to make a derived file.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "taken apart as soon as it is there")]
pub enum Make {
    /// The caller makes it.
    Begun(Making),
    /// It is here.
    Here,
    /// Another maker makes it now, in this process or in another.
    ByAnother,
}

/// A derived file that is being made. Dropping it before [`Making::commit`] takes back everything.
#[must_use = "dropping it takes back what was begun"]
pub struct Making {
    store: Store,
    name: Name,
    origin: DerivedFrom,
    dir: PathBuf,
    data: fs_err::File,
    reserved_bytes: u64,
    reservation: Reservation,
    is_done: bool,
    /// The last to go.
    _lock: FileLock,
}

/// Begins to make a derived file.
///
/// # Errors
/// As [`super::DerivedFiles::make`].
pub(super) fn begin(store: &Store, origin: DerivedFrom, expected_bytes: u64) -> Result<Make, Error> {
    let local = &*store.0.local;
    let layout = &local.cache.layout;
    local.cache.writable(origin.kind.subject())?;
    let name = origin.name();
    if is_here(layout, &name) {
        return Ok(Make::Here);
    }
    let Some(lock) = lock(layout, &name.work())? else { return Ok(Make::ByAnother) };
    // Another process may have made it between the look above and the lock.
    if is_here(layout, &name) {
        return Ok(Make::Here);
    }
    let place = name.place(layout);
    if fs_err::symlink_metadata(&place).is_ok() {
        // Half of one, which would keep the new one from its name.
        entries::remove(layout, &place);
    }
    let dir = layout.packing_of(&name.work());
    clear(&dir)?;
    let reservation = reserve(local, &name, expected_bytes)?;
    let data = lay_out(&dir, expected_bytes).inspect_err(|_| {
        // Rubbish that collection sweeps, should it not go now.
        let _ = fs_err::remove_dir_all(&dir);
    });
    Ok(Make::Begun(Making {
        store: store.clone(),
        name,
        origin,
        dir,
        data: data.map_err(Error::io("a derived file could not be begun"))?,
        reserved_bytes: expected_bytes,
        reservation,
        is_done: false,
        _lock: lock,
    }))
}

/// Looks for room. For packed weights, which no caller needs, nothing goes but what is like them. A model has to be prepared before
/// it can be used.
fn reserve(local: &Local, name: &Name, bytes: u64) -> Result<Reservation, Error> {
    let (subject, work) = (name.kind.subject(), name.work());
    match name.kind {
        DerivedKind::Packed => room::reserve_for_copy(local, subject, work, bytes),
        DerivedKind::Prepared => room::reserve(local, subject, &[(work, bytes)]),
    }
}

fn is_here(layout: &Layout, name: &Name) -> bool {
    let place = name.place(layout);
    [DATA, FACTS].iter().all(|part| fs_err::symlink_metadata(place.join(part)).is_ok())
}

/// The right to make it; `None` when another process has it for longer than a look takes.
fn lock(layout: &Layout, work: &PartialId) -> Result<Option<FileLock>, Error> {
    let path = layout.blob_lock(work);
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::sleep(BETWEEN);
        }
        let lock = FileLock::try_now(layout.root(), &path, Hold::Exclusive);
        let lock = lock.map_err(Error::io("a derived file could not be locked"))?;
        if lock.is_some() {
            return Ok(lock);
        }
    }
    Ok(None)
}

/// Takes away what one who died left.
fn clear(dir: &Path) -> Result<(), Error> {
    match fs_err::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("what is left of a derived file could not be removed")(error))
        }
        _ => Ok(()),
    }
}

fn lay_out(dir: &Path, expected_bytes: u64) -> io::Result<fs_err::File> {
    dir.parent().map_or(Ok(()), durable::create_private_dir)?;
    durable::create_private_dir(dir)?;
    durable::create_new(&dir.join(BYTES))?.write_all(expected_bytes.to_string().as_bytes())?;
    durable::create_new(&dir.join(DATA))
}

impl Making {
    /// The empty private file that the bytes go into, at whatever offsets; holes are fine.
    pub fn file(&self) -> &File {
        self.data.file()
    }

    /// The private directory of what is made, in which a caller may keep further files until then.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where this file lies until it is committed, for a caller that wants to try it first.
    pub fn path(&self) -> &Path {
        self.data.path()
    }

    /// Gives the file its name: from now on it is found, by all processes, also after a power cut. It is leased to
    /// the caller. Older files of the same weights that are too many leave. Blocks for as long as writing it to the
    /// disk and reading it once take.
    ///
    /// # Errors
    /// When nothing was written into it, when it became larger than there is room for, or whatever the disk says;
    /// then everything is taken back.
    pub fn commit(self) -> Result<OpenedDerived, Error> {
        let made = self.commit_unless(&AtomicBool::new(false))?;
        Ok(made.expect("invariant: it is not stopped"))
    }

    /// As [`Making::commit`], unless it is told to stop before the bytes have been read: then everything is taken
    /// back. Bringing them to the disk cannot be broken off.
    ///
    /// # Errors
    /// As [`Making::commit`].
    pub fn commit_unless(mut self, stop: &AtomicBool) -> Result<Option<OpenedDerived>, Error> {
        let fail = || Error::io("a derived file could not be kept");
        if self.name.kind == DerivedKind::Prepared {
            self.take_alone().map_err(fail())?;
        }
        self.settle_room()?;
        let Some(facts) = self.seal(stop).map_err(fail())? else { return Ok(None) };
        let store = self.store.clone();
        let cache = &store.0.local.cache;
        // Before it has its name, so that it is not collected in between.
        let lease = cache.leases.take(&[self.name.id])?;
        let place = self.name.place(&cache.layout);
        if let Err(error) = self.publish(&cache.layout, &place) {
            if self.is_done {
                // It has a name that may not last.
                entries::remove(&cache.layout, &place);
            }
            return Err(fail()(error));
        }
        store.0.derived.refused.forget(&self.name);
        cache.index.count(self.name.kind.counter(Counted::Made), 1);
        entries::thin_out(&cache.layout, &self.name);
        Ok(Some(OpenedDerived { path: place.join(DATA), facts, _lease: lease }))
    }

    /// The file that lies at its place now, which may be another one than was begun with; what else was kept there goes.
    fn take_alone(&mut self) -> io::Result<()> {
        let layout = &self.store.0.local.cache.layout;
        for (name, path) in space::entries(&self.dir)? {
            if name != DATA && name != BYTES {
                fs_err::remove_file(path)?;
            }
        }
        plain::metadata(layout.root(), &self.dir.join(DATA))?.ok_or(io::ErrorKind::NotFound)?;
        let data = fs_err::OpenOptions::new().read(true).write(true).open(self.dir.join(DATA))?;
        self.data = data;
        Ok(())
    }

    /// Looks for room for what became more than was expected.
    fn settle_room(&mut self) -> Result<(), Error> {
        let fail = Error::io("a derived file could not be looked at");
        let taken_bytes = self.data.metadata().map_err(fail)?.blocks() * 512;
        if taken_bytes > self.reserved_bytes {
            let local = &*self.store.0.local;
            self.reservation = reserve(local, &self.name, taken_bytes)?;
            self.reserved_bytes = taken_bytes;
        }
        Ok(())
    }

    /// Brings the bytes to the disk, and beside them what they are; `None` when it was stopped.
    fn seal(&self, stop: &AtomicBool) -> io::Result<Option<DerivedMetadata>> {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        durable::seal(&self.data)?;
        let stamp = Stamp::of(&self.data.metadata()?);
        if stamp.size == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "nothing was written into it"));
        }
        let Some(digest) = check::digest_of(self.data.file(), stamp.size, stop)? else { return Ok(None) };
        let facts = DerivedMetadata::new(&self.origin, digest, stamp, now_ms());
        let mut beside = durable::create_new(&self.dir.join(FACTS))?;
        beside.write_all(&facts.to_text())?;
        durable::seal(&beside)?;
        fs_err::remove_file(self.dir.join(BYTES))?;
        durable::sync_parent(self.data.path())?;
        Ok(Some(facts))
    }

    fn publish(&mut self, layout: &Layout, place: &Path) -> io::Result<()> {
        let source = place.parent().ok_or_else(|| io::Error::other("a derived file without a source"))?;
        // No process takes the source's directory away meanwhile.
        let _shared = FileLock::wait(layout.root(), &layout.gc_lock(), Hold::Shared)?;
        // A user may have cleared the cache by hand.
        durable::create_private_dir(&self.name.kind.folder(layout))?;
        durable::create_private_dir(source)?;
        fs_err::rename(&self.dir, place)?;
        self.is_done = true;
        // From here on it is counted where it lies.
        self.reservation.release(&self.name.work());
        durable::sync_parent(place)
    }
}

impl std::fmt::Debug for Making {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Making").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.is_done
            && let Err(error) = fs_err::remove_dir_all(&self.dir)
        {
            tracing::debug!(%error, "what was made of a derived file waits for a collection");
        }
    }
}
