//! The handle: all use of the store begins here.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use samovar_core::Digest;
use samovar_core::footprint::Footprint;
use samovar_core::model::ArtifactRef;
use serde::Serialize;

use crate::adopt;
use crate::artifact::Artifact;
use crate::artifact::key::{ArtifactKey, KeyDigest};
use crate::artifact::manifest::{self, Manifest, ManifestFile, Role};
use crate::artifact::name::FilePath;
use crate::cache::tier::{ReadOnly, Tiers};
use crate::cache::{Cache, blob};
use crate::collect;
use crate::collect::room;
use crate::config::StoreConfig;
use crate::derived::file;
use crate::disk::blocking;
use crate::disk::layout::Layout;
use crate::disk::lock::{FileLock, Hold};
use crate::disk::partial::PartialId;
use crate::ensure::flight::Flights;
use crate::ensure::ingest;
use crate::ensure::{self, Pulled};
use crate::error::Error;
use crate::fetch::meter::Meter;
use crate::fetch::progress::{FetchUnderWay, Watch};
use crate::index::{Index, Use, now_ms};
use crate::local::Local;
use crate::lookup::find;
use crate::lookup::opened::{self, Opened};
use crate::source::{Source, Sources};
use crate::usage::usage_counts::{self, Unopened};

/// A store of artifacts. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

/// What the clones of a handle share.
pub(crate) struct Inner {
    pub(crate) local: Arc<Local>,
    pub(crate) supply: Supply,
    flights: Flights<Pulled>,
    /// Held by the one of this process who puts in bytes that are on this machine already.
    ingesting: Mutex<()>,
    /// Who takes a model from another program on this machine.
    pub(crate) nearby: adopt::NameLocks,
    unopened: Unopened,
    pub(crate) derived: file::Remembered,
}

/// Where artifacts come from.
pub(crate) enum Supply {
    /// By the reference.
    Sources(Box<Sources>),
    /// All from one, unless nothing may be asked.
    One { source: Box<dyn Source>, is_offline: bool },
}

impl Supply {
    /// The source of a reference.
    ///
    /// # Errors
    /// When there is none, or nothing may be asked.
    pub(crate) fn of(&self, reference: &ArtifactRef) -> Result<&dyn Source, Error> {
        match self {
            Self::Sources(sources) => sources.of(reference),
            Self::One { is_offline: true, .. } => Err(Error::Offline { subject: reference.to_string() }),
            Self::One { source, .. } => Ok(source.as_ref()),
        }
    }
}

/// Whether the bytes of an artifact are right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Integrity {
    /// They are.
    Sound,
    /// These blobs were not, and were set aside.
    Damaged(Vec<Digest>),
}

impl Store {
    /// Opens the store of these settings, and makes it when it is not there. Blocks; milliseconds when it is.
    ///
    /// A cache that cannot be written, or whose index is a newer program's, serves what it has.
    ///
    /// # Errors
    /// When there is neither a store nor a way to make one; [`Error::Newer`] for a later layout.
    pub fn open(config: StoreConfig) -> Result<Self, Error> {
        let sources = Sources::new(&config.sources)?;
        Self::open_with(config, Supply::Sources(Box::new(sources)))
    }

