//! What an owner commands, and what comes of it.

use samovar::{PackedInfo, PreparedInfo, Quantization};
use samovar_core::{ErrorKind, Failure};
use serde::{Deserialize, Serialize};

use super::WaitEvent;

/// Asks for a model to be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmBody {
    /// The model reference.
    pub model: String,
    /// Keep it from being parked or unloaded by the pool afterwards.
    #[serde(default)]
    pub pin: bool,
}

/// The keys that are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysInForce {
    /// How many there are.
    pub keys: u64,
}

/// One line of a load's progress; the last is `done` or `failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarmEvent {
    /// The load waits or gets on.
    Waiting(WaitEvent),
    /// The model is ready.
    Done {
        /// How long it took, in milliseconds.
        took_ms: f64,
    },
    /// The model could not be made ready.
    Failed(Failure),
}

/// Asks for a published model to be prepared now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareBody {
    /// The model reference.
    pub model: String,
    /// The number format; absent = as the settings say, else as it was chosen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
}

/// One line of a preparation's progress; the last is `done` or `failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrepareEvent {
    /// The model is fetched, or prepared.
    Waiting(WaitEvent),
    /// What was prepared, or was there already.
    Done(PreparedInfo),
    /// The model could not be prepared.
    Failed(Failure),
}

/// Asks for a model's weights to be packed now, and for its layouts to be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackBody {
    /// The model reference.
    pub model: String,
}

/// One line of a packing's progress; the last is `done` or `failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackEvent {
    /// The model is not on this machine yet.
    Waiting(WaitEvent),
    /// It gets on: first the file, then the measuring.
    Progress {
        /// The part done, 0..=1.
        fraction: f32,
    },
    /// What was made and measured, or was there already.
    Done(PackedInfo),
    /// The model could not be packed.
    Failed(Failure),
}

/// Pins a model, or lets it go again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinBody {
    /// The model reference.
    pub model: String,
    /// Whether the pool must keep it.
    pub pinned: bool,
}

/// Unloads one model or all: exactly one of the two is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnloadBody {
    /// The model reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Every model.
    #[serde(default)]
    pub all: bool,
}

impl UnloadBody {
    /// The model to unload, `None` for all.
    ///
    /// # Errors
    /// `InvalidRequest` unless exactly one of the two is given.
    pub fn target(self) -> Result<Option<String>, Failure> {
        match (self.model, self.all) {
            (Some(model), false) => Ok(Some(model)),
            (None, true) => Ok(None),
            _ => Err(Failure::new(ErrorKind::InvalidRequest, "give either `model` or `all: true`")
                .with_param("model")),
        }
    }
}

/// What an unload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unloaded {
    /// Instances that are unloaded or will be as soon as nothing uses them.
    pub instances: u32,
}

/// Asks the daemon to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownBody {
    /// How long running requests may take to end, in milliseconds; absent = as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

/// What the daemon says before it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownAnswer {
    /// Its process id, so that a client can see it end.
    pub pid: u32,
    /// Requests that it still waits for.
    pub requests_in_flight: u32,
}
