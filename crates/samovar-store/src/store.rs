//! The handle: what everybody else does with the store begins here.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use samovar_core::Digest;
use samovar_core::footprint::Footprint;
use samovar_core::model::ArtifactRef;
use serde::Serialize;

use crate::arrival;
use crate::artifact::Artifact;
use crate::blob;
use crate::blocking;
use crate::collect;
use crate::config::StoreConfig;
use crate::ensure;
use crate::error::Error;
use crate::find;
use crate::flight::Flights;
use crate::heal::{self, Bar};
use crate::hits::Unopened;
use crate::index::{Index, Use, now_ms};
use crate::ingest;
use crate::key::{ArtifactKey, KeyDigest};
use crate::layout::Layout;
use crate::lease::Leases;
use crate::lock::{FileLock, Hold};
use crate::manifest::{self, Manifest, ManifestFile, Role};
use crate::meter::Meter;
use crate::name::FilePath;
use crate::opened::{self, Opened};
use crate::packed;
use crate::partial::PartialId;
use crate::progress::Watch;
use crate::room::{self, Room};
use crate::source::{Source, Sources};
use crate::tier::ReadOnly;

/// A store of artifacts. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

/// What the parts of the store share.
pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    pub(crate) layout: Layout,
    pub(crate) index: Index,
    pub(crate) leases: Arc<Leases>,
    pub(crate) tiers: Vec<ReadOnly>,
    supply: Supply,
    flights: Flights<Pulled>,
    /// Held by the one of this process who puts in bytes that are on this machine already.
    pub(crate) ingesting: Mutex<()>,
    /// Why nothing can be put here.
    pub(crate) barred: Option<Bar>,
    pub(crate) room: Arc<Room>,
    pub(crate) unopened: Unopened,
    pub(crate) refused_packed: packed::Refused,
    pub(crate) judged_packed: packed::Judged,
    /// Where views are made when the cache itself cannot be written.
    views: OnceLock<Layout>,
}

/// Where artifacts come from.
enum Supply {
    Sources(Box<Sources>),
    One(Box<dyn Source>),
}

/// An artifact that was asked for at its source.
#[derive(Clone, Debug, Serialize)]
pub struct Pulled {
    /// The artifact.
    pub artifact: Artifact,
    /// Bytes that this process fetched for it.
    pub fetched_bytes: u64,
    /// All of it was here before.
    pub was_here: bool,
}

