//! Counts what becomes of an engine's workers.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::lock;
use crate::sandbox;
use crate::stats::WorkerStats;

/// Why a worker is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was told to leave.
    Wish,
    /// It died.
    Crash,
    /// It was ended for not getting on.
    Hang,
    /// It was ended for the memory or the threads it took, or for what it said of them.
    Memory,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// What each worker takes.
    running: Mutex<BTreeMap<u32, u64>>,
    started: AtomicU64,
    crashed: AtomicU64,
    hung: AtomicU64,
    overgrown: AtomicU64,
    denied: AtomicU64,
}

impl Tally {
    pub(super) fn started(&self, pid: u32) {
        self.started.fetch_add(1, Ordering::Relaxed);
        lock(&self.running).insert(pid, 0);
    }

    pub(super) fn takes(&self, pid: u32, own_bytes: u64) {
        lock(&self.running).insert(pid, own_bytes);
    }

    /// Its sandbox denied so many kinds of calls.
    pub(super) fn denied(&self, calls: u64) {
        self.denied.fetch_add(calls, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, pid: u32, cause: Cause) {
        lock(&self.running).remove(&pid);
        let count = match cause {
            Cause::Wish => return,
            Cause::Crash => &self.crashed,
            Cause::Hang => &self.hung,
            Cause::Memory => &self.overgrown,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stats(&self, sandbox_mode: sandbox::Mode, sandbox: Option<sandbox::Report>) -> WorkerStats {
        let (running, own_bytes) = {
            let running = lock(&self.running);
            (running.len() as u64, running.values().sum())
        };
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WorkerStats {
            running,
            own_bytes,
            started: count(&self.started),
            crashed: count(&self.crashed),
            hung: count(&self.hung),
            overgrown: count(&self.overgrown),
            denied_calls: count(&self.denied),
            sandbox_mode,
            sandbox,
        }
    }
}
