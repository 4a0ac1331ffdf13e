//! Small things that a program wants to find again in its next life: measurements, calibrations. Losing one is fine.

use samovar_core::Digest;

use crate::error::Error;
use crate::store::Store;

impl Store {
    /// Keeps a small text under a key, over restarts. What the index cannot take is left out.
    pub fn remember(&self, key: &str, text: &str) {
        if let Err(error) = self.0.local.cache.index.remember(key, text) {
            tracing::debug!(key, "not remembered: {error}");
        }
    }

    /// The text that was kept under a key, if it is still there.
    ///
    /// # Errors
    /// When the index cannot be asked, so that it is unknown.
    pub fn recall(&self, key: &str) -> Result<Option<String>, Error> {
        self.0.local.cache.index.recall(key)
    }

    /// What was measured of this machine and shape of models, as it was kept.
    pub fn calibration(&self, machine_and_shape: &str) -> Option<String> {
        self.recall(&calibration_key(machine_and_shape)).ok().flatten()
    }

    /// Keeps what was measured of this machine and shape of models, in the place of what was measured before: at
    /// most 64 KiB, and of more than a few thousand the oldest are forgotten, as all of them with a lost index; then
    /// it is measured again.
    pub fn keep_calibration(&self, machine_and_shape: &str, text: &str) {
        self.remember(&calibration_key(machine_and_shape), text);
    }
}

/// Beside whatever else is remembered; of one length, whatever the machine is called.
fn calibration_key(machine_and_shape: &str) -> String {
    format!("calibration {}", Digest::of_bytes(machine_and_shape.as_bytes()))
}
