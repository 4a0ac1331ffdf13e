//! What the pool holds at a moment, for people, metrics and tests.

use std::borrow::Cow;
use std::collections::BTreeMap;

use samovar_core::port::EngineId;
use samovar_core::{Arena, LoadOptions, ModelKey, ThreadUse};
use serde::{Deserialize, Serialize};

/// Where a model is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// Not in memory.
    #[default]
    Absent,
    /// Waits for memory to be loaded or resumed into.
    Waiting,
    /// Being loaded.
    Loading,
    /// In memory, and unused.
    Ready,
    /// In memory and in use.
    Busy,
    /// Giving its working memory back.
    Parking,
    /// Weights mapped, working memory given back.
    Parked,
    /// Getting its working memory again.
    Resuming,
    /// In use for the last time.
    Draining,
    /// Leaving memory.
    Unloading,
    /// The last load failed, or the instance died; not tried again for a while.
    Failed,
}

impl ModelState {
    /// Whether the model is in memory or on its way there, and not about to leave.
    pub const fn is_held(self) -> bool {
        match self {
            Self::Waiting
            | Self::Loading
            | Self::Ready
            | Self::Busy
            | Self::Parking
            | Self::Parked
            | Self::Resuming => true,
            Self::Absent | Self::Draining | Self::Unloading | Self::Failed => false,
        }
    }
}

/// What the pool holds at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Sums over all models.
    pub pool: PoolStats,
    /// Every model that the pool remembers, by name.
    pub models: Vec<ModelStats>,
    /// Milliseconds since the pool started.
    pub uptime_ms: u64,
}

/// Sums over all models. Counters only rise; bytes and queue lengths are of this moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PoolStats {
    /// Requests for a slot.
    pub requests: u64,
    /// Requests granted on an instance that was ready or parked when they came.
    pub hits: u64,
    /// Requests granted on an instance that was loaded for them.
    pub misses: u64,
    /// Hits of all grants, from 0 to 1; 0 before the first.
    pub hit_rate: f64,
    /// Loads finished well.
    pub loads: u64,
    /// Loads that failed.
    pub load_failures: u64,
    /// Requests granted on an instance that was already being loaded when they came.
    pub coalesced: u64,
    /// Instances unloaded by the pool's own decision.
    pub evictions: u64,
    /// The same by reason.
    pub evictions_by_reason: BTreeMap<Cow<'static, str>, u64>,
    /// Instances parked.
    pub parked: u64,
    /// Instances resumed.
    pub resumed: u64,
    /// Instances that were given more context or slots without being loaded anew.
    pub grown: u64,
    /// Instances that died while in use.
    pub died: u64,
    /// Requests refused.
    pub refused: u64,
    /// Requests whose caller went away before the grant.
    pub cancelled: u64,
    /// Requests that wait now.
    pub queued: u32,
    /// Leases that are out now.
    pub leases: u32,
    /// Bytes that instances in memory count for.
    pub resident_bytes: u64,
    /// Bytes promised to loads and resumes under way.
    pub reserved_bytes: u64,
    /// Bytes measured beyond every prediction and beyond the budget; idle instances leave until it is 0.
    pub owed_bytes: u64,
    /// Bytes that instances may use together.
    pub budget_bytes: u64,
    /// Bytes in memory and promised, in percent of the budget.
    pub usage_percent: f64,
    /// Bytes above which idle instances leave ahead of need.
    pub soft_bytes: u64,
    /// The same of each device whose memory is counted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<Arena, ArenaStats>,
    /// Where the budget comes from, such as `70 % of 22.1 GB available (/proc/meminfo)`.
    pub budget_source: String,
    /// Which idle instance leaves first.
    pub eviction: &'static str,
    /// Median time of a load, in milliseconds.
    pub load_ms_p50: f64,
    /// Mean time of a load, in milliseconds.
    pub load_ms_mean: f64,
    /// 99th percentile of the time of a load, in milliseconds.
    pub load_ms_p99: f64,
    /// Median wait for a slot, in milliseconds; loads are not part of it.
    pub queue_ms_p50: f64,
    /// Mean wait for a slot, in milliseconds; loads are not part of it.
    pub queue_ms_mean: f64,
    /// 99th percentile of the wait for a slot, in milliseconds; loads are not part of it.
    pub queue_ms_p99: f64,
}

