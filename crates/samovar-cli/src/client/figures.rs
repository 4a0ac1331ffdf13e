//! The part of the statistics that tables show. Read leniently: a daemon of another version may know more or less.

use samovar_core::{Failure, ThreadUse};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::strange;

/// The numbers of a runtime and the daemon around it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Figures {
    pub(crate) version: String,
    pub(crate) engine: String,
    pub(crate) uptime_ms: u64,
    /// Of the daemon; 0 for a runtime in this process.
    pub(crate) pid: u32,
    pub(crate) listen: Option<String>,
    /// Whether that is served over TLS.
    pub(crate) tls: bool,
    pub(crate) requests_in_flight: u32,
    pub(crate) tiers: Tiers,
    pub(crate) pool: PoolFigures,
    pub(crate) store: Option<StoreFigures>,
    pub(crate) stored: Vec<StoredFigures>,
    pub(crate) models: Vec<ModelFigures>,
    /// Of a daemon that keeps them.
    pub(crate) lifetime: Option<LifetimeFigures>,
}

/// All lives of the daemon together.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LifetimeFigures {
    pub(crate) since_unix_ms: u64,
    pub(crate) starts: u64,
    pub(crate) uptime_ms: u64,
    pub(crate) pool: PoolFigures,
}

/// The levels of the cache; `None` of a daemon that does not know them.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tiers {
    /// Memory.
    pub(crate) l1: Option<TierFigures>,
    /// Disk.
    pub(crate) l2: Option<TierFigures>,
    /// Sources.
    pub(crate) l3: Option<TierFigures>,
}

/// One level of the cache.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TierFigures {
    /// Times it had what was asked.
    pub(crate) hits: u64,
    /// Times it had not.
    pub(crate) misses: u64,
    /// Held in memory, kept on disk, fetched.
    pub(crate) bytes: u64,
}

/// Of the store, what no tier tells.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StoreFigures {
    /// Prompts whose state is kept.
    pub(crate) prefixes: u64,
    pub(crate) prefix_bytes: u64,
    /// Times that it was taken in again.
    pub(crate) prefixes_restored: u64,
    /// Tokens that were not computed for it.
    pub(crate) prefix_tokens_restored: u64,
}

/// One model on disk.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StoredFigures {
    pub(crate) reference: String,
    pub(crate) bytes: u64,
    pub(crate) created_ms: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) last_used_ms: u64,
}

/// Sums over all models.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PoolFigures {
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) loads: u64,
    pub(crate) load_failures: u64,
    pub(crate) coalesced: u64,
    pub(crate) evictions: u64,
    pub(crate) parked: u64,
    pub(crate) resumed: u64,
    pub(crate) refused: u64,
    pub(crate) cancelled: u64,
    pub(crate) queued: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) reserved_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) budget_source: String,
    pub(crate) load_ms_p50: f64,
    pub(crate) load_ms_mean: f64,
}

/// How a model was loaded.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OptionFigures {
    pub(crate) layout: String,
}

/// One model.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ModelFigures {
    pub(crate) name: String,
    /// What it can be asked for: `generate`, `embed`, `rerank`.
    pub(crate) capabilities: Vec<String>,
    pub(crate) state: String,
    pub(crate) progress: Option<f64>,
    pub(crate) options: Option<OptionFigures>,
    pub(crate) held_bytes: u64,
    pub(crate) mapped_bytes: u64,
    pub(crate) instances: u64,
    pub(crate) instances_max: u64,
    pub(crate) slots: u64,
    pub(crate) busy_slots: u64,
    /// Of each instance.
    pub(crate) threads: Vec<ThreadUse>,
    pub(crate) queued: u64,
    pub(crate) is_pinned: bool,
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    pub(crate) loads: u64,
    pub(crate) load_ms_p50: f64,
    pub(crate) age_ms: Option<u64>,
    pub(crate) idle_ms: Option<u64>,
    pub(crate) expires_in_ms: Option<u64>,
    pub(crate) retry_in_ms: Option<u64>,
    pub(crate) failure: Option<String>,
}

impl Figures {
    /// # Errors
    /// `Internal` when the object is of another shape altogether.
    pub(crate) fn read(stats: &Value) -> Result<Self, Failure> {
        Self::deserialize(stats).map_err(|error| strange(&error.to_string()))
    }
}

/// One decision of the pool.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DecisionLine {
    pub(crate) at_ms_ago: u64,
    pub(crate) model: String,
    pub(crate) text: String,
}

impl DecisionLine {
    /// The decisions of a `why` answer, newest first.
    ///
    /// # Errors
    /// `Internal` when the object is of another shape altogether.
    pub(crate) fn read(answer: &Value) -> Result<Vec<Self>, Failure> {
        Vec::deserialize(&answer["decisions"]).map_err(|error| strange(&error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_and_missing_figures_are_no_error() {
        let stats = json!({ "pool": { "requests": 3, "brand_new": 1 }, "models": [{ "name": "demo", "state": "ready" }] });
        let figures = Figures::read(&stats).expect("reads");
        assert_eq!((figures.pool.requests, figures.pool.hits), (3, 0));
        assert_eq!(figures.models[0].state, "ready");
    }
}
