//! The daemon's side: an engine whose instances live in child processes.
//!
//! ```text
//!   WorkerEngine::load ─► Spawner (one thread for all: a worker dies with the thread that started it)
//!        │                    └─► child process ◄── socket ──► Keeper (one thread for each worker)
//!        ▼                                                        hears, watches, buries
//!   WorkerInstance ── generate, park, … ─► Line ─► socket             │
//!        ▲                                                            ▼
//!        └────────────── events and answers ◄── Roll: who waits for what
//! ```
//!
//! Nothing here blocks a caller for longer than the worker's answer takes, and every caller gets exactly one end,
//! whatever becomes of the worker.

mod adapters;
mod appetite;
mod death;
mod instance;
mod keeper;
mod line;
mod published;
mod roll;
mod signs;
mod spawner;
mod stderr;
mod tally;
mod worker;

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use samovar_core::port::{Capabilities, Engine, Instance, LoadControl, ModelFiles};
use samovar_core::{Descriptor, ErrorKind, Failure, Footprint, LoadOptions};

use self::adapters::Adapters;
use self::instance::WorkerInstance;
use self::keeper::Word;
use self::spawner::Spawner;
use self::tally::Tally;
use self::worker::Worker;
use crate::config::WorkerConfig;
use crate::protocol::{Command, Load};
use crate::sandbox;
use crate::stats::WorkerStats;

/// How often a load looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// Runs another engine, each instance in a child process of its own.
pub struct WorkerEngine {
    inner: Arc<dyn Engine>,
    config: Arc<WorkerConfig>,
    spawner: Arc<Spawner>,
    adapters: Arc<Adapters>,
    tally: Arc<Tally>,
    sandbox: Mutex<Option<sandbox::Report>>,
}

impl WorkerEngine {
    /// An engine that runs `inner` in the workers that `config` starts. Of `inner` itself only its name, its
    /// capabilities and its arithmetic are used here.
    ///
    /// # Errors
    /// `EngineFailed` when the thread that starts workers cannot be had.
    pub fn new(inner: Arc<dyn Engine>, config: WorkerConfig) -> Result<Self, Failure> {
        Ok(Self {
            inner,
            config: Arc::new(config),
            spawner: Arc::new(Spawner::start()?),
            adapters: Arc::default(),
            tally: Arc::default(),
            sandbox: Mutex::default(),
        })
    }

    /// What became of its workers until now.
    pub fn stats(&self) -> WorkerStats {
        self.tally.stats(self.config.sandbox, lock(&self.sandbox).clone())
    }

    /// Remembers what the sandbox reached, and tells it the first time.
    fn note_sandbox(&self, report: &sandbox::Report) {
        let known = lock(&self.sandbox).replace(report.clone());
        if known.is_some_and(|known| known == *report) {
            return;
        }
        match (report.level(), self.config.sandbox) {
            (sandbox::Level::Full, _) => tracing::info!(sandbox = %report, "workers are in their sandbox"),
            (_, sandbox::Mode::Off) => tracing::warn!("workers have no sandbox: it is switched off"),
            _ => tracing::warn!(sandbox = %report, "workers are not fully in their sandbox"),
        }
    }

    /// Waits for the worker's word, passes its progress on, and gives up when the load is cancelled.
    fn await_load(
        &self,
        worker: &Worker,
        words: &Receiver<Word>,
        control: &LoadControl,
    ) -> Result<(), Failure> {
        let mut told = None;
        loop {
            let word = words.recv_timeout(LOOK);
            let fraction = worker.shared().progress.get();
            if told.replace(fraction) != Some(fraction) {
                control.report(fraction);
            }
            match word {
                Ok(Word::Ready(report)) => {
                    tracing::debug!(pid = worker.pid(), "a worker is ready");
                    self.note_sandbox(&report);
                    return worker.serve();
                }
                Ok(Word::Failed(failure)) => return Err(failure),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(worker.ended()),
            }
            if control.is_cancelled() {
                worker.kill();
                return Err(Failure::new(ErrorKind::Cancelled, "the load was cancelled"));
            }
        }
    }
}

impl Engine for WorkerEngine {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        self.inner.footprint(descriptor, options)
    }

    fn load(
        &self,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Arc<dyn Instance>, Failure> {
        use std::os::unix::ffi::OsStrExt;
        if control.is_cancelled() {
            return Err(Failure::new(ErrorKind::Cancelled, "the load was cancelled"));
        }
        // The worker's working directory is not ours.
        let path = std::path::absolute(files.path).map_err(|error| {
            Failure::new(ErrorKind::Storage, format!("{}: {error}", files.path.display()))
        })?;
        let (word, words) = sync_channel(1);
        let worker = Worker::start(&self.spawner, &self.config, &self.tally, control.obituary(), word)?;
        let load = Load {
            path: path.as_os_str().as_bytes().to_vec(),
            descriptor: descriptor.clone(),
            options: options.clone(),
            sandbox: self.config.sandbox,
            memory_limit_bytes: self.config.memory_limit_bytes,
            beat_ms: self.config.patience.beat.as_millis() as u64,
        };
        let inner = Arc::clone(&self.inner);
        let model = descriptor.clone();
        // What the engine cannot predict, nobody watches.
        let predict = move |options: &LoadOptions| {
            inner.footprint(&model, options).map_or(0, |footprint| footprint.held_bytes)
        };
        worker.shared().expected.set(predict(options));
        worker.tell(&Command::Load(Box::new(load)), Vec::new())?;
        self.await_load(&worker, &words, control)?;
        Ok(Arc::new(WorkerInstance::new(worker, options, Arc::clone(&self.adapters), predict)))
    }
}

impl std::fmt::Debug for WorkerEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerEngine").field("inner", &self.inner.name()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
