//! The daemon's side: an engine whose instances live in child processes.
//!
//! ```text
//!   WorkerEngine: load, pack, calibrate
//!        │ errand ─► Spawner (one thread for all: a worker dies with the thread that started it)
//!        │                └─► child process ◄── socket ──► Keeper (one thread for each worker)
//!        ▼                                                        hears, watches, buries
//!   WorkerInstance ── generate, park, … ─► Line ─► socket             │
//!        │ who computes ─► Sharing ─► each one's share of the cores    │
//!        ▲                                                            ▼
//!        └────────────── events and answers ◄── Roll: who waits for what
//! ```
//!
//! Nothing here blocks a caller for longer than the worker's answer takes, and every caller gets exactly one end,
//! whatever becomes of the worker.

mod adapters;
mod appetite;
mod books;
mod death;
mod errand;
mod flood;
mod instance;
mod keeper;
mod line;
mod published;
#[cfg(feature = "testing")]
mod rehearsal;
mod roll;
mod scales;
mod sharing;
mod signs;
mod spawner;
mod stderr;
mod tally;
mod worker;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::footprint::KvType;
use samovar_core::port::{Capabilities, Engine, Instance, LoadControl, ModelFiles};
use samovar_core::{Descriptor, ErrorKind, Failure, Footprint, Layout, LoadOptions, Speed};

use self::adapters::Adapters;
use self::errand::Model;
use self::instance::{WorkerInstance, strange};
use self::sharing::Sharing;
use self::spawner::Spawner;
use self::worker::{Ground, Worker};
use crate::config::WorkerConfig;
use crate::protocol::{Achieved, Task};
use crate::sandbox;
use crate::stats::WorkerStats;

#[cfg(feature = "testing")]
pub use self::rehearsal::hear_frames;

/// No less than an engine loads a model with to see whether its packed weights are right.
const PROVING: LoadOptions = LoadOptions {
    context_tokens: 512,
    slots: 4,
    layout: Layout::Mapped,
    kv_type: KvType::F16,
    threads: 1,
    lock_memory: false,
};

/// Runs another engine, each instance in a child process of its own.
pub struct WorkerEngine {
    inner: Arc<dyn Engine>,
    ground: Ground,
    adapters: Arc<Adapters>,
    sandbox: Mutex<Option<sandbox::Report>>,
}

impl WorkerEngine {
    /// An engine that runs `inner` in the workers that `config` starts. Of `inner` itself only its name, its
    /// capabilities, its arithmetic and the key of its packed weights are used here.
    ///
    /// # Errors
    /// `EngineFailed` when the threads that start workers and watch the cores cannot be had.
    pub fn new(inner: Arc<dyn Engine>, config: WorkerConfig) -> Result<Self, Failure> {
        let spawner = Arc::new(Spawner::start()?);
        let sharing = Sharing::start()?;
        Ok(Self {
            inner,
            ground: Ground { config: Arc::new(config), spawner, tally: Arc::default(), sharing },
            adapters: Arc::default(),
            sandbox: Mutex::default(),
        })
    }

    /// What became of its workers until now.
    pub fn stats(&self) -> WorkerStats {
        self.ground.tally.stats(self.ground.config.sandbox, lock(&self.sandbox).clone())
    }

    /// Remembers what the sandbox reached, and tells it the first time.
    fn note_sandbox(&self, report: &sandbox::Report) {
        let known = lock(&self.sandbox).replace(report.clone());
        if known.is_some_and(|known| known == *report) {
            return;
        }
        match (report.level(), self.ground.config.sandbox) {
            (sandbox::Level::Full, _) => tracing::info!(sandbox = %report, "workers are in their sandbox"),
            (_, sandbox::Mode::Off) => tracing::warn!("workers have no sandbox: it is switched off"),
            _ => tracing::warn!(sandbox = %report, "workers are not fully in their sandbox"),
        }
    }

    /// Sends a worker out, and returns it with what it achieved.
    fn achieve(
        &self,
        task: Task,
        model: Model<'_>,
        control: &LoadControl,
        expected_bytes: u64,
    ) -> Result<(Worker, Achieved), Failure> {
        let (worker, achieved, report) = errand::run(&self.ground, task, model, control, expected_bytes)?;
        self.note_sandbox(&report);
        Ok((worker, achieved))
    }

