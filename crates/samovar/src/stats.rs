//! The runtime's numbers, as `samovar stats --json` prints them.

use samovar_pool::{ModelStats, PoolStats};
use serde::Serialize;

/// Counters and gauges since the runtime started.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// Version of Samovar.
    pub version: String,
    /// Name and version of the engine.
    pub engine: String,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// The pool as a whole.
    pub pool: PoolStats,
    /// Each model that was ever asked for.
    pub models: Vec<ModelStats>,
}
