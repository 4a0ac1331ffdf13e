//! A gate at which a fake waits until a test opens it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a waiting thread looks whether it should give up.
const LOOK: Duration = Duration::from_millis(2);

/// A gate: open, closed, or open for a counted number of passages.
#[derive(Debug)]
pub struct Gate {
    /// Passages that are still allowed; `None` = open for all.
    allowed: Mutex<Option<u64>>,
    changed: Condvar,
}

impl Gate {
    /// A gate that stands open.
    pub fn opened() -> Self {
        Self { allowed: Mutex::new(None), changed: Condvar::new() }
    }

    /// A gate that lets no caller through.
    pub fn closed() -> Self {
        Self { allowed: Mutex::new(Some(0)), changed: Condvar::new() }
    }

    /// Lets all callers through, from now on.
    pub fn open(&self) {
        *self.lock() = None;
        self.changed.notify_all();
    }

    /// Lets no caller through, from now on.
    pub fn close(&self) {
        *self.lock() = Some(0);
    }

    /// Lets `count` more through, now or when they come. Does nothing to an open gate.
    pub fn admit(&self, count: u64) {
        if let Some(allowed) = self.lock().as_mut() {
            *allowed += count;
        }
        self.changed.notify_all();
    }

    /// Blocks until let through (`true`) or until `gives_up` says so (`false`).
    pub fn pass(&self, gives_up: impl Fn() -> bool) -> bool {
        let mut allowed = self.lock();
        loop {
            if gives_up() {
                return false;
            }
            match allowed.as_mut() {
                None => return true,
                Some(0) => {
                    allowed = self
                        .changed
                        .wait_timeout(allowed, LOOK)
                        .map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard);
                }
                Some(count) => {
                    *count -= 1;
                    return true;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<u64>> {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_lets_through_as_many_as_were_admitted() {
        let gate = Gate::closed();
        gate.admit(2);
        assert!(gate.pass(|| false));
        assert!(gate.pass(|| false));
        assert!(!gate.pass(|| true));
    }

    #[test]
    fn opening_wakes_whoever_waits() {
        let gate = Gate::closed();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.pass(|| false));
            gate.open();
            assert!(waiting.join().unwrap());
        });
    }
}
