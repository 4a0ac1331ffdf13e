//! The log of requests that `samovar plan` replays: a line for each asking, written away from the request. (A request
//! that is tried on another instance asks twice; an import asks again whenever it has given its slot back for others.)
//!
//! ```text
//!   request ─► LogEntry: asked, granted, answered ─► dropped ─► channel ─► a thread ─► FILE, FILE.1
//! ```
//!
//! A line holds times, the model's name and a number that stands for the client in this life of the program;
//! never a prompt, an answer, a key or an address. What cannot be written is lost: no request waits for it. Whatever
//! happens, the two files together stay within their size.

mod entry;
mod writer;

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use samovar_core::footprint::Measurement;
use samovar_pool::replay::log::ModelCosts;
use samovar_pool::{ModelSpec, Snapshot};
use tokio::sync::oneshot;

pub(crate) use entry::LogEntry;
use writer::{LogMessage, Writer};

/// Lines on their way to the file; the next is lost.
const WAITING: usize = 1_024;
/// Size at which the file is put aside as `FILE.1`, in place of an older one.
const MAX_BYTES: u64 = 32 << 20;
/// Models that are remembered as told about; the facts of others are told each time.
const MODELS_MAX: usize = 4_096;
/// How long leaving waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Between two attempts at a full queue.
const ANOTHER_TRY: Duration = Duration::from_millis(10);

/// The log of requests.
pub(crate) struct RequestLog {
    lines: SyncSender<LogMessage>,
    /// Makes a number of a client that cannot be turned back, and that means nothing in the next life.
    clients: RandomState,
    /// Names, since the names of one model may differ in all but its bytes.
    known: Mutex<HashSet<String>>,
}

impl RequestLog {
    /// Begins to write to this file, after what it holds already.
    pub(crate) fn begin(path: PathBuf) -> Arc<Self> {
        let (lines, queue) = sync_channel(WAITING);
        let writer = move || Writer::open(path, MAX_BYTES).write_all(&queue);
        if let Err(error) = std::thread::Builder::new().name("request-log".to_owned()).spawn(writer) {
            tracing::warn!("the log of requests is not written: {error}");
        }
        Arc::new(Self { lines, clients: RandomState::new(), known: Mutex::default() })
    }

    /// Waits until what was said so far is in the file; for a second at most, since a disk may be stuck. What is not
    /// written by then may be lost.
    pub(crate) async fn flush(&self) {
        tokio::time::timeout(LAST_LINES, self.marked()).await.ok();
    }

    async fn marked(&self) {
        let (mark, marked) = oneshot::channel();
        let mut line = LogMessage::Mark(mark);
        while let Err(TrySendError::Full(unsent)) = self.lines.try_send(line) {
            line = unsent;
            tokio::time::sleep(ANOTHER_TRY).await;
        }
        // No answer comes where there is no thread.
        marked.await.ok();
    }

    /// What a model was found to cost: one instance of it with so many slots, just measured.
    pub(crate) fn tell(&self, spec: &ModelSpec, measured: Measurement, slots: u32, now: &Snapshot) {
        let has_measured = measured.held_bytes + measured.mapped_bytes > 0;
        let (held, mapped, slots) = if has_measured {
            (measured.held_bytes, measured.mapped_bytes, slots)
        } else {
            (spec.footprint().held_bytes, spec.footprint().mapped_bytes, spec.options.slots)
        };
        let loaded = now.models.iter().find(|model| model.key == spec.key && model.loads > 0);
        let facts = ModelCosts {
            model: spec.name.clone(),
            held_bytes: Some(held),
            mapped_bytes: Some(mapped),
            load_ms: loaded.map(|model| model.load_ms_mean as u64).or(spec.load_ms),
            device_bytes: spec.cost.memory.on_devices(),
            slots: Some(slots),
            ..ModelCosts::default()
        };
        if self.lines.try_send(LogMessage::ModelCosts(facts)).is_ok() {
            let mut known = self.known();
            if known.len() < MODELS_MAX {
                known.insert(spec.name.clone());
            }
        }
    }

    fn client(&self, client: &str) -> String {
        if client.is_empty() {
            String::new()
        } else {
            format!("{:08x}", self.clients.hash_one(client) as u32)
        }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use samovar_pool::replay::log::Asked;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn flushing_waits_for_room_and_not_for_ever() {
        let (lines, queue) = sync_channel(1);
        let log = RequestLog { lines, clients: RandomState::new(), known: Mutex::default() };
        log.lines.try_send(LogMessage::Asked(Asked::default())).expect("room");
        let began = Instant::now();
        log.flush().await;
        assert_eq!(began.elapsed(), LAST_LINES, "the disk is stuck");
        let writing = std::thread::spawn(move || {
            let first = queue.recv().expect("the request");
            let LogMessage::Mark(mark) = queue.recv().expect("the mark") else { panic!("no mark") };
            mark.send(()).expect("the test waits");
            matches!(first, LogMessage::Asked(_))
        });
        log.marked().await;
        assert!(writing.join().expect("no panic"), "the mark came after what was said before");
        log.flush().await;
    }

    #[test]
    fn clients_are_numbers_that_nobody_can_turn_back() {
        let log = |path: &Path| RequestLog::begin(path.to_owned());
        let folder = tempfile::tempdir().expect("temporary folder");
        let (one, other) = (log(&folder.path().join("a")), log(&folder.path().join("b")));
        assert_eq!(one.client("alice"), one.client("alice"));
        assert_ne!(one.client("alice"), one.client("bob"));
        assert_ne!(one.client("alice"), other.client("alice"));
        assert_eq!(one.client(""), "");
    }
}