    /// Bytes that a worker may be expected to hold with a model and such options; 0 where the engine does not know.
    fn held_bytes(&self, descriptor: &Descriptor, options: &LoadOptions) -> u64 {
        self.inner.footprint(descriptor, options).map_or(0, |footprint| footprint.held_bytes)
    }

    /// The same of one that packs: weights are mapped, but for the tensor that is being packed; and the model is asked
    /// a few tokens.
    fn held_bytes_packing(&self, descriptor: &Descriptor) -> u64 {
        let rows = u64::from(descriptor.vocabulary.max(descriptor.feed_forward_width));
        // No format has more bytes a number.
        let tensor = rows * u64::from(descriptor.embedding_width) * 4;
        match self.held_bytes(descriptor, &PROVING) {
            0 => 0,
            held => held.saturating_add(tensor.min(descriptor.tensor_bytes)),
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

    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        self.inner.packing(descriptor)
    }

    fn pack(
        &self,
        path: &Path,
        descriptor: &Descriptor,
        source: &str,
        into: &File,
        control: &LoadControl,
    ) -> Result<u64, Failure> {
        let is_in_background = control.is_in_background();
        let task = Task::Pack { source: source.to_owned(), is_in_background };
        let model = Model { files: ModelFiles::of(path), descriptor, into: Some(into) };
        let (_worker, achieved) = self.achieve(task, model, control, self.held_bytes_packing(descriptor))?;
        match achieved {
            Achieved::Packed(bytes) if into.metadata().is_ok_and(|facts| facts.len() == bytes) => Ok(bytes),
            Achieved::Packed(bytes) => Err(Failure::new(
                ErrorKind::EngineFailed,
                format!(
                    "the worker says that it wrote {bytes} bytes of packed weights, and the file has others"
                ),
            )
            .with_hint("the disk may be full; the model is loaded without them")),
            _ => Err(strange()),
        }
    }

    fn calibrate(
        &self,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Vec<Speed>, Failure> {
        let task = Task::Calibrate { options: options.clone() };
        let model = Model { files, descriptor, into: None };
        // Both files are mapped, whatever the model is loaded like.
        let expected =
            self.held_bytes(descriptor, &LoadOptions { layout: Layout::Mapped, ..options.clone() });
        match self.achieve(task, model, control, expected)? {
            (_, Achieved::Calibrated(speeds)) => Ok(speeds),
            _ => Err(strange()),
        }
    }

    fn load(
        &self,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Arc<dyn Instance>, Failure> {
        let task = Task::Load { options: options.clone() };
        let model = Model { files, descriptor, into: None };
        let expected = self.held_bytes(descriptor, options);
        let (worker, Achieved::Loaded(arrangement)) = self.achieve(task, model, control, expected)? else {
            return Err(strange());
        };
        worker.serve()?;
        let (inner, model) = (Arc::clone(&self.inner), descriptor.clone());
        // What the engine cannot predict, nobody watches.
        let predict = move |options: &LoadOptions| {
            inner.footprint(&model, options).map_or(0, |footprint| footprint.held_bytes)
        };
        let adapters = Arc::clone(&self.adapters);
        let sharing = Arc::clone(&self.ground.sharing);
        sharing.join(worker.shared(), options.threads);
        Ok(Arc::new(WorkerInstance::new(worker, options, arrangement, adapters, sharing, predict)))
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

#[cfg(test)]
mod tests {
    use samovar_core::testing::FakeEngine;

    use super::*;

    #[test]
    fn who_packs_is_expected_to_hold_one_tensor_and_not_the_model() {
        let config = WorkerConfig::new("/none", [""; 0]);
        let engine = WorkerEngine::new(Arc::new(FakeEngine::new()), config).unwrap();
        let bytes = 40 << 30;
        let model = FakeEngine::descriptor("large", bytes);
        let held = engine.held_bytes(&model, &PROVING);
        let packing = engine.held_bytes_packing(&model);
        assert!(held > 0 && packing > held && packing < bytes / 100, "{held} {packing}");
    }
}
