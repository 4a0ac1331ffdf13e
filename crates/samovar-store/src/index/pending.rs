//! Uses and counters on their way into the index: noted in memory, written about once a second.
//!
//! Noting is a map entry and never touches the disk. A thread, begun with the first note, writes what has
//! come together; when the index is busy it tries again a second later. What was not written when the
//! process is killed is lost, which costs a figure and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::access::{Access, Durability};
use super::row::DigestBytes;
use super::usage::{Tally, Use};
use super::{Index, artifacts, now_ms};
use crate::artifact::Usage;
use crate::artifact::key::KeyDigest;
use crate::error::Error;

/// Time in which notes come together.
const GATHERING: Duration = Duration::from_secs(1);
/// How long the thread waits for other processes: it need not insist.
const BRIEFLY: Duration = Duration::from_millis(20);
/// How long a caller who asks for the writing waits for other processes.
const PATIENTLY: Duration = Duration::from_secs(2);
/// Artifacts with notes at a time; more than a second can bring.
const ARTIFACTS: usize = 16_384;

impl Index {
    /// Notes a use of an artifact. Never waits for the disk.
    pub(crate) fn note(&self, key: &KeyDigest, use_: Use) {
        self.note_at(key, use_, now_ms());
    }

    /// Notes a use at this time.
    pub(super) fn note_at(&self, key: &KeyDigest, use_: Use, now_ms: u64) {
        self.pending.add(|batch| {
            if batch.uses.len() < ARTIFACTS || batch.uses.contains_key(key) {
                batch.uses.entry(*key).or_default().add(use_, now_ms);
            }
        });
    }

    /// Adds to a counter. Never waits for the disk.
    pub(crate) fn count(&self, name: &'static str, by: u64) {
        self.pending.add(|batch| {
            let value = batch.counts.entry(name).or_default();
            *value = value.saturating_add(by);
        });
    }

    /// All counters, over all processes and restarts, with what this process has not written yet.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn counters(&self) -> Result<BTreeMap<String, u64>, Error> {
        let mut counters: BTreeMap<String, u64> = self.access.read(|connection| {
            connection
                .prepare_cached("SELECT name, value FROM counters")?
                .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?
                .collect()
        })?;
        for (name, by) in self.pending.counts() {
            let value = counters.entry(name.to_owned()).or_default();
            *value = value.saturating_add(by);
        }
        Ok(counters)
    }

    /// The figures with the uses that are not written yet.
    pub(super) fn with_pending(&self, key: &KeyDigest, usage: Usage) -> Usage {
        self.pending.usage(key, usage)
    }
}

/// The notes of this process, and the thread that writes them.
pub(super) struct Pending {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    access: Arc<Access>,
    notes: Mutex<Notes>,
    changed: Condvar,
    /// Held while a batch is written, so that one batch leaves at a time.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Notes {
    gathered: Batch,
    /// What is being written; looked at until it is.
    leaving: Batch,
    is_closing: bool,
}

#[derive(Clone, Default)]
struct Batch {
    uses: HashMap<KeyDigest, Tally>,
    counts: HashMap<&'static str, u64>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.uses.is_empty() && self.counts.is_empty()
    }

    fn append(&mut self, later: Self) {
        for (key, tally) in later.uses {
            self.uses.entry(key).or_default().append(tally);
        }
        for (name, by) in later.counts {
            let value = self.counts.entry(name).or_default();
            *value = value.saturating_add(by);
        }
    }
}

impl Pending {
    pub(super) fn over(access: Arc<Access>) -> Self {
        let shared =
            Shared { access, notes: Mutex::default(), changed: Condvar::new(), writing: Mutex::default() };
        Self { shared: Arc::new(shared), thread: Mutex::default() }
    }

    pub(super) fn flush(&self) {
        self.shared.flush(PATIENTLY);
    }

    fn add(&self, note: impl FnOnce(&mut Batch)) {
        let mut notes = lock(&self.shared.notes);
        let was_empty = notes.gathered.is_empty();
        note(&mut notes.gathered);
        drop(notes);
        if was_empty {
            self.shared.changed.notify_one();
            self.have_thread();
        }
    }

    fn have_thread(&self) {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            // Without a thread the notes are written by `flush` and at the end.
            *thread = std::thread::Builder::new()
                .name("index-notes".to_owned())
                .spawn(move || shared.write_until_closed())
                .ok();
        }
    }

    fn usage(&self, key: &KeyDigest, usage: Usage) -> Usage {
        let notes = lock(&self.shared.notes);
        [&notes.leaving, &notes.gathered]
            .into_iter()
            .filter_map(|batch| batch.uses.get(key))
            .fold(usage, |usage, tally| tally.apply(usage))
    }

    /// Counters that are not written yet.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        let notes = lock(&self.shared.notes);
        notes.leaving.counts.iter().chain(&notes.gathered.counts).map(|(name, by)| (*name, *by)).collect()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        lock(&self.shared.notes).is_closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            // A thread that panicked has nothing more to write.
            let _ = thread.join();
        }
        self.flush();
    }
}

impl Shared {
    fn write_until_closed(&self) {
        let mut notes = lock(&self.notes);
        while !notes.is_closing {
            if notes.gathered.is_empty() {
                notes = self.changed.wait(notes).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let until_closing = |notes: &mut Notes| !notes.is_closing;
            notes = self
                .changed
                .wait_timeout_while(notes, GATHERING, until_closing)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            drop(notes);
            self.flush(BRIEFLY);
            notes = lock(&self.notes);
        }
    }

    fn flush(&self, timeout: Duration) {
        let _turn = lock(&self.writing);
        let batch = {
            let mut notes = lock(&self.notes);
            notes.leaving = std::mem::take(&mut notes.gathered);
            notes.leaving.clone()
        };
        if batch.is_empty() {
            return;
        }
        let written = self.access.write(Durability::Process, timeout, |change| write(change, &batch));
        let mut notes = lock(&self.notes);
        let mut batch = std::mem::take(&mut notes.leaving);
        if let Err(error) = written {
            tracing::debug!(%error, "the uses could not be written yet");
            batch.append(std::mem::take(&mut notes.gathered));
            notes.gathered = batch;
        }
    }
}

fn write(change: &Connection, batch: &Batch) -> rusqlite::Result<()> {
    for (key, tally) in &batch.uses {
        let found = change
            .prepare_cached(artifacts::USAGE_OF_KEY)?
            .query_row([DigestBytes(*key.as_digest())], |row| {
                Ok((row.get::<_, i64>(0)?, artifacts::usage(row, 1)?))
            })
            .optional()?;
        // What was removed meanwhile has no figures any more.
        if let Some((artifact, before)) = found {
            artifacts::put_usage(change, artifact, &tally.apply(before))?;
        }
    }
    for (name, by) in &batch.counts {
        let before: Option<i64> = change
            .prepare_cached("SELECT value FROM counters WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        let value = before.unwrap_or(0).cast_unsigned().saturating_add(*by);
        change
            .prepare_cached("INSERT OR REPLACE INTO counters (name, value) VALUES (?1, ?2)")?
            .execute((name, value.cast_signed()))?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
