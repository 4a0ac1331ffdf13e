//! The daemon's side: an engine whose instances live in child processes.
//!
//! ```text
//!   WorkerEngine: load, prepare, pack, calibrate
//!        │ worker_job ─► Spawner (one thread for all: a worker dies with the thread that started it)
//!        │                └─► child process ◄── socket ──► Supervisor (one thread for each worker)
//!        ▼                                                        hears, watches, buries
//!   WorkerInstance ── generate, park, … ─► Outbox ─► socket           │
//!        │ who computes ─► Sharing ─► each one's share of the cores    │
//!        ▲                                                            ▼
//!        └────────────── events and answers ◄── PendingCalls: who waits for what
//! ```
//!
//! Nothing here blocks a caller for longer than the worker's answer takes, and every caller gets exactly one end,
//! whatever becomes of the worker.

mod adapters;
mod answer_reader;
mod death;
mod flood;
#[cfg(feature = "testing")]
mod fuzz_entry;
mod instance;
mod memory_watch;
mod outbox;
mod pending_calls;
mod poll_result;
mod preparation;
mod proc_files;
mod published;
mod scales;
mod sharing;
mod spawner;
mod stderr;
mod supervisor;
mod tally;
mod worker;
mod worker_job;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::port::{
    ADAPTER_HELD_BYTES, Capabilities, Engine, EngineId, EngineInfo, Instance, LoadControl, LoadRequest,
    PackRequest, PreparePlan, PrepareRequest, Preparer, PublishedFacts,
};
use samovar_core::{
    Cost, Descriptor, ErrorKind, Failure, Footprint, Layout, LoadOptions, Quantization, Speed,
};

use self::adapters::Adapters;
use self::instance::{WorkerInstance, strange};
use self::sharing::Sharing;
use self::spawner::Spawner;
use self::worker::{Worker, WorkerContext};
use self::worker_job::Model;
use crate::config::WorkerConfig;
use crate::protocol::{JobOutput, Task};
use crate::sandbox;
use crate::stats::WorkerStats;

#[cfg(feature = "testing")]
pub use self::fuzz_entry::hear_frames;

/// Runs another engine, each instance in a child process of its own.
pub struct WorkerEngine {
    inner: Arc<dyn Engine>,
    worker_context: WorkerContext,
    adapters: Arc<Adapters>,
    sandbox: Mutex<Option<sandbox::Report>>,
}

impl WorkerEngine {
    /// An engine that runs `inner` in the workers that `config` starts. Of `inner` itself only what it says of itself, its
    /// capabilities, its arithmetic and the key of its packed weights are used here; where it is several engines, each
    /// worker is told which one to be.
    ///
    /// # Errors
    /// `EngineFailed` when the threads that start workers and watch the cores cannot be had.
    pub fn new(inner: Arc<dyn Engine>, config: WorkerConfig) -> Result<Self, Failure> {
        let spawner = Arc::new(Spawner::start()?);
        let sharing = Sharing::start()?;
        Ok(Self {
            inner,
            worker_context: WorkerContext {
                config: Arc::new(config),
                spawner,
                tally: Arc::default(),
                sharing,
            },
            adapters: Arc::default(),
            sandbox: Mutex::default(),
        })
    }

    /// What became of its workers until now.
    pub fn stats(&self) -> WorkerStats {
        self.worker_context.tally.stats(self.worker_context.config.sandbox, lock(&self.sandbox).clone())
    }

    /// Remembers what the sandbox reached, and tells it the first time.
    fn note_sandbox(&self, report: &sandbox::Report) {
        let known = lock(&self.sandbox).replace(report.clone());
        if known.is_some_and(|known| known == *report) {
            return;
        }
        match (report.level(), self.worker_context.config.sandbox) {
            (sandbox::Level::Full, _) => tracing::info!(sandbox = %report, "workers are in their sandbox"),
            (_, sandbox::Mode::Off) => tracing::warn!("workers have no sandbox: it is switched off"),
            _ => tracing::warn!(sandbox = %report, "workers are not fully in their sandbox"),
        }
    }

    /// Sends a worker out, and returns it with what it achieved.
    fn achieve(
        &self,
        task: Task,
        engine: EngineId,
        model: Model<'_>,
        control: &LoadControl,
        expected_bytes: u64,
    ) -> Result<(Worker, JobOutput), Failure> {
        let (worker, job_output, report) =
            worker_job::run(&self.worker_context, task, engine, model, control, expected_bytes)?;
        self.note_sandbox(&report);
        Ok((worker, job_output))
    }

