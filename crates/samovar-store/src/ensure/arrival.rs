//! How one file of an artifact comes into the store, if it is not here yet.
//!
//! ```text
//!   lease ─► here? ─► blob lock ─► here by now? ─► another store has it? ─► copy ──────────────┐
//!             │ yes     (waits, tells the           │ no                                       ├─► blob
//!             ▼          other's progress)          └► room? ─► fetch ─► hash ─► as promised? ─┘
//!            done                                                         └ no: once more in full
//! ```
//!
//! The digest is leased before anything is looked at, so that what is found cannot be collected. A blob that
//! nobody promised a digest of is known by its place until its bytes are here.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;

use samovar_core::Digest;
use serde::{Deserialize, Serialize};

use crate::artifact::name::SourceId;
use crate::cache::blob;
use crate::cache::tier::ReadOnly;
use crate::collect::room;
use crate::disk::blocking;
use crate::disk::lease::Lease;
use crate::disk::lock::{FileLock, Hold, Waiting};
use crate::disk::partial::{Note, Partial, PartialId};
use crate::ensure::ingest::{self, Follower};
use crate::error::Error;
use crate::fetch::fetch;
use crate::fetch::meter::Meter;
use crate::index::{BlobRow, Index, now_ms};
use crate::local::Local;
use crate::source::{Promise, RemoteFile, Source};

/// A file that is here, and stays as long as its lease.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) row: BlobRow,
    _lease: Lease,
}

/// Brings the files of one artifact.
pub(crate) struct Carrier<'a> {
    pub(crate) local: &'a Arc<Local>,
    pub(crate) source: &'a dyn Source,
    pub(crate) source_id: &'a SourceId,
    pub(crate) meter: &'a Arc<Meter>,
}

/// Which bytes a place had when they were last fetched from there; for files without a promised digest.
#[derive(Debug, Serialize, Deserialize)]
struct Memo {
    digest: Digest,
    etag: Option<String>,
    /// What git calls them, where that was promised and checked.
    git_sha1: Option<[u8; 20]>,
    at_ms: u64,
}

/// One file on its way.
struct Errand<'a> {
    file: &'a RemoteFile,
    id: PartialId,
    subject: String,
    asked_ms: u64,
}

