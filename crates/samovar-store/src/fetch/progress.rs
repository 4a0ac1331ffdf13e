//! How a fetch gets on, for its watchers.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Is told how a fetch gets on, a few times a second at most. Must return at once.
pub type Watch = Arc<dyn Fn(Progress) + Send + Sync>;

/// One step of a fetch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// The source is asked what the reference means.
    Resolving,
    /// The source does not answer yet; it is asked again, or is still waited for.
    Unanswered {
        /// What is known of it.
        reason: String,
    },
    /// Bytes are coming in, here or in the process that fetches for us.
    Fetching(Transfer),
    /// The bytes are here and are being checked.
    Verifying(Transfer),
    /// Another program on this machine has the model: it was taken from there, and nothing is fetched.
    Nearby {
        /// The folder that it was taken from.
        from: PathBuf,
        /// Bytes of all its files.
        bytes: u64,
    },
    /// The name leaves the quantization open, and one was chosen for it from now on.
    Chosen {
        /// What the name means.
        reference: String,
        /// Why, as a sentence for people that begins with the quantization.
        reason: String,
    },
}

/// A fetch that callers wait for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchUnderWay {
    /// What is fetched.
    pub reference: String,
    /// How it gets on.
    pub progress: Progress,
}

impl FetchUnderWay {
    /// A flight of the store, whose name says what for, then the reference.
    pub(crate) fn of((flight, progress): (String, Progress)) -> Self {
        let reference = flight.split_once(' ').map_or(flight.as_str(), |(_, reference)| reference).to_owned();
        Self { reference, progress }
    }
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Bytes that are here, over all files of the artifact; those that were here before included.
    pub done_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// Bytes a second of late; 0 while unknown.
    pub bytes_per_s: f64,
    /// Files in all.
    pub files: u32,
    /// Another process fetches, and this one waits for it.
    pub by_another_process: bool,
}

impl Transfer {
    /// Milliseconds until the end at this rate; `None` while that is unknown.
    pub fn eta_ms(&self) -> Option<u64> {
        let left = self.total_bytes.saturating_sub(self.done_bytes) as f64;
        (self.bytes_per_s > 0.0).then(|| (left / self.bytes_per_s * 1e3) as u64)
    }
}