    /// Bytes that a worker may be expected to hold with a model and such options; 0 where the engine does not know.
    fn held_bytes(&self, descriptor: &Descriptor, options: &LoadOptions) -> u64 {
        self.inner.footprint(descriptor, options).map_or(0, |footprint| footprint.held_bytes)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Engine for WorkerEngine {
    fn engines(&self) -> Vec<EngineInfo> {
        self.inner.engines()
    }

    fn engine_for(&self, descriptor: &Descriptor) -> Result<EngineInfo, Failure> {
        self.inner.engine_for(descriptor)
    }

    fn capabilities(&self, descriptor: &Descriptor) -> Capabilities {
        self.inner.capabilities(descriptor)
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        self.inner.footprint(descriptor, options)
    }

    fn cost(&self, descriptor: &Descriptor, options: &LoadOptions, memory: Footprint) -> Cost {
        self.inner.cost(descriptor, options, memory)
    }

    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        self.inner.packing(descriptor)
    }

    fn packing_footprint(&self, descriptor: &Descriptor) -> Result<Footprint, Failure> {
        self.inner.packing_footprint(descriptor)
    }

    fn pack(&self, request: PackRequest<'_>) -> Result<u64, Failure> {
        let PackRequest { files, descriptor, source, into, control } = request;
        let is_in_background = control.is_in_background();
        let task = Task::Pack { source: source.to_owned(), is_in_background };
        let engine = self.inner.engine_for(descriptor)?.id;
        let model = Model { files, packed: None, descriptor: Some(descriptor), into: Some(into) };
        let expected = self.inner.packing_footprint(descriptor).map_or(0, |footprint| footprint.held_bytes);
        let (_worker, job_output) = self.achieve(task, engine, model, control, expected)?;
        match job_output {
            JobOutput::Packed(bytes) if into.metadata().is_ok_and(|facts| facts.len() == bytes) => Ok(bytes),
            JobOutput::Packed(bytes) => Err(Failure::new(
                ErrorKind::EngineFailed,
                format!(
                    "the worker says that it wrote {bytes} bytes of packed weights, and the file has others"
                ),
            )
            .with_hint("the disk may be full; the model is loaded without them")),
            _ => Err(strange()),
        }
    }

    fn calibrate(&self, request: LoadRequest<'_>) -> Result<Vec<Speed>, Failure> {
        let LoadRequest { files, packed, descriptor, options, control } = request;
        let task = Task::Calibrate { options: options.clone() };
        let engine = self.inner.engine_for(descriptor)?.id;
        let model = Model { files, packed, descriptor: Some(descriptor), into: None };
        // Both files are mapped, whatever the model is loaded like.
        let expected =
            self.held_bytes(descriptor, &LoadOptions { layout: Layout::Mapped, ..options.clone() });
        match self.achieve(task, engine, model, control, expected)? {
            (_, JobOutput::Calibrated(speeds)) => Ok(speeds),
            _ => Err(strange()),
        }
    }

    fn preparer(&self) -> Option<Preparer> {
        self.inner.preparer()
    }

    fn describe(&self, folder: &Path) -> Result<PublishedFacts, Failure> {
        self.inner.describe(folder)
    }

    fn plan_preparation(&self, folder: &Path, quantization: Quantization) -> Result<PreparePlan, Failure> {
        self.inner.plan_preparation(folder, quantization)
    }

    fn prepare(&self, request: PrepareRequest<'_>) -> Result<u64, Failure> {
        let PrepareRequest { folder, quantization, target, base, control } = request;
        let held_bytes = match base {
            Some(_) => ADAPTER_HELD_BYTES,
            // What cannot be prepared costs no process.
            None => self.inner.plan_preparation(folder, quantization)?.held_bytes,
        };
        let preparer = self.inner.preparer().ok_or_else(strange)?;
        let files = preparation::files_in(folder)?;
        let task = Task::Prepare(preparation::of(request)?);
        let model = Model { files: &files, packed: None, descriptor: base, into: None };
        let (_worker, job_output) = self.achieve(task, preparer.engine, model, control, held_bytes)?;
        match job_output {
            JobOutput::Prepared(bytes) if fs_err::metadata(target).is_ok_and(|facts| facts.len() == bytes) => {
                Ok(bytes)
            }
            JobOutput::Prepared(bytes) => Err(Failure::new(
                ErrorKind::EngineFailed,
                format!("the worker says that it wrote {bytes} bytes of the prepared model, and the file has others"),
            )
            .with_hint("the disk may be full; try again")),
            _ => Err(strange()),
        }
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        let LoadRequest { files, packed, descriptor, options, control } = request;
        let task = Task::Load { options: options.clone() };
        let engine = self.inner.engine_for(descriptor)?.id;
        let model = Model { files, packed, descriptor: Some(descriptor), into: None };
        let expected = self.held_bytes(descriptor, options);
        let achieved = self.achieve(task, engine, model, control, expected)?;
        let (worker, JobOutput::Loaded(arrangement)) = achieved else {
            return Err(strange());
        };
        worker.serve()?;
        let (inner, model) = (Arc::clone(&self.inner), descriptor.clone());
        // What the engine cannot predict, is not watched.
        let predict = move |options: &LoadOptions| {
            inner.footprint(&model, options).map_or(0, |footprint| footprint.held_bytes)
        };
        let adapters = Arc::clone(&self.adapters);
        let sharing = Arc::clone(&self.worker_context.sharing);
        sharing.join(worker.shared(), options.threads);
        Ok(Arc::new(WorkerInstance::new(worker, options, arrangement, adapters, sharing, predict)))
    }
}

impl std::fmt::Debug for WorkerEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerEngine").field("engines", &self.inner.engines()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
