//! What a request waits for, from the download to the slot.

use samovar_store::Progress;

/// What a waiting request is told.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    /// The model is not on this machine yet: its source is asked, or its bytes come in.
    Fetching(Progress),
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
