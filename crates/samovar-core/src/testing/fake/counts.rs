//! What a fake engine has done, in numbers that tests can wait for.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::generation::GenerationRequest;

/// Requests that are remembered.
const LATEST_MAX: usize = 64;

/// What a fake engine has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Loads that began.
    pub loads_started: u64,
    /// Loads that gave an instance.
    pub loads_finished: u64,
    /// Loads that failed.
    pub loads_failed: u64,
    /// Loads that were cancelled.
    pub loads_cancelled: u64,
    /// Instances that exist now.
    pub live_instances: u64,
    /// Instances that are parked now.
    pub parked_instances: u64,
    /// Times that an instance was parked.
    pub parks: u64,
    /// Times that an instance was resumed.
    pub resumes: u64,
    /// Requests accepted.
    pub generations_started: u64,
    /// Requests that wait for a slot now.
    pub generations_queued: u64,
    /// Requests that hold a slot now.
    pub generations_running: u64,
    /// Requests that ended with `Done`.
    pub generations_finished: u64,
    /// Requests whose receiver went away.
    pub generations_cancelled: u64,
    /// Packings that began.
    pub packs_started: u64,
    /// Packings that wrote their file.
    pub packs_finished: u64,
    /// Packings that failed.
    pub packs_failed: u64,
    /// Packings that were cancelled.
    pub packs_cancelled: u64,
    /// Preparations that began.
    pub preparations_started: u64,
    /// Preparations that wrote their file.
    pub preparations_finished: u64,
    /// Preparations that failed, or were cancelled.
    pub preparations_failed: u64,
    /// Calibrations that ended well.
    pub calibrations: u64,
    /// Instances that were loaded with a packed file.
    pub packed_loads: u64,
    /// Tokens generated.
    pub tokens: u64,
    /// Requests for vectors or scores that were accepted.
    pub embeds_started: u64,
    /// Of these, those that ended with `Done`.
    pub embeds_finished: u64,
    /// Of these, those whose receiver went away.
    pub embeds_cancelled: u64,
    /// Batches of inputs that were chosen to be computed.
    pub batches: u64,
    /// Inputs that were computed.
    pub inputs_embedded: u64,
    /// Inputs that were never computed, because the receiver of their request went away.
    pub inputs_dropped: u64,
}

/// Where the counts are kept and waited for.
#[derive(Debug)]
pub struct Ledger {
    counts: watch::Sender<Counts>,
    turn: Mutex<()>,
    changed: Condvar,
    /// The latest requests for text, the last one last.
    latest: Mutex<VecDeque<GenerationRequest>>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            counts: watch::Sender::new(Counts::default()),
            turn: Mutex::new(()),
            changed: Condvar::new(),
            latest: Mutex::default(),
        }
    }
}

impl Ledger {
    /// The counts now.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// The latest requests for text, the last one last.
    pub fn latest(&self) -> Vec<GenerationRequest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) fn remember(&self, request: &GenerationRequest) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == LATEST_MAX {
            latest.pop_front();
        }
        latest.push_back(request.clone());
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Counts)) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.counts.send_modify(change);
        drop(turn);
        self.changed.notify_all();
    }

    /// Waits until `is_so` holds.
    pub async fn wait_until(&self, is_so: impl FnMut(&Counts) -> bool) -> Counts {
        let mut receiver = self.counts.subscribe();
        // The sender lives as long as `self`, so the channel cannot close while we wait.
        receiver.wait_for(is_so).await.map_or_else(|_| self.counts(), |counts| *counts)
    }

    /// Blocks until `is_so` holds, `limit` at most.
    ///
    /// # Errors
    /// The counts at the time limit.
    #[allow(clippy::result_large_err, reason = "numbers that only tests see")]
    pub fn blocking_wait_until(
        &self,
        limit: Duration,
        mut is_so: impl FnMut(&Counts) -> bool,
    ) -> Result<Counts, Counts> {
        let deadline = Instant::now() + limit;
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let counts = self.counts();
            if is_so(&counts) {
                return Ok(counts);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(counts);
            }
            turn = match self.changed.wait_timeout(turn, left) {
                Ok((turn, _)) => turn,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}
