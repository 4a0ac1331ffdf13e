//! The runtime's numbers, as `samovar stats --json` prints them.

use samovar_core::ModelKey;
use samovar_pool::{Counters, ModelStats, PoolStats};
use samovar_store::{Artifact, StoreStats};
use samovar_worker::WorkerStats;
use serde::Serialize;

use crate::lifetime::LifetimeRecord;
use crate::packed::PackedTally;

/// Counters and gauges: of the pool since the runtime started, of the store since it was made.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// Version of Samovar.
    pub version: String,
    /// Name and version of each engine; which one runs a model, the model says.
    pub engine: String,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Each level of the cache.
    pub tiers: Tiers,
    /// The pool as a whole.
    pub pool: PoolStats,
    /// The processes that models run in; absent when they run in this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkerStats>,
    /// The store; absent until something was taken from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreStats>,
    /// What the store keeps, in the order in which it came; empty as long as `store` is absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stored: Vec<StoredModel>,
    /// What was done with packed weights since the start.
    pub packed: PackedTally,
    /// Each model that was asked for since the start.
    pub models: Vec<ModelStats>,
    /// The pool over all lives of the daemon; absent where they are not kept, and while they cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
}

/// A model on disk, and how it was used over all lives and processes.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredModel {
    /// The canonical text by which a user names it.
    pub reference: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it came, in milliseconds since 1970.
    pub created_ms: u64,
    /// Times it was there when it was wanted.
    pub hits: u64,
    /// Times it had to be fetched.
    pub misses: u64,
    /// Last use, in milliseconds since 1970; 0 = never.
    pub last_used_ms: u64,
}

impl From<&Artifact> for StoredModel {
    fn from(artifact: &Artifact) -> Self {
        Self {
            reference: artifact.reference.clone(),
            bytes: artifact.bytes(),
            created_ms: artifact.created_ms,
            hits: artifact.usage.hits,
            misses: artifact.usage.misses,
            last_used_ms: artifact.usage.last_ms,
        }
    }
}

/// What the pool counted over all lives of the daemon, this one included.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct Lifetime {
    /// When counting began, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// Lives so far.
    pub starts: u64,
    /// How long they lived together, in milliseconds.
    pub uptime_ms: u64,
    /// Sums over all models.
    pub pool: Counters,
    /// The models that were asked for last, the latest first.
    pub models: Vec<ModelLifetime>,
}

/// What happened to one model over all lives.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct ModelLifetime {
    /// What people called it last.
    pub name: String,
    /// Identity of its bytes.
    pub key: ModelKey,
    /// The counts.
    #[serde(flatten)]
    pub counters: Counters,
}

impl From<LifetimeRecord> for Lifetime {
    fn from(kept: LifetimeRecord) -> Self {
        let models = kept.statistics.models.into_iter().map(|model| ModelLifetime {
            name: model.name,
            key: model.key,
            counters: model.tally.counters(),
        });
        Self {
            since_unix_ms: kept.since_unix_ms,
            starts: kept.starts,
            uptime_ms: kept.statistics.uptime_ms,
            pool: kept.statistics.total.counters(),
            models: models.collect(),
        }
    }
}

/// How often each level of the cache had what was asked of it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Tiers {
    /// Memory: requests that found their model loaded. Since the runtime started.
    pub l1: TierStats,
    /// Disk: times that an artifact was there when it was wanted. Over all lives and processes.
    pub l2: TierStats,
    /// Sources: fetches that brought what was wanted. Over all lives and processes.
    pub l3: TierStats,
}

/// One level of the cache.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TierStats {
    /// Times it had what was asked.
    pub hits: u64,
    /// Times it had not.
    pub misses: u64,
    /// Bytes: held in memory, kept on disk, fetched from sources.
    pub bytes: u64,
}

impl TierStats {
    /// Part of the asking that was answered here, 0 to 1; `None` when nothing was asked.
    pub fn hit_rate(self) -> Option<f64> {
        let asked = self.hits + self.misses;
        (asked > 0).then(|| self.hits as f64 / asked as f64)
    }
}

impl Tiers {
    pub(crate) fn of(pool: &PoolStats, store: Option<&StoreStats>) -> Self {
        let l1 = TierStats { hits: pool.hits, misses: pool.misses, bytes: pool.resident_bytes };
        let Some(store) = store else { return Self { l1, ..Self::default() } };
        Self {
            l1,
            l2: TierStats { hits: store.hits, misses: store.misses, bytes: store.bytes },
            l3: TierStats {
                hits: store.fetched_artifacts,
                misses: store.fetch_failures,
                bytes: store.fetched_bytes,
            },
        }
    }
}