impl Carrier<'_> {
    /// Brings a file, unless its bytes are here.
    ///
    /// # Errors
    /// Whatever the source, the disk or the quota says; [`Error::Mismatch`] for bytes that are not the promised ones.
    ///
    /// # Cancel safety
    /// Dropping it stops the download; what was written is kept and taken up again.
    pub(crate) async fn bring(&self, file: &RemoteFile) -> Result<Arrival, Error> {
        let errand = Errand {
            id: id_of(self.source_id, file),
            file,
            subject: file.path.to_string(),
            asked_ms: now_ms(),
        };
        let arrival = self.bring_unless_here(&errand).await?;
        self.meter.settled(arrival.row.size);
        Ok(arrival)
    }

    async fn bring_unless_here(&self, errand: &Errand<'_>) -> Result<Arrival, Error> {
        if let Some(arrival) = self.look(errand).await? {
            return Ok(arrival);
        }
        let lock = Arc::new(self.turn(errand).await?);
        if let Some(arrival) = self.look(errand).await? {
            return Ok(arrival);
        }
        let arrival = match self.nearby(errand.file).await? {
            Some(path) => self.copy(errand, path, Arc::clone(&lock)).await?,
            None => self.download(errand, Arc::clone(&lock)).await?,
        };
        if !matches!(errand.file.promise, Promise::Sha256(_)) {
            self.remember(errand, arrival.row.digest, lock).await?;
        }
        Ok(arrival)
    }

    /// The file's bytes, if they are here. Leases first, so that they stay.
    async fn look(&self, errand: &Errand<'_>) -> Result<Option<Arrival>, Error> {
        let local = Arc::clone(self.local);
        let (id, asked_ms, file) = (errand.id, errand.asked_ms, errand.file.clone());
        blocking::run(move || {
            let digest = match file.promise {
                Promise::Sha256(digest) => Some(digest),
                _ => recall(&local.cache.index, &id, &file, asked_ms),
            };
            let Some(digest) = digest else { return Ok(None) };
            let lease = local.cache.leases.take(&[digest])?;
            Ok(local.cache.here(&digest, file.size)?.map(|row| Arrival { row, _lease: lease }))
        })
        .await
    }

    /// Waits until nobody else brings the same bytes, and tells how far they are.
    async fn turn(&self, errand: &Errand<'_>) -> Result<FileLock, Error> {
        let layout = &self.local.cache.layout;
        let fail = || Error::io("the blob could not be locked");
        let path = layout.blob_lock(&errand.id);
        let mut waiting = Waiting::begin(layout.root(), &path, Hold::Exclusive).map_err(fail())?;
        loop {
            if let Some(lock) = waiting.look().map_err(fail())? {
                return Ok(lock);
            }
            let (layout, id) = (layout.clone(), errand.id);
            if let Some(note) = blocking::run(move || Ok(Note::read(&layout, &id))).await? {
                self.meter.of_another(note.done_bytes());
            }
            waiting.pause().await;
        }
    }

    /// A file on this machine that has the bytes: the source's own, or a read-only store's.
    async fn nearby(&self, file: &RemoteFile) -> Result<Option<PathBuf>, Error> {
        if let Some(local) = &file.local {
            return Ok(Some(local.clone()));
        }
        let Promise::Sha256(digest) = file.promise else { return Ok(None) };
        let local = Arc::clone(self.local);
        blocking::run(move || {
            let place = |tier: &ReadOnly| blob::locate(&tier.layout, &digest).ok().flatten();
            Ok(local.tiers.all().iter().find_map(place).map(|place| place.path))
        })
        .await
    }

    async fn copy(&self, errand: &Errand<'_>, from: PathBuf, lock: Arc<FileLock>) -> Result<Arrival, Error> {
        let local = Arc::clone(self.local);
        let (id, subject, promise) = (errand.id, errand.subject.clone(), errand.file.promise);
        let needed_bytes = errand.file.size.unwrap_or(0);
        self.meter.verifying();
        blocking::run(move || {
            let _lock = lock;
            let _room = room::reserve(&local, &subject, &[(id, needed_bytes)])?;
            let mut lease = None;
            let leases = Arc::clone(&local.cache.leases);
            let row = ingest::of_file(&local.cache.layout, &subject, &from, promise, |digest| {
                lease = Some(leases.take(&[digest])?);
                Ok(())
            })?;
            local.cache.index.put_blob(&row)?;
            let lease = lease.unwrap_or_else(|| leases.nothing());
            Ok(Arrival { row, _lease: lease })
        })
        .await
    }

    async fn download(&self, errand: &Errand<'_>, lock: Arc<FileLock>) -> Result<Arrival, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let partial = self.open_partial(errand, Arc::clone(&lock)).await?;
            self.meter.fetching(partial.done_bytes());
            let follower = Follower::start(&partial)?;
            let sent = {
                let (meter, partial) = (Arc::clone(self.meter), Arc::clone(&partial));
                move |bytes| meter.arrived(bytes, || partial.done_bytes())
            };
            let config = &self.local.config.sources;
            let fetched = fetch(self.source, errand.file, Arc::clone(&partial), config, sent).await;
            let was_resumed = partial.resumed_bytes() > 0;
            let arrived = match fetched {
                Ok(()) => {
                    self.meter.verifying();
                    self.take_in(errand, partial, follower).await
                }
                Err(error) => self.give_up(partial, error).await,
            };
            match arrived {
                // What was there before may be what is wrong.
                Err(Error::Mismatch { .. }) if was_resumed && tries == 1 => {
                    tracing::warn!(
                        file = errand.subject,
                        "a resumed download is not what was promised; once more"
                    );
                }
                arrived => return arrived,
            }
        }
    }

    async fn open_partial(&self, errand: &Errand<'_>, lock: Arc<FileLock>) -> Result<Arc<Partial>, Error> {
        let local = Arc::clone(self.local);
        let (id, subject) = (errand.id, errand.subject.clone());
        let (size, etag) = (errand.file.size, errand.file.etag.clone());
        blocking::run(move || {
            // Until the download has declared its size itself.
            let _room = room::reserve(&local, &subject, &[(id, size.unwrap_or(0))])?;
            let partial = Partial::open(&local.cache.layout, &id, size, etag.as_deref())?.holding(lock);
            partial.allocate()?;
            Ok(Arc::new(partial))
        })
        .await
    }

    /// Checks a whole download and makes a blob of it. Once begun it is finished, whoever waits.
    async fn take_in(
        &self,
        errand: &Errand<'_>,
        partial: Arc<Partial>,
        follower: Follower,
    ) -> Result<Arrival, Error> {
        let local = Arc::clone(self.local);
        let (subject, promise) = (errand.subject.clone(), errand.file.promise);
        blocking::run(move || {
            let is_certain = Cell::new(false);
            let settle = || -> Result<Arrival, Error> {
                if !partial.is_whole() {
                    let message = "the file ended before all of it was there".to_owned();
                    return Err(Error::Lie { subject, message });
                }
                let hashed = ingest::check(&subject, &partial, follower, promise)?;
                let data = partial.data();
                data.sync_all().map_err(Error::io("the download could not be brought to the disk"))?;
                is_certain.set(true);
                let lease = local.cache.leases.take(&[hashed.digest])?;
                let row = ingest::publish(&local.cache.layout, data, data.path(), &hashed.digest)?;
                Ok(Arrival { row, _lease: lease })
            };
            let settled = settle();
            if settled.is_err() && is_certain.get() {
                // Whole and right, but its name cannot be had now: a full disk must not cost the download.
                partial.keep();
            } else {
                // Named by its digest now, or not worth keeping: wrong, or not certain to be on the disk.
                partial.discard();
            }
            let arrival = settled?;
            local.cache.index.put_blob(&arrival.row)?;
            Ok(arrival)
        })
        .await
    }

    /// Keeps what came so far, unless the source contradicted itself.
    async fn give_up(&self, partial: Arc<Partial>, error: Error) -> Result<Arrival, Error> {
        blocking::run(move || {
            if matches!(error, Error::Lie { .. }) {
                partial.discard();
            }
            drop(partial);
            Err(error)
        })
        .await
    }

    /// Under the lock still: who waits for it looks here as soon as it is free.
    async fn remember(&self, errand: &Errand<'_>, digest: Digest, lock: Arc<FileLock>) -> Result<(), Error> {
        let etag = errand.file.etag.clone();
        let memo = Memo { digest, etag, git_sha1: git_sha1(errand.file), at_ms: now_ms() };
        let (local, key) = (Arc::clone(self.local), memo_key(&errand.id));
        blocking::run(move || {
            let _lock = lock;
            // Losing it costs a download.
            if let Ok(json) = serde_json::to_string(&memo) {
                let _ = local.cache.index.remember(&key, &json);
            }
            Ok(())
        })
        .await
    }
}

