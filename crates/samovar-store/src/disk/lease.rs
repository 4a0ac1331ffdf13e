//! The right to use blobs until it is dropped: what is leased is never deleted, by whichever process.
//!
//! ```text
//!   leases/<boot id>-<pid>-<random>      flocked for the life of its process
//!     <64 hex>\n                         one record of 65 bytes for each digest in use
//!     <64 hex>\n
//! ```
//!
//! A record is added under the shared `gc.lock`, which collection holds exclusively while it reads, so
//! that a digest is either seen or not yet used. Taking one away needs no lock: it is blanked where it lies,
//! or cut off at the end, and no other record ever moves. Who reads meanwhile reads in pieces, and would miss
//! one that went from where they were not yet to where they had been. Blank records are written over by those
//! that are added next. When the process dies the kernel opens the lock, and its records mean nothing any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_err::File;
use samovar_core::Digest;

use crate::disk::durable;
use crate::disk::layout::Layout;
use crate::disk::lock::{FileLock, Hold};
use crate::disk::plain;
use crate::error::Error;

/// Bytes of a record: a digest and a line's end.
const RECORD_BYTES: u64 = 65;
/// Bytes of a lease file that is read at all.
const FILE_BYTES: u64 = RECORD_BYTES << 20;

/// The leases of one handle of a store: one file, made when it is first needed.
#[derive(Debug)]
pub(crate) struct BlobLeases {
    layout: Layout,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    file: Option<FileLock>,
    /// Where a digest's record is, and how many use it.
    held: HashMap<Digest, (usize, u64)>,
    /// Where records are blank; the last record never is.
    blank: BTreeSet<usize>,
}

/// The right to use some blobs.
#[derive(Debug)]
pub(crate) struct BlobLease {
    leases: Arc<BlobLeases>,
    digests: Vec<Digest>,
}

impl BlobLeases {
    pub(crate) fn new(layout: Layout) -> Arc<Self> {
        Arc::new(Self { layout, table: Mutex::new(Table::default()) })
    }

    /// Leases these blobs, whether they are there yet or not. A store that can only be read has no leases,
    /// so that there the answer is a lease of nothing. Blocks for as long as a collection reads leases.
    ///
    /// # Errors
    /// When the lease cannot be written.
    pub(crate) fn take(self: &Arc<Self>, digests: &[Digest]) -> Result<BlobLease, Error> {
        let mut lease = BlobLease { leases: Arc::clone(self), digests: Vec::new() };
        if self.layout.is_writable() {
            self.add(&mut lease, digests).map_err(Error::io("the lease could not be written"))?;
        }
        Ok(lease)
    }

    /// A lease of nothing.
    pub(crate) fn nothing(self: &Arc<Self>) -> BlobLease {
        BlobLease { leases: Arc::clone(self), digests: Vec::new() }
    }

