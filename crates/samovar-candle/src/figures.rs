//! What an instance's thread publishes about itself, for readers that do not wait for it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use samovar_core::ThreadUse;
use samovar_core::cores::ThreadsWhy;
use samovar_core::footprint::Measurement;

/// Numbers that the thread writes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) held_bytes: AtomicU64,
    pub(crate) kv_used_tokens: AtomicU32,
    pub(crate) kv_total_tokens: AtomicU32,
    pub(crate) busy_slots: AtomicU32,
    pub(crate) embedding: AtomicU32,
    pub(crate) context_tokens: AtomicU32,
    pub(crate) is_parked: AtomicBool,
    /// Threads of a step at most, as the holder of several instances says; 0 = all.
    pub(crate) share: AtomicU32,
    pub(crate) threads_used: AtomicU32,
    pub(crate) threads_most: AtomicU32,
}

impl Figures {
    pub(crate) fn context_tokens(&self) -> u32 {
        self.context_tokens.load(Ordering::Acquire)
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.is_parked.load(Ordering::Acquire)
    }

    pub(crate) fn measurement(&self) -> Measurement {
        let read = |number: &AtomicU32| number.load(Ordering::Relaxed);
        let (used, most) = (read(&self.threads_used), read(&self.threads_most));
        let why = if used == 0 || used >= most { ThreadsWhy::All } else { ThreadsWhy::OtherModels };
        Measurement {
            held_bytes: self.held_bytes.load(Ordering::Relaxed),
            mapped_bytes: 0,
            kv_used_tokens: read(&self.kv_used_tokens),
            kv_total_tokens: read(&self.kv_total_tokens),
            busy_slots: read(&self.busy_slots) + read(&self.embedding),
            threads: ThreadUse { used, most, why },
        }
    }
}
