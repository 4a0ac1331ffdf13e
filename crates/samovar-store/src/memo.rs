//! Small things that a program wants to find again in its next life: measurements, calibrations. Losing one is fine.

use crate::store::Store;

impl Store {
    /// Keeps a small text under a key, over restarts. What the index cannot take is left out.
    pub fn remember(&self, key: &str, text: &str) {
        if let Err(error) = self.0.index.remember(key, text) {
            tracing::debug!(key, "not remembered: {error}");
        }
    }

    /// The text that was kept under a key, if it is still there.
    pub fn recall(&self, key: &str) -> Option<String> {
        self.0.index.recall(key).ok().flatten()
    }
}
