//! What became of an engine's workers, counted for whoever watches over the daemon.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::lock;
use crate::sandbox;

/// What an engine's workers did and do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerStats {
    /// Workers there are now.
    pub running: u64,
    /// Memory of their own, which mapped weights are not part of, as last looked at.
    pub own_bytes: u64,
    /// Workers started.
    pub started: u64,
    /// Workers that died by themselves.
    pub crashed: u64,
    /// Workers that were ended because they gave no sign of life or did not get on.
    pub hung: u64,
    /// Workers that were ended because they took far more memory than their model explains.
    pub overgrown: u64,
    /// What is asked of the sandbox.
    pub sandbox_mode: sandbox::Mode,
    /// What the sandbox of the last worker reached; absent before the first has loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<sandbox::Report>,
}

/// Why a worker is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was told to leave.
    Wish,
    /// It died.
    Crash,
    /// It was ended for not getting on.
    Hang,
    /// It was ended for the memory it took.
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
}

impl Tally {
    pub(super) fn started(&self, pid: u32) {
        self.started.fetch_add(1, Ordering::Relaxed);
        lock(&self.running).insert(pid, 0);
    }

    pub(super) fn takes(&self, pid: u32, own_bytes: u64) {
        lock(&self.running).insert(pid, own_bytes);
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
            sandbox_mode,
            sandbox,
        }
    }
}