/// Whether the bytes of an artifact are right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
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
        Self::open_with(config, Supply::One(Box::new(source)))
    }

    fn open_with(config: StoreConfig, supply: Supply) -> Result<Self, Error> {
        let layout = Layout::open(&config)?;
        let (index, aside, barred) = heal::open(&layout)?;
        let mut tiers = Vec::new();
        if barred.is_some() {
            // What is here is served from the manifests.
            tiers.push(ReadOnly::open(layout.root())?);
        }
        for dir in &config.read_only_dirs {
            match ReadOnly::open(dir) {
                Ok(tier) => tiers.push(tier),
                // A shared store that is not mounted today must keep nobody from the others.
                Err(error) => tracing::warn!(dir = %dir.display(), %error, "a read-only store is left out"),
            }
        }
        let inner = Inner {
            leases: Leases::new(layout.clone()),
            config,
            layout,
            index,
            tiers,
            supply,
            flights: Flights::new(),
            ingesting: Mutex::default(),
            barred,
            room: Arc::default(),
            unopened: Unopened::default(),
            refused_packed: packed::Refused::default(),
            judged_packed: packed::Judged::default(),
            views: OnceLock::new(),
        };
        inner.heal()?;
        if let Some(Err(error)) = aside.map(|aside| inner.index.rescue(&aside)) {
            tracing::warn!(%error, "how artifacts were used was not taken over from the damaged index");
        }
        if inner.barred.is_none() {
            collect::look_after(&inner);
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The directory that the store lies in.
    pub fn dir(&self) -> &Path {
        self.0.layout.root()
    }

    /// The artifact that a reference means here, if all of its files are. Blocks for microseconds; asks no
    /// source. A hub reference without a quantization means the preferred one of those that are here.
    ///
    /// # Errors
    /// When neither the index nor the manifests can be read.
    pub fn find(&self, reference: &ArtifactRef) -> Result<Option<Artifact>, Error> {
        self.0.find(reference)
    }

    /// The artifact of a key, if all of its files are here. Blocks for microseconds.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn artifact(&self, key: &KeyDigest) -> Result<Option<Artifact>, Error> {
        let inner = &self.0;
        match inner.with_index(|index| index.artifact(key))? {
            Some(artifact) if find::is_in_place(&inner.layout, &artifact) => Ok(Some(artifact)),
            _ => Ok(inner.in_tiers(|_, index| index.artifact(key))),
        }
    }

    /// All artifacts of the cache, in the order in which they came. Blocks.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn list(&self) -> Result<Vec<Artifact>, Error> {
        match (&self.0.barred, self.0.tiers.first()) {
            (Some(_), Some(own)) => own.index()?.artifacts(),
            _ => self.0.with_index(Index::artifacts),
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
    pub async fn ensure(&self, reference: &ArtifactRef, watch: Option<Watch>) -> Result<Artifact, Error> {
        if let Some(artifact) = self.here(reference).await? {
            return Ok(artifact);
        }
        let mut has_begun = false;
        let begin = |meter| {
            has_begun = true;
            let (store, reference) = (self.clone(), reference.clone());
            async move {
                // Somebody may have brought it between the look above and this flight.
                if let Some(artifact) = store.here(&reference).await? {
                    return Ok(Pulled { artifact, fetched_bytes: 0, was_here: true });
                }
                store.0.writable(&reference.to_string())?;
                let pulled = store.0.bring(&reference, &meter).await?;
                store.0.note_miss(&pulled);
                Ok(pulled)
            }
        };
        let pulled = self.0.flights.join(format!("ensure {reference}"), watch, begin).await?;
        if !has_begun {
            self.0.index.count("coalesced", 1);
        }
        Ok(pulled.artifact)
    }

    /// Asks the source anew what a reference means, since branches move, and fetches what is missing of that.
    ///
    /// # Errors
    /// As [`Store::ensure`].
    ///
    /// # Cancel safety
    /// As [`Store::ensure`].
    pub async fn pull(&self, reference: &ArtifactRef, watch: Option<Watch>) -> Result<Pulled, Error> {
        let begin = |meter| {
            let (store, reference) = (self.clone(), reference.clone());
            async move {
                let pulled = store.0.bring(&reference, &meter).await?;
                store.0.note_fetched(&pulled);
                Ok(pulled)
            }
        };
        self.0.flights.join(format!("pull {reference}"), watch, begin).await
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
        let inner = &self.0;
        if let Some(artifact) = self.artifact(&key.digest())? {
            return Ok(artifact);
        }
        inner.writable(reference)?;
        // One of this process waits for the other processes, so that a crowd holds one lock file open.
        let _turn = inner.ingesting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(artifact) = self.artifact(&key.digest())? {
            return Ok(artifact);
        }
        let digest = Digest::of_bytes(bytes);
        let (id, size) = (PartialId::of_digest(digest), bytes.len() as u64);
        let _alone = FileLock::wait(inner.layout.root(), &inner.layout.blob_lock(&id), Hold::Exclusive)
            .map_err(Error::io("the blob could not be locked"))?;
        if let Some(artifact) = self.artifact(&key.digest())? {
            return Ok(artifact);
        }
        let _lease = inner.leases.take(&[digest])?;
        let row = if let Some(row) = arrival::here(inner, &digest, Some(size))? {
            row
        } else {
            let _room = room::reserve(inner, reference, &[(id, size)])?;
            ingest::of_bytes(&inner.layout, &digest, bytes)?
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
        ensure::record(inner, manifest, &[row])
    }

    /// Opens an artifact to be used: its files stay until the answer is dropped, in all processes. Blocks for
    /// about a hundred microseconds; a file that was touched since is hashed once.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not here; [`Error::Damaged`] when its bytes are not what they were, which
    /// are then set aside.
    pub fn open_artifact(&self, key: &KeyDigest) -> Result<Opened, Error> {
        let opened = self.look_at(key)?;
        self.0.note_opened(key);
        Ok(opened)
    }

    /// As [`Store::open_artifact`], for a look at the files that does not count as a use.
    ///
    /// # Errors
    /// As [`Store::open_artifact`].
    pub fn look_at(&self, key: &KeyDigest) -> Result<Opened, Error> {
        let inner = &self.0;
        if let Some(artifact) = inner.with_index(|index| index.artifact_in_any_state(key))? {
            return opened::open(inner, artifact);
        }
        for tier in &inner.tiers {
            let index = tier.index()?;
            if let Some(artifact) = index.artifact(key)? {
                return opened::open_in_tier(inner, &tier.layout, &index, artifact);
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
        self.0.index.note(key, Use::Load { ms, footprint });
        // Loads are rare and their cost is worth keeping, so this does not wait for a batch.
        self.0.index.flush();
    }

    /// Reads every byte of an artifact that could not be loaded. What is wrong is set aside. Blocks for as long
    /// as reading takes.
    ///
    /// # Errors
    /// When it is not here or cannot be read.
    pub fn suspect(&self, key: &KeyDigest) -> Result<Verdict, Error> {
        let inner = &self.0;
        let artifact = inner.with_index(|index| index.artifact_in_any_state(key))?;
        let artifact = artifact.ok_or_else(|| Error::Missing {
            subject: format!("the artifact {key}"),
            where_: " in the cache",
            hint: "pull the model first".to_owned(),
        })?;
        let mut damaged = Vec::new();
        for file in &artifact.files {
            if !blob::rehash(&inner.layout, &inner.index, &file.digest)? {
                damaged.push(file.digest);
            }
        }
        Ok(if damaged.is_empty() { Verdict::Sound } else { Verdict::Damaged(damaged) })
    }

    async fn here(&self, reference: &ArtifactRef) -> Result<Option<Artifact>, Error> {
        let (inner, reference) = (Arc::clone(&self.0), reference.clone());
        blocking::run(move || inner.find_right(&reference)).await
    }
}

impl Inner {
    /// Brings what a reference means, and counts it when that fails.
    async fn bring(self: &Arc<Self>, reference: &ArtifactRef, meter: &Arc<Meter>) -> Result<Pulled, Error> {
        let pulled = ensure::bring(self, reference, meter).await;
        if pulled.is_err() {
            self.index.count("fetch_failures", 1);
        }
        pulled
    }

    /// The source of a reference.
    pub(crate) fn source_of(&self, reference: &ArtifactRef) -> Result<&dyn Source, Error> {
        match &self.supply {
            Supply::Sources(sources) => sources.of(reference),
            Supply::One(_) if self.config.sources.is_offline => {
                Err(Error::Offline { subject: reference.to_string() })
            }
            Supply::One(source) => Ok(source.as_ref()),
        }
    }

    /// Whether something can be put here.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn writable(&self, subject: &str) -> Result<(), Error> {
        match &self.barred {
            None => Ok(()),
            Some(Bar::ReadOnly) => {
                Err(Error::ReadOnly { subject: subject.to_owned(), path: self.layout.root().to_owned() })
            }
            Some(Bar::Failed(failure)) => Err(Error::Shared(failure.clone())),
        }
    }

    /// Where views with real file names are made: the cache itself, else below the state directory.
    ///
    /// # Errors
    /// When neither can be written.
    pub(crate) fn views(&self) -> Result<Layout, Error> {
        if self.layout.is_writable() {
            return Ok(self.layout.clone());
        }
        if let Some(views) = self.views.get() {
            return Ok(views.clone());
        }
        let name = Digest::of_bytes(self.layout.root().as_os_str().as_encoded_bytes()).to_string();
        let cache_dir = self.config.state_dir.join("views").join(&name[..32]);
        let views = Layout::open(&StoreConfig { cache_dir, ..self.config.clone() })?;
        Ok(self.views.get_or_init(|| views).clone())
    }
}