/// What is counted in one arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(clippy::struct_field_names, reason = "the unit belongs to the name")]
pub struct ArenaStats {
    /// Bytes that instances in memory count for.
    pub resident_bytes: u64,
    /// Bytes promised to loads and resumes under way.
    pub reserved_bytes: u64,
    /// Bytes measured beyond every prediction and beyond the budget.
    pub owed_bytes: u64,
    /// Bytes that instances may use together.
    pub budget_bytes: u64,
    /// Bytes above which idle instances leave ahead of need.
    pub soft_bytes: u64,
}

/// One model. Counters only rise; the rest is of this moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelStats {
    /// What people call it.
    pub name: String,
    /// Identity of its bytes.
    pub key: ModelKey,
    /// The engine that runs it.
    pub engine: EngineId,
    /// What it can be asked for: `generate`, `embed`, `rerank`.
    pub capabilities: Vec<&'static str>,
    /// Where it is in its life.
    pub state: ModelState,
    /// Part of a load under way that is done, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<f32>,
    /// How it was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<LoadOptions>,
    /// Bytes of its own that it counts for now.
    pub held_bytes: u64,
    /// Bytes of mapped weights that it counts for now.
    pub mapped_bytes: u64,
    /// Bytes on each device that it counts for now.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub device_bytes: BTreeMap<Arena, u64>,
    /// Instances of it that are ready.
    pub instances: u32,
    /// The most that it may have.
    pub instances_max: u32,
    /// Requests that it can serve at the same time.
    pub slots: u32,
    /// Requests that it serves now.
    pub busy_slots: u32,
    /// Threads of the last step of each instance that is in memory, and why not more; of one that serves no request only how
    /// many it may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<ThreadUse>,
    /// Requests that wait for it.
    pub queued: u32,
    /// Names of the models that must be in memory with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Whether the pool must keep it.
    pub is_pinned: bool,
    /// Whether the pool must keep it, for its own sake or for that of a pinned model that needs it.
    #[serde(skip)]
    pub must_stay: bool,
    /// Tokens of context for each slot of that instance, of those that stay, which has most.
    #[serde(skip)]
    pub largest_context_tokens: Option<u32>,
    /// Requests for it.
    pub requests: u64,
    /// Requests granted on an instance that was ready or parked when they came.
    pub hits: u64,
    /// Requests granted on an instance that was loaded for them.
    pub misses: u64,
    /// Requests granted on an instance that was already being loaded when they came.
    pub coalesced: u64,
    /// Requests refused.
    pub refused: u64,
    /// Requests whose caller went away before the grant.
    pub cancelled: u64,
    /// Loads finished well.
    pub loads: u64,
    /// Loads that failed.
    pub load_failures: u64,
    /// Times it was unloaded by the pool's own decision.
    pub evictions: u64,
    /// Times it was parked.
    pub parked: u64,
    /// Times it was resumed.
    pub resumed: u64,
    /// Times it was given more context or slots without being loaded anew.
    pub grown: u64,
    /// Median time of its loads, in milliseconds.
    pub load_ms_p50: f64,
    /// Mean time of its loads, in milliseconds.
    pub load_ms_mean: f64,
    /// 99th percentile of the time of its loads, in milliseconds.
    pub load_ms_p99: f64,
    /// Mean wait for a slot of it, in milliseconds; loads are not part of it.
    pub queue_ms_mean: f64,
    /// Milliseconds since the load or resume of its oldest instance that is ready.
    pub age_ms: Option<u64>,
    /// Milliseconds since its last use, when it is in memory and unused.
    pub idle_ms: Option<u64>,
    /// Milliseconds until its keep-alive ends, when that is running.
    pub expires_in_ms: Option<u64>,
    /// Milliseconds until a failed model is tried again.
    pub retry_in_ms: Option<u64>,
    /// What went wrong last, while it is remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}
