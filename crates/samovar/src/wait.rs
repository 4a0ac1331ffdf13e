//! What a request waits for, from the download to the slot.

use std::sync::Arc;

use samovar_core::Quantization;
use samovar_store::Progress;
use serde::{Deserialize, Serialize};

/// Is told what a request waits for. Must return at once.
pub(crate) type Tell = Arc<dyn Fn(Wait) + Send + Sync>;

/// What a waiting request is told.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    /// The model is not on this machine yet: its source is asked, or its bytes come in.
    Fetching(Progress),
    /// The model is converted from the form in which it was published, once for all later loads.
    Preparing(Preparing),
    /// The model has no free slot, or no memory yet.
    Queued {
        /// Place in the model's queue, counted from 1.
        position: u32,
        /// Expected wait in milliseconds, once there is experience to tell from.
        estimate_ms: Option<u64>,
    },
    /// The model is being loaded.
    Loading {
        /// Part done, 0 to 1.
        fraction: f32,
        /// Which of the model's instances, counted from 1.
        instance: u32,
        /// How many instances will be loaded.
        of: u32,
    },
    /// The model was parked and gets its working memory back.
    Resuming,
}

/// How a preparation gets on, and what it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Preparing {
    /// Part done, 0 to 1.
    pub fraction: f32,
    /// The number format of the weights afterwards.
    pub quantization: Quantization,
    /// Bytes of the published weights.
    pub source_bytes: u64,
    /// Bytes that it takes on the disk meanwhile, at most.
    pub disk_bytes: u64,
    /// Memory that it takes, at most.
    pub memory_bytes: u64,
    /// Milliseconds until it is done, at the rate so far; `None` while that is unknown.
    pub eta_ms: Option<u64>,
}

impl From<samovar_pool::Wait> for Wait {
    fn from(wait: samovar_pool::Wait) -> Self {
        use samovar_pool::Wait as Pool;
        match wait {
            Pool::Queued { position, estimate_ms } => Self::Queued { position, estimate_ms },
            Pool::Loading { fraction, instance, of } => Self::Loading { fraction, instance, of },
            Pool::Resuming => Self::Resuming,
        }
    }
}
