//! Gates: a file's bytes stop after so many, until the test lets them go on.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The gates that are closed, or will close.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    by_file: Mutex<BTreeMap<String, Gate>>,
    /// Somebody waits at a gate.
    reached: Condvar,
    /// A gate is gone.
    opened: Notify,
}

#[derive(Debug)]
struct Gate {
    left_bytes: u64,
    is_reached: bool,
}

impl Gates {
    /// Lets `after_bytes` more of this file out, whoever asks for them, and then none.
    pub(crate) fn close(&self, file: &str, after_bytes: u64) {
        self.locked().insert(file.to_owned(), Gate { left_bytes: after_bytes, is_reached: false });
    }

    /// Opens this file's gate.
    pub(crate) fn open(&self, file: &str) {
        self.locked().remove(file);
        self.opened.notify_waiters();
    }

    /// Opens all.
    pub(crate) fn open_all(&self) {
        self.locked().clear();
        self.opened.notify_waiters();
    }

    /// How many of `want` bytes may go out now; waits at a closed gate.
    pub(crate) async fn pass(&self, file: &str, want: usize) -> usize {
        loop {
            // Registered before looking, so that an opening in between is not missed.
            let opened = self.opened.notified();
            tokio::pin!(opened);
            opened.as_mut().enable();
            if let Some(count) = self.take(file, want) {
                return count;
            }
            opened.await;
        }
    }

    fn take(&self, file: &str, want: usize) -> Option<usize> {
        let mut gates = self.locked();
        let Some(gate) = gates.get_mut(file) else { return Some(want) };
        let count = usize::try_from(gate.left_bytes).unwrap_or(usize::MAX).min(want);
        gate.left_bytes -= count as u64;
        if count == 0 {
            gate.is_reached = true;
            self.reached.notify_all();
            return None;
        }
        Some(count)
    }

    /// Whether somebody waits at this file's gate, or does so within `patience`.
    pub(crate) fn wait_until_reached(&self, file: &str, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut gates = self.locked();
        loop {
            if gates.get(file).is_some_and(|gate| gate.is_reached) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (gates, _) = self.reached.wait_timeout(gates, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Gate>> {
        self.by_file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