/// Which download a file is.
pub(crate) fn id_of(source: &SourceId, file: &RemoteFile) -> PartialId {
    match file.promise {
        Promise::Sha256(digest) => PartialId::of_digest(digest),
        _ => PartialId::of_place(source.as_str(), &file.locator, file.size),
    }
}

fn memo_key(id: &PartialId) -> String {
    format!("place {id}")
}

fn git_sha1(file: &RemoteFile) -> Option<[u8; 20]> {
    match file.promise {
        Promise::GitSha1(sha1) => Some(sha1),
        _ => None,
    }
}

/// The digest of a place's bytes, if they are known to be the same still: because git or the server names their
/// version, or because somebody fetched them since we asked.
fn recall(index: &Index, id: &PartialId, file: &RemoteFile, asked_ms: u64) -> Option<Digest> {
    let memo: Memo = serde_json::from_str(&index.recall(&memo_key(id)).ok()??).ok()?;
    // A weak etag says that two versions will do for each other, not that they are the same.
    let names_version = |etag: &String| !etag.starts_with("W/");
    let is_same = match git_sha1(file) {
        Some(sha1) => memo.git_sha1 == Some(sha1),
        None => {
            memo.at_ms >= asked_ms || file.etag.as_ref().is_some_and(names_version) && file.etag == memo.etag
        }
    };
    is_same.then_some(memo.digest)
}
