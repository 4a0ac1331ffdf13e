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
//! has no promised digest is known by its place until its bytes are here.

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
use crate::disk::lease::BlobLease;
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
pub(crate) struct FetchedFile {
    pub(crate) row: BlobRow,
    _lease: BlobLease,
}

/// Brings the files of one artifact.
pub(crate) struct FileFetcher<'a> {
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
struct FetchJob<'a> {
    file: &'a RemoteFile,
    id: PartialId,
    subject: String,
    asked_ms: u64,
}

impl FileFetcher<'_> {
    /// Brings a file, unless its bytes are here.
    ///
    /// # Errors
    /// Whatever the source, the disk or the quota says; [`Error::Mismatch`] for bytes that are not the promised ones.
    ///
    /// # Cancel safety
    /// Dropping it stops the download; what was written is kept and taken up again.
    pub(crate) async fn bring(&self, file: &RemoteFile) -> Result<FetchedFile, Error> {
        let fetch_job = FetchJob {
            id: id_of(self.source_id, file),
            file,
            subject: file.path.to_string(),
            asked_ms: now_ms(),
        };
        let fetched_file = self.bring_unless_here(&fetch_job).await?;
        self.meter.settled(fetched_file.row.size);
        Ok(fetched_file)
    }

    async fn bring_unless_here(&self, fetch_job: &FetchJob<'_>) -> Result<FetchedFile, Error> {
        if let Some(fetched_file) = self.look(fetch_job).await? {
            return Ok(fetched_file);
        }
        let lock = Arc::new(self.turn(fetch_job).await?);
        if let Some(fetched_file) = self.look(fetch_job).await? {
            return Ok(fetched_file);
        }
        let fetched_file = match self.nearby(fetch_job.file).await? {
            Some(path) => self.copy(fetch_job, path, Arc::clone(&lock)).await?,
            None => self.download(fetch_job, Arc::clone(&lock)).await?,
        };
        if !matches!(fetch_job.file.promise, Promise::Sha256(_)) {
            self.remember(fetch_job, fetched_file.row.digest, lock).await?;
        }
        Ok(fetched_file)
    }

    /// The file's bytes, if they are here. Leases first, so that they stay.
    async fn look(&self, fetch_job: &FetchJob<'_>) -> Result<Option<FetchedFile>, Error> {
        let local = Arc::clone(self.local);
        let (id, asked_ms, file) = (fetch_job.id, fetch_job.asked_ms, fetch_job.file.clone());
        blocking::run(move || {
            let digest = match file.promise {
                Promise::Sha256(digest) => Some(digest),
                _ => recall(&local.cache.index, &id, &file, asked_ms),
            };
            let Some(digest) = digest else { return Ok(None) };
            let lease = local.cache.leases.take(&[digest])?;
            Ok(local.cache.here(&digest, file.size)?.map(|row| FetchedFile { row, _lease: lease }))
        })
        .await
    }

    /// Waits until no other process brings the same bytes, and tells how far they are.
    async fn turn(&self, fetch_job: &FetchJob<'_>) -> Result<FileLock, Error> {
        let layout = &self.local.cache.layout;
        let fail = || Error::io("the blob could not be locked");
        let path = layout.blob_lock(&fetch_job.id);
        let mut waiting = Waiting::begin(layout.root(), &path, Hold::Exclusive).map_err(fail())?;
        loop {
            if let Some(lock) = waiting.look().map_err(fail())? {
                return Ok(lock);
            }
            let (layout, id) = (layout.clone(), fetch_job.id);
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

    async fn copy(
        &self,
        fetch_job: &FetchJob<'_>,
        from: PathBuf,
        lock: Arc<FileLock>,
    ) -> Result<FetchedFile, Error> {
        let local = Arc::clone(self.local);
        let (id, subject, promise) = (fetch_job.id, fetch_job.subject.clone(), fetch_job.file.promise);
        let needed_bytes = fetch_job.file.size.unwrap_or(0);
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
            Ok(FetchedFile { row, _lease: lease })
        })
        .await
    }

    async fn download(&self, fetch_job: &FetchJob<'_>, lock: Arc<FileLock>) -> Result<FetchedFile, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let partial = self.open_partial(fetch_job, Arc::clone(&lock)).await?;
            self.meter.fetching(partial.done_bytes());
            let follower = Follower::start(&partial)?;
            let sent = {
                let (meter, partial) = (Arc::clone(self.meter), Arc::clone(&partial));
                move |bytes| meter.arrived(bytes, || partial.done_bytes())
            };
            let config = &self.local.config.sources;
            let fetched = fetch(self.source, fetch_job.file, Arc::clone(&partial), config, sent).await;
            let was_resumed = partial.resumed_bytes() > 0;
            let arrived = match fetched {
                Ok(()) => {
                    self.meter.verifying();
                    self.take_in(fetch_job, partial, follower).await
                }
                Err(error) => self.give_up(partial, error).await,
            };
            match arrived {
                // What was there before may be what is wrong.
                Err(Error::Mismatch { .. }) if was_resumed && tries == 1 => {
                    tracing::warn!(
                        file = fetch_job.subject,
                        "a resumed download is not what was promised; once more"
                    );
                }
                arrived => return arrived,
            }
        }
    }

    async fn open_partial(
        &self,
        fetch_job: &FetchJob<'_>,
        lock: Arc<FileLock>,
    ) -> Result<Arc<Partial>, Error> {
        let local = Arc::clone(self.local);
        let (id, subject) = (fetch_job.id, fetch_job.subject.clone());
        let (size, etag) = (fetch_job.file.size, fetch_job.file.etag.clone());
        blocking::run(move || {
            // Until the download has declared its size itself.
            let _room = room::reserve(&local, &subject, &[(id, size.unwrap_or(0))])?;
            let partial = Partial::open(&local.cache.layout, &id, size, etag.as_deref())?.holding(lock);
            partial.allocate()?;
            Ok(Arc::new(partial))
        })
        .await
    }

    /// Checks a whole download and makes a blob of it. Once begun it is finished, even if no caller waits.
    async fn take_in(
        &self,
        fetch_job: &FetchJob<'_>,
        partial: Arc<Partial>,
        follower: Follower,
    ) -> Result<FetchedFile, Error> {
        let local = Arc::clone(self.local);
        let (subject, promise) = (fetch_job.subject.clone(), fetch_job.file.promise);
        blocking::run(move || {
            let is_certain = Cell::new(false);
            let settle = || -> Result<FetchedFile, Error> {
                if !partial.is_whole() {
                    let message = "the file ended before all of it was there".to_owned();
                    return Err(Error::BadAnswer { subject, message });
                }
                let hashed = ingest::check(&subject, &partial, follower, promise)?;
                let data = partial.data();
                data.sync_all().map_err(Error::io("the download could not be brought to the disk"))?;
                is_certain.set(true);
                let lease = local.cache.leases.take(&[hashed.digest])?;
                let row = ingest::publish(&local.cache.layout, data, data.path(), &hashed.digest)?;
                Ok(FetchedFile { row, _lease: lease })
            };
            let settled = settle();
            if settled.is_err() && is_certain.get() {
                // Whole and right, but its name cannot be had now: a full disk must not cost the download.
                partial.keep();
            } else {
                // Named by its digest now, or not worth keeping: wrong, or not certain to be on the disk.
                partial.discard();
            }
            let fetched_file = settled?;
            local.cache.index.put_blob(&fetched_file.row)?;
            Ok(fetched_file)
        })
        .await
    }

    /// Keeps what came so far, unless the source contradicted itself.
    async fn give_up(&self, partial: Arc<Partial>, error: Error) -> Result<FetchedFile, Error> {
        blocking::run(move || {
            if matches!(error, Error::BadAnswer { .. }) {
                partial.discard();
            }
            drop(partial);
            Err(error)
        })
        .await
    }

    /// Under the lock still: who waits for it looks here as soon as it is free.
    async fn remember(
        &self,
        fetch_job: &FetchJob<'_>,
        digest: Digest,
        lock: Arc<FileLock>,
    ) -> Result<(), Error> {
        let etag = fetch_job.file.etag.clone();
        let memo = Memo { digest, etag, git_sha1: git_sha1(fetch_job.file), at_ms: now_ms() };
        let (local, key) = (Arc::clone(self.local), memo_key(&fetch_job.id));
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
/// version, or because another process fetched them since we asked.
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
