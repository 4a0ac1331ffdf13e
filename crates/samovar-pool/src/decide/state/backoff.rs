//! The failures of a model that are remembered.

use std::collections::VecDeque;

use samovar_core::Failure;
use samovar_core::port::Millis;

/// The failures of a model that are remembered.
#[derive(Clone, Debug)]
pub(in crate::decide) struct Backoff {
    /// The last one.
    pub(in crate::decide) failure: Failure,
    pub(in crate::decide) is_death: bool,
    /// Failures in a row.
    pub(in crate::decide) count: u32,
    /// When the latest ones were.
    pub(in crate::decide) recent: VecDeque<Millis>,
    /// No request is let through before `retry_at`, and then one alone until that one has gone well.
    pub(in crate::decide) is_given_up: bool,
    /// The model should be there, although perhaps no request waits for it.
    pub(in crate::decide) is_missed: bool,
    pub(in crate::decide) retry_at: Millis,
    pub(in crate::decide) forget_at: Millis,
    pub(in crate::decide) timer: Millis,
}

impl Backoff {
    /// Milliseconds until the model is tried again.
    pub(in crate::decide) fn retry_in_ms(&self, now: Millis) -> u64 {
        self.retry_at.since(now)
    }

    /// One may try for all.
    pub(in crate::decide) fn is_half_open(&self, now: Millis) -> bool {
        self.is_given_up && self.retry_at <= now
    }
}
