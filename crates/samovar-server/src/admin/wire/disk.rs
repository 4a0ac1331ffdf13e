//! What an owner commands about models on disk, and what comes of it.

use samovar::RemovedModel;
use samovar::store::{Progress, Verified};
use samovar_core::Failure;
use serde::{Deserialize, Serialize};

/// Asks for a model to be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullBody {
    /// The model reference.
    pub model: String,
    /// Fetch on when no client listens, and answer at once.
    #[serde(default)]
    pub background: bool,
}

/// One line of a fetch's progress; the last is `done` or `failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullEvent {
    /// It gets on.
    Progress(Progress),
    /// The model is on disk.
    Done {
        /// The canonical text by which users name it.
        reference: String,
        /// Bytes of its files.
        bytes: u64,
        /// Bytes that were fetched for it.
        fetched_bytes: u64,
        /// All of it was here before.
        was_here: bool,
        /// How long it took, in milliseconds.
        took_ms: f64,
    },
    /// The model could not be fetched.
    Failed(Failure),
}

/// A fetch goes on in the background.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullBegun {
    /// What is fetched.
    pub reference: String,
}

/// Asks for the fetches of a model to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelPullBody {
    /// The model reference.
    pub model: String,
}

/// What was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullsCancelled {
    /// Fetches by this API that stop; requests that wait for the same model fetch on.
    pub cancelled: u32,
}

/// Asks for a model to be removed from the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveBody {
    /// The model reference.
    pub model: String,
}

/// Asks for a collection of what the disk is not needed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectBody {
    /// Only say what would go.
    #[serde(default)]
    pub dry_run: bool,
}

/// Asks for models on disk to be read and held against their digests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyBody {
    /// The model references; none = everything on disk.
    #[serde(default)]
    pub models: Vec<String>,
    /// Fetch again what is damaged or gone.
    #[serde(default)]
    pub repair: bool,
}

/// One line of a verification's progress; the last is `done` or `failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyEvent {
    /// It gets on.
    Progress(Progress),
    /// What was found.
    Done(Verification),
    /// It could not be done.
    Failed(Failure),
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Whether everything is as it should be, now.
    pub is_sound: bool,
    /// In detail.
    #[serde(flatten)]
    pub verified: Verified,
}

impl Verification {
    /// These findings.
    pub fn of(verified: Verified) -> Self {
        Self { is_sound: verified.is_sound(), verified }
    }
}

/// Asks for a level of the cache to be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClearBody {
    /// Which one.
    pub tier: ClearTier,
}

/// A level of the cache that can be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClearTier {
    /// Every model is unloaded as soon as no request uses it; pins are taken off.
    Memory,
    /// Every created name, and every model that is not in use, is removed from the disk.
    Disk,
}

/// What was emptied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// Instances that are unloaded or will be as soon as nothing uses them.
    pub instances: u32,
    /// Models that left the disk.
    pub removed: Vec<RemovedModel>,
    /// Models that did not.
    pub failed: Vec<NotRemoved>,
}

/// A model that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRemoved {
    /// The canonical text by which users name it.
    pub reference: String,
    /// Why not.
    pub failure: Failure,
}