    /// As [`Store::open`], with one source of the caller's for whatever is asked.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn with_source(config: StoreConfig, source: impl Source) -> Result<Self, Error> {
        let is_offline = config.sources.is_offline;
        Self::open_with(config, Supply::One { source: Box::new(source), is_offline })
    }

    fn open_with(config: StoreConfig, supply: Supply) -> Result<Self, Error> {
        let layout = Layout::open(&config)?;
        let (cache, aside) = Cache::open(layout)?;
        let mut tiers = Tiers::open(&config.read_only_dirs);
        if cache.is_barred() {
            // What is here is served from the manifests.
            tiers = tiers.after(ReadOnly::open(cache.layout.root())?);
        }
        if let Some(Err(error)) = aside.map(|aside| cache.index.rescue(&aside)) {
            tracing::warn!(%error, "how artifacts were used was not taken over from the damaged index");
        }
        let local = Local::new(config, cache, tiers);
        if !local.cache.is_barred() {
            collect::look_after(&local);
        }
        Ok(Self(Arc::new(Inner {
            local: Arc::new(local),
            supply,
            flights: Flights::new(),
            ingesting: Mutex::default(),
            nearby: adopt::NameLocks::default(),
            unopened: Unopened::default(),
            derived: file::Remembered::default(),
        })))
    }

    /// The directory that the store lies in.
    pub fn dir(&self) -> &Path {
        self.0.local.cache.layout.root()
    }

    /// The artifact that a reference means here, if all of its files are. Blocks for microseconds; asks no
    /// source. A hub reference without a quantization means what was chosen for it, else the preferred one of those that are
    /// here.
    ///
    /// # Errors
    /// When neither the index nor the manifests can be read.
    pub fn find(&self, reference: &ArtifactRef) -> Result<Option<Artifact>, Error> {
        self.0.local.find(reference)
    }

    /// The artifact of a key, if all of its files are here. Blocks for microseconds.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn artifact(&self, key: &KeyDigest) -> Result<Option<Artifact>, Error> {
        let Local { cache, tiers, .. } = &*self.0.local;
        match cache.with_index(|index| index.artifact(key))? {
            Some(artifact) if find::is_in_place(&cache.layout, &artifact) => Ok(Some(artifact)),
            _ => Ok(tiers.first(|_, index| index.artifact(key))),
        }
    }

    /// All artifacts of the cache, in the order in which they came. Blocks.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn list(&self) -> Result<Vec<Artifact>, Error> {
        let Local { cache, tiers, .. } = &*self.0.local;
        match tiers.all().first() {
            Some(own) if cache.is_barred() => own.index()?.artifacts(),
            _ => cache.with_index(Index::artifacts),
        }
    }

    /// The artifact that a reference means: the one that is here, else fetched. However many ask for it, in
    /// however many processes, its bytes are fetched once.
    ///
    /// # Errors
    /// Whatever the source, the disk or the quota says. What is here is not disturbed by any of it.
    ///
    /// # Cancel safety
    /// Dropping it stops the fetch unless others wait for it. What was written is kept and taken up again.
    pub fn ensure<'a>(
        &'a self,
        reference: &'a ArtifactRef,
        watch: Option<Watch>,
    ) -> BoxFuture<'a, Result<Artifact, Error>> {
        Box::pin(async move {
            if let Some(artifact) = self.here(reference).await? {
                return Ok(artifact);
            }
            let mut has_begun = false;
            let begin = |meter| {
                has_begun = true;
                let (store, reference) = (self.clone(), reference.clone());
                async move {
                    // Another flight may have brought it between the look above and this flight.
                    if let Some(artifact) = store.here(&reference).await? {
                        return Ok(Pulled { artifact, fetched_bytes: 0, was_here: true });
                    }
                    store.0.local.cache.writable(&reference.to_string())?;
                    let pulled = store.0.bring(&reference, &meter).await?;
                    store.0.unopened.note_miss(&store.0.local.cache.index, &pulled);
                    Ok(pulled)
                }
            };
            let pulled = self.0.flights.join(format!("ensure {reference}"), watch, begin).await?;
            if !has_begun {
                self.0.local.cache.index.count("coalesced", 1);
            }
            Ok(pulled.artifact)
        })
    }

    /// Asks the source anew what a reference means, since branches move, and fetches what is missing of that.
    ///
    /// # Errors
    /// As [`Store::ensure`].
    ///
    /// # Cancel safety
    /// As [`Store::ensure`].
    pub fn pull<'a>(
        &'a self,
        reference: &'a ArtifactRef,
        watch: Option<Watch>,
    ) -> BoxFuture<'a, Result<Pulled, Error>> {
        Box::pin(async move {
            let begin = |meter| {
                let (store, reference) = (self.clone(), reference.clone());
                async move {
                    let pulled = store.0.bring(&reference, &meter).await?;
                    usage_counts::note_fetched(&store.0.local.cache.index, &pulled);
                    Ok(pulled)
                }
            };
            self.0.flights.join(format!("pull {reference}"), watch, begin).await
        })
    }

    /// The fetches that callers of this handle or of its clones wait for, each once, by reference.
    pub fn fetches(&self) -> Vec<FetchUnderWay> {
        let mut fetches: Vec<FetchUnderWay> =
            self.0.flights.under_way().into_iter().map(FetchUnderWay::of).collect();
        fetches.sort_by(|one, other| one.reference.cmp(&other.reference));
        fetches.dedup_by(|one, other| one.reference == other.reference);
        fetches
    }

    /// Makes an artifact of bytes that the program has, such as a built-in model. Blocks; microseconds when it
    /// is here. However many ask at once, in however many processes, one writes and the others wait for that one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn ingest(
        &self,
        key: ArtifactKey,
        reference: &str,
        path: FilePath,
        role: Role,
        bytes: &[u8],
    ) -> Result<Artifact, Error> {
        let local = &*self.0.local;
        let cache = &local.cache;
        if let Some(artifact) = self.artifact(&key.digest())? {
            return Ok(artifact);
        }
        cache.writable(reference)?;
        // One of this process waits for the other processes, so that a crowd holds one lock file open.
        let _turn = self.0.ingesting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(artifact) = self.artifact(&key.digest())? {
            return Ok(artifact);
        }
        let digest = Digest::of_bytes(bytes);
        let (id, size) = (PartialId::of_digest(digest), bytes.len() as u64);
        let _alone = FileLock::wait(cache.layout.root(), &cache.layout.blob_lock(&id), Hold::Exclusive)
            .map_err(Error::io("the blob could not be locked"))?;
        if let Some(artifact) = self.artifact(&key.digest())? {
            return Ok(artifact);
        }
        let _lease = cache.leases.take(&[digest])?;
        let row = if let Some(row) = cache.here(&digest, Some(size))? {
            row
        } else {
            let _room = room::reserve(local, reference, &[(id, size)])?;
            ingest::of_bytes(&cache.layout, &digest, bytes)?
        };
        let file = ManifestFile { path, role, size: row.size, digest };
        let manifest = Manifest {
            format: manifest::FORMAT,
            key,
            revision: None,
            reference: reference.to_owned(),
            files: vec![file],
            created_ms: now_ms(),
        };
        ensure::record(cache, manifest, &[row])
    }

    /// Opens an artifact to be used: its files stay until the answer is dropped, in all processes. Blocks for
    /// about a hundred microseconds; a file that was touched since is hashed once.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not here; [`Error::Damaged`] when its bytes are not what they were, which
    /// are then set aside.
    pub fn open_artifact(&self, key: &KeyDigest) -> Result<Opened, Error> {
        let opened = self.look_at(key)?;
        self.0.unopened.note_opened(&self.0.local.cache.index, key);
        Ok(opened)
    }

    /// As [`Store::open_artifact`], for a look at the files that does not count as a use.
    ///
    /// # Errors
    /// As [`Store::open_artifact`].
    pub fn look_at(&self, key: &KeyDigest) -> Result<Opened, Error> {
        let local = &*self.0.local;
        if let Some(artifact) = local.cache.with_index(|index| index.artifact_in_any_state(key))? {
            return opened::open(local, artifact);
        }
        for tier in local.tiers.all() {
            let index = tier.index()?;
            if let Some(artifact) = index.artifact(key)? {
                return opened::open_in_tier(local, &tier.layout, &index, artifact);
            }
        }
        Err(Error::Missing {
            subject: format!("the artifact {key}"),
            where_: " in the cache",
            hint: "pull the model first".to_owned(),
        })
    }

    /// Says what a load took, in milliseconds and memory. Kept over restarts.
    pub fn note_load(&self, key: &KeyDigest, ms: f64, footprint: Footprint) {
        let index = &self.0.local.cache.index;
        index.note(key, Use::Load { ms, footprint });
        // Loads are rare and their cost is worth keeping, so this does not wait for a batch.
        index.flush();
    }

    /// Reads every byte of an artifact that could not be loaded. What is wrong is set aside. Blocks for as long
    /// as reading takes.
    ///
    /// # Errors
    /// When it is not here or cannot be read.
    pub fn suspect(&self, key: &KeyDigest) -> Result<Integrity, Error> {
        let cache = &self.0.local.cache;
        let artifact = cache.with_index(|index| index.artifact_in_any_state(key))?;
        let artifact = artifact.ok_or_else(|| Error::Missing {
            subject: format!("the artifact {key}"),
            where_: " in the cache",
            hint: "pull the model first".to_owned(),
        })?;
        let mut damaged = Vec::new();
        for file in &artifact.files {
            if !blob::rehash(&cache.layout, &cache.index, &file.digest)? {
                damaged.push(file.digest);
            }
        }
        Ok(if damaged.is_empty() { Integrity::Sound } else { Integrity::Damaged(damaged) })
    }

    async fn here(&self, reference: &ArtifactRef) -> Result<Option<Artifact>, Error> {
        let (local, reference) = (Arc::clone(&self.0.local), reference.clone());
        blocking::run(move || local.find_right(&reference)).await
    }
}

impl Inner {
    /// Brings what a reference means, and counts it when that fails.
    async fn bring(&self, reference: &ArtifactRef, meter: &Arc<Meter>) -> Result<Pulled, Error> {
        let pulled = match self.supply.of(reference) {
            Ok(source) => ensure::bring(&self.local, source, reference, meter).await,
            Err(error) => Err(error),
        };
        if pulled.is_err() {
            self.local.cache.index.count("fetch_failures", 1);
        }
        pulled
    }
}
