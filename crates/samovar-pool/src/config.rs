//! The limits that the pool keeps to.

use std::collections::BTreeMap;

use samovar_core::{Arena, Bytes};
use serde::Serialize;

use crate::budget::Budget;

/// Which idle instance leaves first when memory is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EvictionPolicy {
    /// The one that was used least recently.
    Lru,
    /// The one whose model is used least often of late.
    Lfu,
    /// An old one that is rarely used: 0.7 of its age less 0.3 of its frequency, both normalised.
    Priority,
    /// The one whose bytes buy the least saved load time (greedy dual size frequency).
    #[default]
    Gdsf,
}

impl EvictionPolicy {
    /// Every policy, the default first.
    pub const ALL: [Self; 4] = [Self::Gdsf, Self::Lru, Self::Lfu, Self::Priority];

    /// The word for it in settings and statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Lfu => "lfu",
            Self::Priority => "priority",
            Self::Gdsf => "gdsf",
        }
    }

    /// The policy that this word stands for.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// The limits that the pool keeps to. Every one can be changed while it runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoolConfig {
    /// Bytes that instances may use together.
    pub budget: Budget,
    /// Bytes that instances may use on each device; none on one that is not named. The host's are `budget`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub device_bytes: BTreeMap<Arena, u64>,
    /// Share of the budget above which idle instances leave ahead of need, in `(0, 1]`.
    pub soft_ratio: f64,
    /// Which idle instance leaves first.
    pub eviction: EvictionPolicy,
    /// Requests that may wait for one model.
    pub queue_per_model: u32,
    /// Requests that may wait in all.
    pub queue_total: u32,
    /// Clients that are served more often than once each turn, and how often; at least 1.
    pub client_weights: BTreeMap<String, u32>,
    /// Callers that may wait or be served at the same time; the next is refused at once.
    /// Only the value at the start counts.
    pub calls_max: u32,
    /// An instance stays at least so long after it became ready, in milliseconds.
    pub min_residency_ms: u64,
    /// A model that waits for memory makes busy ones yield after so long at the latest, in milliseconds.
    pub max_wait_ms: u64,
    /// A parked instance is unloaded after so long, in milliseconds.
    pub parked_ms: u64,
    /// No keep-alive is shorter than this, in milliseconds.
    pub keep_alive_floor_ms: u64,
    /// No keep-alive is longer than this, in milliseconds; `None` = as long as asked.
    pub keep_alive_ceiling_ms: Option<u64>,
    /// Wait after the first failure of a model, in milliseconds; doubles with each further one.
    pub backoff_first_ms: u64,
    /// The longest such wait, in milliseconds.
    pub backoff_max_ms: u64,
    /// An instance that was unused for so long generates one token to show that it lives, in milliseconds; the next
    /// time after twice as long. 0 = never.
    pub probe_idle_ms: u64,
    /// Memory that the machine, or this process's control group, must have left; below it idle instances leave.
    pub available_floor_bytes: u64,
    /// Share of time in which some task of the machine waits for memory above which idle instances leave, in percent;
    /// 100 = that is no reason.
    pub stall_percent_max: f32,
    /// How often the machine is asked about its memory while anything is loaded, in milliseconds; 0 = never. While
    /// nothing is in use and much memory is left, it is asked once in five such intervals.
    pub look_every_ms: u64,
    /// Processors of the machine: while as many instances are at work, no model gets one more than it must have.
    pub cores: u32,
    /// Models whose statistics are remembered; the absent one that was used least recently is forgotten first.
    pub models_max: u32,
    /// Decisions that `why` can look back on.
    pub decisions_max: u32,
}

impl PoolConfig {
    /// The defaults within this budget.
    pub fn with_budget(budget: Budget) -> Self {
        // A small container must not be short of memory for ever.
        let available_floor_bytes = (256 << 20).min(budget.bytes / 8);
        Self {
            budget,
            device_bytes: BTreeMap::new(),
            soft_ratio: 0.85,
            eviction: EvictionPolicy::default(),
            queue_per_model: 128,
            queue_total: 256,
            client_weights: BTreeMap::new(),
            calls_max: 4_096,
            min_residency_ms: 500,
            max_wait_ms: 30_000,
            parked_ms: 30 * 60_000,
            keep_alive_floor_ms: 0,
            keep_alive_ceiling_ms: None,
            backoff_first_ms: 1_000,
            backoff_max_ms: 60_000,
            probe_idle_ms: 60_000,
            available_floor_bytes,
            stall_percent_max: 10.0,
            look_every_ms: 1_000,
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            models_max: 4_096,
            decisions_max: 1_024,
        }
    }

    /// Bytes that instances may use together in each arena.
    pub fn budgets(&self) -> Bytes {
        let devices = self.device_bytes.iter().filter(|(arena, _)| !arena.is_host());
        devices.fold(Bytes::host(self.budget.bytes), |all, (arena, bytes)| all.with(*arena, *bytes))
    }

    /// Bytes above which idle instances leave ahead of need, in each arena.
    pub fn soft(&self) -> Bytes {
        self.budgets().part(self.soft_ratio.clamp(0.0, 1.0))
    }

    /// The same on the host.
    pub fn soft_bytes(&self) -> u64 {
        self.soft().on_host()
    }

    /// When the machine is short of memory.
    pub(crate) fn memory_floor(&self) -> MemoryFloor {
        let Self { available_floor_bytes, stall_percent_max, .. } = *self;
        MemoryFloor { available_bytes: available_floor_bytes, stall_percent_max }
    }
}

/// When the machine is short of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct MemoryFloor {
    /// It must have so much left.
    pub(crate) available_bytes: u64,
    /// Its tasks may wait for memory for so much of the time.
    pub(crate) stall_percent_max: f32,
}

impl MemoryFloor {
    /// Whether it is short.
    pub(crate) fn is_short(self, available_bytes: u64, stall_percent: f32) -> bool {
        available_bytes < self.available_bytes || stall_percent > self.stall_percent_max
    }

    /// Whether it is half way there, or further.
    pub(crate) fn is_nearly_short(self, available_bytes: u64, stall_percent: f32) -> bool {
        available_bytes < self.available_bytes.saturating_mul(2)
            || stall_percent > self.stall_percent_max / 2.0
    }
}

impl Default for PoolConfig {
    /// The defaults within what [`Budget::detect`] finds.
    fn default() -> Self {
        Self::with_budget(Budget::detect())
    }
}