    fn add(&self, lease: &mut BlobLease, digests: &[Digest]) -> io::Result<()> {
        let layout = &self.layout;
        let _shared = FileLock::wait(layout.root(), &layout.gc_lock(), Hold::Shared)?;
        let mut table = self.table();
        table.be_there(layout)?;
        for digest in digests {
            table.add(digest)?;
            lease.digests.push(*digest);
        }
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BlobLeases {
    fn drop(&mut self) {
        let table = self.table();
        if let Some(file) = &table.file {
            // Left behind it would be swept by the next collection.
            let _ = fs_err::remove_file(file.file().path());
        }
    }
}

impl Drop for BlobLease {
    fn drop(&mut self) {
        let mut table = self.leases.table();
        for digest in &self.digests {
            table.release(digest);
        }
    }
}

impl Table {
    /// Makes the file, again when it was removed together with the cache. A new file counts only with every record.
    fn be_there(&mut self, layout: &Layout) -> io::Result<()> {
        let is_there = match &self.file {
            Some(file) => file.file().metadata()?.nlink() > 0,
            None => false,
        };
        if is_there {
            return Ok(());
        }
        let path = layout.leases().join(format!("{}-{}", boot_id(), durable::random_name()));
        let file = durable::create_new(&path)?;
        let written = self.fill(file);
        if written.is_err() {
            // The next collection sweeps what cannot be removed.
            let _ = fs_err::remove_file(&path);
        }
        self.file = Some(written?);
        Ok(())
    }

    /// Locks a new file, and writes all records to it.
    fn fill(&self, file: File) -> io::Result<FileLock> {
        let lock = FileLock::of_file(file, Hold::Exclusive)?
            .ok_or_else(|| io::Error::other("another process locked a new lease"))?;
        self.blank.iter().try_for_each(|place| write(lock.file(), *place, None))?;
        self.held.iter().try_for_each(|(digest, (place, _))| write(lock.file(), *place, Some(digest)))?;
        Ok(lock)
    }

    fn file(&self) -> &File {
        self.file.as_ref().expect("invariant: records are only touched once the file is there").file()
    }

    fn add(&mut self, digest: &Digest) -> io::Result<()> {
        if let Some((_, users)) = self.held.get_mut(digest) {
            *users += 1;
            return Ok(());
        }
        let place = self.blank.first().copied().unwrap_or(self.held.len());
        write(self.file(), place, Some(digest))?;
        self.blank.remove(&place);
        self.held.insert(*digest, (place, 1));
        Ok(())
    }

    fn release(&mut self, digest: &Digest) {
        let Some((place, users)) = self.held.get_mut(digest) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        let place = *place;
        self.held.remove(digest);
        self.blank.insert(place);
        while self.blank.last().is_some_and(|last| last + 1 == self.places()) {
            self.blank.pop_last();
        }
        // A record that cannot be taken away stays as it is: one digest too many is kept, none too few.
        let _ = if place < self.places() {
            write(self.file(), place, None)
        } else {
            self.file().set_len(self.places() as u64 * RECORD_BYTES)
        };
    }

    /// How many records there are.
    fn places(&self) -> usize {
        self.held.len() + self.blank.len()
    }
}

/// Writes a digest's record, or a blank one.
fn write(file: &File, place: usize, digest: Option<&Digest>) -> io::Result<()> {
    let digest = digest.map(Digest::to_string).unwrap_or_default();
    let record = format!("{digest:-<64}\n");
    file.file().write_all_at(record.as_bytes(), place as u64 * RECORD_BYTES)
}

/// The right to move things away: no process opens anything meanwhile.
///
/// # Errors
/// When the file system has no locks.
pub(crate) fn alone(layout: &Layout) -> Result<FileLock, Error> {
    FileLock::wait(layout.root(), &layout.gc_lock(), Hold::Exclusive)
        .map_err(Error::io("the cache could not be locked"))
}

/// What living processes use: digests, each with the id of a process that uses it. The caller holds
/// `gc.lock` exclusively. Files of dead processes are removed.
///
/// # Errors
/// When the leases cannot be read; then nothing may be deleted.
pub(crate) fn held(layout: &Layout) -> io::Result<BTreeMap<Digest, u32>> {
    held_but_by(layout, None)
}

/// The same without what `process` alone uses.
///
/// # Errors
/// As [`held`].
pub(crate) fn held_but_by(layout: &Layout, process: Option<u32>) -> io::Result<BTreeMap<Digest, u32>> {
    let mut held = BTreeMap::new();
    for entry in fs_err::read_dir(layout.leases())? {
        let path = entry?.path();
        let file = match plain::open(layout.root(), &path) {
            Ok(file) => file,
            // Its owner has just left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if FileLock::of_file(file, Hold::Exclusive)?.is_some() {
            let _ = fs_err::remove_file(&path);
            continue;
        }
        let pid = pid_of(&path).unwrap_or_default();
        if process == Some(pid) {
            continue;
        }
        let body = match plain::read(layout.root(), &path, FILE_BYTES) {
            Ok(body) => body,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in String::from_utf8_lossy(&body).lines() {
            if let Ok(digest) = line.parse() {
                held.insert(digest, pid);
            }
        }
    }
    Ok(held)
}

/// The process id in a lease's name, `<boot id>-<pid>-<random>`.
fn pid_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.rsplit('-').nth(1)?.parse().ok()
}

/// What the kernel calls this run of the machine.
fn boot_id() -> String {
    let id = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id: String = id.trim().chars().filter(char::is_ascii_hexdigit).take(32).collect();
    if id.is_empty() { "unknown".to_owned() } else { id }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::config::StoreConfig;

    fn layout(dir: &Path) -> Layout {
        Layout::open(&StoreConfig::new(dir.join("c"), dir.join("s"))).unwrap()
    }

    fn digests(count: u8) -> Vec<Digest> {
        (0..count).map(|byte| Digest::of_bytes(&[byte])).collect()
    }

    fn held_now(layout: &Layout) -> Vec<Digest> {
        let _gc = FileLock::wait(layout.root(), &layout.gc_lock(), Hold::Exclusive).unwrap();
        held(layout).unwrap().into_keys().collect()
    }

    fn sorted(digests: &[Digest]) -> Vec<Digest> {
        let mut digests = digests.to_vec();
        digests.sort();
        digests
    }

    #[test]
    fn what_is_leased_is_seen_until_the_last_user_drops_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let leases = BlobLeases::new(layout.clone());
        let all = digests(5);
        let first = leases.take(&all[..3]).unwrap();
        let second = leases.take(&all[2..]).unwrap();
        assert_eq!(held_now(&layout), sorted(&all));
        drop(first);
        assert_eq!(held_now(&layout), sorted(&all[2..]));
        drop(second);
        assert_eq!(held_now(&layout), []);
    }

    #[test]
    fn who_reads_in_pieces_while_one_is_dropped_sees_every_other() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let all = digests(3);
        for (dropped, read_bytes) in (0..3).flat_map(|dropped| (0..=195).map(move |bytes| (dropped, bytes))) {
            let leases = BlobLeases::new(layout.clone());
            let mut taken: Vec<_> = all.iter().map(|digest| leases.take(&[*digest]).unwrap()).collect();
            let path = fs_err::read_dir(layout.leases()).unwrap().next().unwrap().unwrap().path();
            let mut reader = File::open(path).unwrap();
            let mut body = vec![0; read_bytes];
            reader.read_exact(&mut body).unwrap();
            drop(taken.remove(dropped));
            reader.read_to_end(&mut body).unwrap();
            let text = String::from_utf8(body).unwrap();
            let seen: Vec<Digest> = text.lines().filter_map(|line| line.parse().ok()).collect();
            for (place, digest) in all.iter().enumerate().filter(|(place, _)| *place != dropped) {
                assert!(
                    seen.contains(digest),
                    "{place} while {dropped} went, {read_bytes} bytes read before"
                );
            }
        }
    }

