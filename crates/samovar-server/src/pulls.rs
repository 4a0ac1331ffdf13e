//! The fetches that clients of the owner's API asked for: which can be cancelled, and how the latest ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::{ErrorKind, Failure};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::moment::unix_ms;

/// Fetches at the same time.
const PULLS_MAX: usize = 32;
/// Fetches whose end is remembered.
const ENDED_MAX: usize = 16;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    running: BTreeMap<u64, RunningPull>,
    ended: VecDeque<(String, Value)>,
}

#[derive(Debug)]
struct RunningPull {
    reference: String,
    cancel: Arc<Notify>,
}

/// A fetch that can be cancelled, until dropped.
#[derive(Debug)]
pub(crate) struct Pull {
    pulls: Arc<Pulls>,
    number: u64,
    reference: String,
    cancel: Arc<Notify>,
}

impl Pulls {
    /// Begins a fetch of what is called so.
    ///
    /// # Errors
    /// `Busy` when there are too many.
    pub(crate) fn begin(self: &Arc<Self>, reference: &str) -> Result<Pull, Failure> {
        let mut inner = self.inner();
        if inner.running.len() >= PULLS_MAX {
            let message = format!("{PULLS_MAX} models are being fetched already");
            return Err(Failure::new(ErrorKind::Busy, message)
                .with_hint("wait for one of them, or cancel it by /admin/pull/cancel")
                .with_retry_after_ms(30_000));
        }
        inner.next += 1;
        let (number, cancel) = (inner.next, Arc::new(Notify::new()));
        let running = RunningPull { reference: reference.to_owned(), cancel: Arc::clone(&cancel) };
        inner.running.insert(number, running);
        Ok(Pull { pulls: Arc::clone(self), number, reference: reference.to_owned(), cancel })
    }

    /// Cancels every fetch of what is called so; returns how many there were.
    pub(crate) fn cancel(&self, reference: &str) -> u32 {
        let inner = self.inner();
        let meant = inner.running.values().filter(|running| running.reference == reference);
        meant.fold(0, |count, running| {
            // Kept for one that does not wait yet.
            running.cancel.notify_one();
            count + 1
        })
    }

    /// How the latest ended, by reference.
    pub(crate) fn ended(&self) -> BTreeMap<String, Value> {
        self.inner().ended.iter().cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pull {
    /// Resolves when it is cancelled.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn cancelled(&self) {
        self.cancel.notified().await;
    }

    /// Remembers how it ended.
    pub(crate) fn end(self, failure: Option<&Failure>) {
        let state = if failure.is_some() { "failed" } else { "done" };
        let row = json!({ "state": state, "failure": failure, "ended_unix_ms": unix_ms() });
        let mut inner = self.pulls.inner();
        inner.ended.retain(|(reference, _)| *reference != self.reference);
        inner.ended.push_back((self.reference.clone(), row));
        let old = inner.ended.len().saturating_sub(ENDED_MAX);
        inner.ended.drain(..old);
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.pulls.inner().running.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_fetch_is_cancelled_by_its_reference_also_before_it_waits() {
        let pulls = Arc::new(Pulls::default());
        let (one, other) = (pulls.begin("hf://a/b").expect("room"), pulls.begin("hf://a/c").expect("room"));
        assert_eq!(pulls.cancel("hf://a/b"), 1);
        assert!(one.cancelled().now_or_never().is_some() && other.cancelled().now_or_never().is_none());
        drop(one);
        assert_eq!(pulls.cancel("hf://a/b"), 0);
    }

    #[test]
    fn fetches_and_their_ends_are_bounded() {
        let pulls = Arc::new(Pulls::default());
        let running: Vec<Pull> =
            (0..PULLS_MAX).map(|number| pulls.begin(&format!("m{number}")).expect("room")).collect();
        assert_eq!(pulls.begin("more").expect_err("full").kind, ErrorKind::Busy);
        for pull in running {
            pull.end(None);
        }
        assert_eq!(pulls.ended().len(), ENDED_MAX);
        let failure = Failure::new(ErrorKind::Cancelled, "cancelled");
        pulls.begin("m31").expect("room").end(Some(&failure));
        let ended = pulls.ended();
        assert_eq!((ended.len(), &ended["m31"]["state"]), (ENDED_MAX, &json!("failed")));
    }
}
