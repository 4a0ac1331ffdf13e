//! What an owner is told: numbers, models, decisions.

use std::net::SocketAddr;
use std::path::PathBuf;

use samovar::{Decision, ModelInfo, PackedInfo};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Numbers of the runtime, and of the daemon around it. `S` is [`samovar::Stats`] where they are written; those
/// who read them may take any part they know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DaemonStats<S = Map<String, Value>> {
    /// Process id of the daemon.
    pub pid: u32,
    /// Where it listens for HTTP.
    pub listen: Option<SocketAddr>,
    /// Whether that is served over TLS. A daemon of an older version does not say it.
    #[serde(default)]
    pub tls: bool,
    /// Its Unix socket.
    pub socket: Option<PathBuf>,
    /// Requests being answered.
    pub requests_in_flight: u32,
    /// Milliseconds since the last request ended; 0 while one is being answered.
    pub idle_ms: u64,
    /// The runtime's own numbers.
    #[serde(flatten)]
    pub stats: S,
}

/// Every model that requests may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// The models.
    pub models: Vec<ModelInfo>,
}

/// The pool's latest decisions about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyAnswer {
    /// The model that was asked about.
    pub model: String,
    /// Newest first.
    pub decisions: Vec<Decided>,
    /// How its weights lie, and why; absent when it is not on this machine any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<PackedInfo>,
}

/// A decision of the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// How long ago, in milliseconds.
    pub at_ms_ago: u64,
    /// The model's name.
    pub model: String,
    /// What was done with it.
    pub what: String,
    /// Why, as data.
    pub reason: Value,
    /// The same as a sentence.
    pub text: String,
}

impl From<Decision> for Decided {
    fn from(decision: Decision) -> Self {
        let data =
            |value: Result<Value, serde_json::Error>| value.expect("invariant: decisions are plain data");
        let what = data(serde_json::to_value(decision.what));
        Self {
            at_ms_ago: decision.at_ms_ago,
            model: decision.model,
            what: what.as_str().map_or_else(|| what.to_string(), str::to_owned),
            reason: data(serde_json::to_value(decision.reason)),
            text: decision.text,
        }
    }
}