    #[test]
    fn blank_records_are_used_again_and_the_file_gets_shorter() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let leases = BlobLeases::new(layout.clone());
        let all = digests(6);
        let mut taken: Vec<_> = all[..5].iter().map(|digest| leases.take(&[*digest]).unwrap()).collect();
        let path = fs_err::read_dir(layout.leases()).unwrap().next().unwrap().unwrap().path();
        let records = || fs_err::metadata(&path).unwrap().len() / RECORD_BYTES;
        drop(taken.drain(1..3));
        assert_eq!((records(), held_now(&layout)), (5, sorted(&[all[0], all[3], all[4]])));
        taken.push(leases.take(&all[5..]).unwrap());
        assert_eq!((records(), held_now(&layout)), (5, sorted(&[all[0], all[3], all[4], all[5]])));
        // The last goes, and the blank ones before it with it.
        drop(taken.drain(1..3));
        assert_eq!((records(), held_now(&layout)), (2, sorted(&[all[0], all[5]])));
        taken.clear();
        assert_eq!((records(), held_now(&layout)), (0, vec![]));
    }

    #[test]
    fn two_handles_hold_each_for_itself_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let (one, other) = (BlobLeases::new(layout.clone()), BlobLeases::new(layout.clone()));
        let all = digests(2);
        let a = one.take(&all).unwrap();
        let b = other.take(&all[1..]).unwrap();
        drop((a, one));
        assert_eq!(held_now(&layout), sorted(&all[1..]));
        drop((b, other));
        assert_eq!(fs_err::read_dir(layout.leases()).unwrap().count(), 0);
    }

    #[test]
    fn the_leases_of_the_dead_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let left = layout.leases().join("0123-99-feed");
        fs_err::write(&left, format!("{}\n", Digest::of_bytes(b"x"))).unwrap();
        assert_eq!(held_now(&layout), []);
        assert!(!left.exists());
    }

    #[test]
    fn a_lease_outlives_the_removal_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let leases = BlobLeases::new(layout.clone());
        let all = digests(3);
        let gone = leases.take(&all[2..]).unwrap();
        let _first = leases.take(&all[..1]).unwrap();
        drop(gone);
        for entry in fs_err::read_dir(layout.leases()).unwrap() {
            fs_err::remove_file(entry.unwrap().path()).unwrap();
        }
        let _second = leases.take(&all[1..2]).unwrap();
        assert_eq!(held_now(&layout), sorted(&all[..2]));
    }

    #[test]
    fn a_new_file_counts_only_once_it_has_every_record() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let leases = BlobLeases::new(layout.clone());
        let all = digests(3);
        let _first = leases.take(&all[..1]).unwrap();
        // No file can have a record so far away, so that writing it fails.
        leases.table().held.insert(all[2], (1 << 57, 1));
        for entry in fs_err::read_dir(layout.leases()).unwrap() {
            fs_err::remove_file(entry.unwrap().path()).unwrap();
        }
        assert!(leases.take(&all[1..2]).is_err());
        assert!(leases.take(&all[1..2]).is_err(), "what is held is still recorded nowhere");
        assert_eq!(fs_err::read_dir(layout.leases()).unwrap().count(), 0);
        leases.table().held.remove(&all[2]);
        let _second = leases.take(&all[1..2]).unwrap();
        assert_eq!(held_now(&layout), sorted(&all[..2]));
    }

    #[test]
    fn a_planted_symlink_is_no_lease_and_stops_the_reading() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        fs_err::os::unix::fs::symlink("/etc/hostname", layout.leases().join("x-1-y")).unwrap();
        assert!(held(&layout).is_err());
    }
}
