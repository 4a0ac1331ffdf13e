//! How workers are started, and how long they may take.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::sandbox;

/// How workers are started.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The program that becomes a worker; it must call [`child::run`](crate::child::run).
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment. Of ours nothing is handed down but `LANG` and `LD_LIBRARY_PATH`.
    pub environment: Vec<(OsString, OsString)>,
    /// What it may do once it touches a model.
    pub sandbox: sandbox::Mode,
    /// Most memory of its own that a worker may take; past it, its allocations fail. `None` = what the system gives.
    pub memory_limit_bytes: Option<u64>,
    /// How long it may take for what.
    pub timeouts: Timeouts,
}

impl WorkerConfig {
    /// Workers that are `program` with these arguments, no variables of their own and the usual limits.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            sandbox: sandbox::Mode::Auto,
            memory_limit_bytes: None,
            timeouts: Timeouts::default(),
        }
    }
}

/// How long a worker may take until it counts as hung. Time in which this process itself was stopped does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Between two signs of life from the worker.
    pub heartbeat: Duration,
    /// From its start to its first word.
    pub start: Duration,
    /// Without a sign of life.
    pub silence: Duration,
    /// With work to do, without a step done and without computing: it waits for what never comes.
    pub standstill: Duration,
    /// With work to do and computing, without a step done. One step of a large model on a slow machine takes minutes.
    pub step: Duration,
    /// From being told to leave to SIGTERM.
    pub leave: Duration,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
}

impl Timeouts {
    /// Between two signs of life from a worker that has nothing to do: each costs a wake-up here and there.
    pub(crate) fn rest_heartbeat(&self) -> Duration {
        self.heartbeat.saturating_mul(10).min(self.silence.saturating_mul(2) / 3).max(self.heartbeat)
    }

    /// Without a sign of life from a worker that has nothing to do.
    pub(crate) fn rest_silence(&self) -> Duration {
        self.silence.saturating_mul(2)
    }

    /// With work that yields to everything else: on a busy machine it may get next to nothing.
    pub(crate) fn in_background(self) -> Self {
        Self {
            start: self.start * 4,
            silence: self.silence * 4,
            standstill: self.step,
            step: self.step * 4,
            ..self
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            start: Duration::from_secs(60),
            silence: Duration::from_secs(15),
            standstill: Duration::from_secs(60),
            step: Duration::from_secs(900),
            leave: Duration::from_secs(5),
            grace: Duration::from_secs(2),
        }
    }
}
