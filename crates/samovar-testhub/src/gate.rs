//! Gates: a file's bytes stop after so many, until the test lets them go on.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The gates that are closed, or will close.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    by_file: Mutex<BTreeMap<String, Gate>>,
    /// A request waits at a gate.
    reached: Condvar,
    /// Files that are being sent, or held.
    sending: Mutex<usize>,
    /// One fewer is.
    ended: Condvar,
    /// A gate is gone, or bytes were given back.
    changed: Notify,
}

#[derive(Debug)]
struct Gate {
    left_bytes: u64,
    /// Bytes that may go out and did not yet.
    under_way_bytes: u64,
    has_waiters: bool,
}

impl Gate {
    /// Whether all that may go out went, and a client wants more.
    fn is_reached(&self) -> bool {
        self.has_waiters && self.left_bytes == 0 && self.under_way_bytes == 0
    }
}

/// A file that is being sent.
#[derive(Debug)]
pub(crate) struct Underway<'a>(&'a Gates);

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        *self.0.sending.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.ended.notify_all();
    }
}

/// The right to send some bytes of a file; those that were not sent when it is dropped may be sent by others.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    gates: &'a Gates,
    file: &'a str,
    bytes: u64,
    sent_bytes: u64,
}

impl Pass<'_> {
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.sent_bytes += bytes;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(gate) = self.gates.locked().get_mut(self.file) {
            // A gate that was closed in between never counted these bytes.
            gate.under_way_bytes = gate.under_way_bytes.saturating_sub(self.bytes);
            gate.left_bytes += self.bytes.saturating_sub(self.sent_bytes);
            self.gates.reached.notify_all();
        }
        self.gates.changed.notify_waiters();
    }
}

impl Gates {
    /// Lets `after_bytes` more of this file out, for any client, and then none.
    pub(crate) fn close(&self, file: &str, after_bytes: u64) {
        self.locked().insert(
            file.to_owned(),
            Gate { left_bytes: after_bytes, under_way_bytes: 0, has_waiters: false },
        );
    }

    /// Opens this file's gate.
    pub(crate) fn open(&self, file: &str) {
        self.locked().remove(file);
        self.changed.notify_waiters();
    }

    /// Opens all.
    pub(crate) fn open_all(&self) {
        self.locked().clear();
        self.changed.notify_waiters();
    }

    /// How many of `want` bytes may go out now; waits at a closed gate.
    pub(crate) async fn pass<'a>(&'a self, file: &'a str, want: usize) -> Pass<'a> {
        loop {
            // Registered before looking, so that a change in between is not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(bytes) = self.take(file, want as u64) {
                return Pass { gates: self, file, bytes, sent_bytes: 0 };
            }
            changed.await;
        }
    }

    fn take(&self, file: &str, want: u64) -> Option<u64> {
        let mut gates = self.locked();
        let Some(gate) = gates.get_mut(file) else { return Some(want) };
        let bytes = gate.left_bytes.min(want);
        if bytes == 0 {
            gate.has_waiters = true;
            self.reached.notify_all();
            return None;
        }
        gate.left_bytes -= bytes;
        gate.under_way_bytes += bytes;
        Some(bytes)
    }

    /// Whether a request waits at this file's gate, or does so within `timeout`.
    pub(crate) fn wait_until_reached(&self, file: &str, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut gates = self.locked();
        loop {
            if gates.get(file).is_some_and(Gate::is_reached) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (gates, _) = self.reached.wait_timeout(gates, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts one more file that is being sent, until the count is dropped.
    pub(crate) fn begin(&self) -> Underway<'_> {
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Underway(self)
    }

    /// Whether no file is being sent, or none is within `timeout`.
    pub(crate) fn wait_until_quiet(&self, timeout: Duration) -> bool {
        let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let (sending, _) = self
            .ended
            .wait_timeout_while(sending, timeout, |sending| *sending > 0)
            .unwrap_or_else(PoisonError::into_inner);
        *sending == 0
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Gate>> {
        self.by_file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
