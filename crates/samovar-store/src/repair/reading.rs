//! Every byte of many blobs, read again and held against their digests.
//!
//! Two threads at most read, front to back, so that a disk serves others meanwhile. What is right gets a new stamp in
//! the index, what is wrong is set aside.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use samovar_core::Digest;
use samovar_core::digest::Hasher;

use crate::cache::{Cache, blob};
use crate::error::Error;
use crate::fetch::progress::{Progress, Transfer, Watch};
use crate::index::{BlobState, Stamp, now_ms};

/// Files that are read at the same time.
const THREADS: usize = 2;
const PIECE_BYTES: usize = 1 << 20;
/// Blobs that are written down as right at a time.
const STAMPS: usize = 256;
/// How often a watch is told.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What was read.
pub(crate) struct Read {
    /// In the order of the digests.
    pub(crate) found: Vec<(Digest, Finding)>,
    pub(crate) bytes: u64,
}

/// The reading, as its threads share it.
struct Reading<'a> {
    cache: &'a Cache,
    stop: &'a AtomicBool,
    watch: Option<&'a Watch>,
    digests: Vec<(Digest, u64)>,
    next: AtomicUsize,
    done_bytes: AtomicU64,
    total_bytes: u64,
    began: Instant,
    told: Mutex<Instant>,
    found: Mutex<Vec<(Digest, Finding)>>,
    /// What was right and is not written down yet.
    stamps: Mutex<Vec<(Digest, Stamp, u64)>>,
}

/// What became of one blob.
pub(crate) enum Finding {
    /// Its bytes have its digest.
    Right,
    /// They have not; it was set aside.
    Wrong,
    /// There is no file.
    Gone,
    /// The disk would not give it; why.
    Unread(String),
}

/// Reads these blobs, of so many bytes each, until all are read or the caller says stop.
pub(crate) fn read(
    cache: &Cache,
    digests: BTreeMap<Digest, u64>,
    watch: Option<&Watch>,
    stop: &AtomicBool,
) -> Read {
    let reading = Reading {
        cache,
        stop,
        watch,
        total_bytes: digests.values().sum(),
        digests: digests.into_iter().collect(),
        next: AtomicUsize::new(0),
        done_bytes: AtomicU64::new(0),
        began: Instant::now(),
        told: Mutex::new(Instant::now()),
        found: Mutex::new(Vec::new()),
        stamps: Mutex::new(Vec::new()),
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(|| reading.run()))));
    reading
        .write_stamps(&std::mem::take(&mut *reading.stamps.lock().unwrap_or_else(PoisonError::into_inner)));
    reading.tell(true);
    let bytes = reading.done_bytes.load(Ordering::Relaxed);
    let mut found = reading.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(digest, _)| *digest);
    Read { found, bytes }
}

impl Reading<'_> {
    fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some((digest, _)) = self.digests.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            let finding = self.check(digest).unwrap_or_else(|error| Finding::Unread(error.to_string()));
            self.found.lock().unwrap_or_else(PoisonError::into_inner).push((*digest, finding));
        }
    }

    fn check(&self, digest: &Digest) -> Result<Finding, Error> {
        let (layout, index) = (&self.cache.layout, &self.cache.index);
        let Some(place) = blob::locate(layout, digest)? else {
            if layout.is_writable() {
                index.set_blob_state(digest, BlobState::Quarantined)?;
            }
            return Ok(Finding::Gone);
        };
        let read = self.hash(&place.path).map_err(Error::io("the blob could not be read"))?;
        if read == *digest {
            self.stamp((*digest, place.stamp, now_ms()));
            return Ok(Finding::Right);
        }
        if self.stop.load(Ordering::Relaxed) {
            return Ok(Finding::Unread("it was not read to its end".to_owned()));
        }
        blob::set_aside(layout, index, digest)?;
        Ok(Finding::Wrong)
    }

    fn stamp(&self, stamp: (Digest, Stamp, u64)) {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        stamps.push(stamp);
        if stamps.len() >= STAMPS {
            self.write_stamps(&std::mem::take(&mut *stamps));
        }
    }

    fn write_stamps(&self, stamps: &[(Digest, Stamp, u64)]) {
        // These are memos: without them the blobs are hashed once more.
        let _ = self.cache.index.stamp_blobs(stamps);
    }

    fn hash(&self, path: &Path) -> std::io::Result<Digest> {
        let mut file = fs_err::File::open(path)?;
        let (mut hasher, mut piece) = (Hasher::new(), vec![0; PIECE_BYTES]);
        loop {
            let count = match file.read(&mut piece) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if count == 0 || self.stop.load(Ordering::Relaxed) {
                return Ok(hasher.finish());
            }
            hasher.update(&piece[..count]);
            self.done_bytes.fetch_add(count as u64, Ordering::Relaxed);
            self.tell(false);
        }
    }

    fn tell(&self, is_last: bool) {
        let Some(watch) = self.watch else { return };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_last && told.elapsed() < TELL_EVERY {
            return;
        }
        *told = Instant::now();
        let done_bytes = self.done_bytes.load(Ordering::Relaxed);
        watch(Progress::Verifying(Transfer {
            done_bytes,
            total_bytes: self.total_bytes,
            bytes_per_s: done_bytes as f64 / self.began.elapsed().as_secs_f64().max(1e-3),
            files: self.digests.len() as u32,
            by_another_process: false,
        }));
    }
}
