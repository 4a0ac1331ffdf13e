//! Makes packed files and measures layouts, while nobody is being served.
//!
//! ```text
//!   request served ─► consider ─► queue ─► quiet for a while ─► memory free ─► pack ─► commit ─► calibrate
//!                                             ▲                                  └──── a request ────┘
//!                                             └──── twice as long, up to minutes ◄─── stopped at once
//! ```
//!
//! One thing is made at a time in a process, and one of a kind in all processes that share a store. Whatever goes
//! wrong is kept as the reason, and tried again by a later request, not for ever.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use samovar_core::footprint::{Layout, LayoutWish};
use samovar_core::port::{Engine, LoadControl, ModelFiles, PackedFile};
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure, ModelKey};
use samovar_pool::{Pool, SetAside};
use samovar_store::{Make, Opened, Store};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use super::known::{Made, Packings, Subject};
use super::quiet::Traffic;
use crate::shelf::Shelf;

/// Models that wait for their turn at the same time; who finds no place comes with the next request.
const QUEUE: usize = 64;
/// However often it is interrupted, it waits no longer than this for its next attempt.
const QUIET_MAX: Duration = Duration::from_secs(5 * 60);
/// How often is looked whether memory is wanted back.
const LOOK: Duration = Duration::from_millis(20);
/// How often is looked whether another process has finished.
const BY_ANOTHER: Duration = Duration::from_millis(500);

/// What it takes to make packed files.
pub(crate) struct Workshop {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) packings: Arc<Packings>,
    pub(crate) pool: Pool,
    pub(crate) traffic: Traffic,
    /// How long nobody must have been served before something is made.
    pub(crate) quiet: Duration,
}

/// Works off what is to be made.
pub(crate) struct Maker {
    workshop: Arc<Workshop>,
    jobs: mpsc::Sender<Arc<Subject>>,
    /// Sources in the queue, or at work.
    pending: Arc<Mutex<HashSet<String>>>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What came of an attempt.
enum Outcome {
    Done,
    /// Somebody else is at it.
    ByAnother,
    Interrupted,
    Stopped,
    Failed(Failure),
}

/// One thing to do for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Pack,
    Calibrate,
}

impl Maker {
    /// Must be called inside a tokio runtime.
    pub(crate) fn start(workshop: Workshop) -> Self {
        let workshop = Arc::new(workshop);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let stop = watch::Sender::new(false);
        let pending = Arc::default();
        let task =
            tokio::spawn(work_off(Arc::clone(&workshop), queue, Arc::clone(&pending), stop.subscribe()));
        Self { workshop, jobs, pending, stop, task: Mutex::new(Some(task)) }
    }

    /// Has made, some time, what this model lacks.
    pub(crate) fn consider(&self, key: &ModelKey) {
        let packings = &self.workshop.packings;
        let Some(subject) = packings.subject(key) else { return };
        if !packings.choose(&subject).lacks_something() || !packings.may_try(&subject) {
            return;
        }
        let source = subject.source.text.clone();
        let mut pending = lock(&self.pending);
        if !pending.contains(&source) && self.jobs.try_send(subject).is_ok() {
            pending.insert(source);
        }
    }

    /// Stops what is being made, and returns when it has stopped. Nothing is made any more.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        let task = lock(&self.task).take();
        if let Some(task) = task {
            // A panic has been logged, and nobody waits for what it was to make.
            let _ = task.await;
        }
    }

    /// What makes things, for who wants one made now.
    pub(crate) const fn workshop(&self) -> &Arc<Workshop> {
        &self.workshop
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn work_off(
    workshop: Arc<Workshop>,
    mut queue: mpsc::Receiver<Arc<Subject>>,
    pending: Arc<Mutex<HashSet<String>>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let subject = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            subject = queue.recv() => match subject {
                Some(subject) => subject,
                None => return,
            },
        };
        workshop.attend(&subject, &mut stop).await;
        lock(&pending).remove(&subject.source.text);
    }
}

impl Workshop {
    /// Makes what a model lacks, whenever it is quiet, until it lacks nothing or something goes wrong.
    async fn attend(self: &Arc<Self>, subject: &Arc<Subject>, stop: &mut watch::Receiver<bool>) {
        let mut quiet = self.quiet;
        while let Some(step) = self.next_step(subject) {
            tokio::select! {
                biased;
                () = stopped(stop) => return,
                () = self.traffic.quiet_for(quiet) => {}
            }
            match self.attempt(step, subject, stop).await {
                Outcome::Done => {}
                Outcome::Interrupted => {
                    self.packings.interrupted();
                    quiet = (quiet * 2).min(QUIET_MAX);
                }
                Outcome::ByAnother => tokio::time::sleep(BY_ANOTHER).await,
                Outcome::Stopped => return,
                Outcome::Failed(failure) => {
                    tracing::info!(model = ?subject.descriptor.name, "packed weights: {failure}");
                    self.packings.failed(subject, &failure);
                    return;
                }
            }
        }
    }

    fn next_step(&self, subject: &Subject) -> Option<Step> {
        let choice = self.packings.choose(subject);
        match (choice.lacks_file, choice.lacks_speeds) {
            _ if !self.packings.may_try(subject) => None,
            (true, _) => Some(Step::Pack),
            (false, true) => Some(Step::Calibrate),
            (false, false) => None,
        }
    }

    /// One attempt, which ends early when a request comes.
    async fn attempt(
        self: &Arc<Self>,
        step: Step,
        subject: &Arc<Subject>,
        stop: &mut watch::Receiver<bool>,
    ) -> Outcome {
        let memory = match self.memory_for(subject).await {
            Ok(memory) => memory,
            Err(failure) => return Outcome::Failed(failure),
        };
        let control = self.control(subject, |_| ());
        let cancel = control.cancel_flag();
        let (workshop, model) = (Arc::clone(self), Arc::clone(subject));
        let mut work = spawn_blocking(move || workshop.take(step, &model, &control));
        let mut is_stopped = false;
        let done = tokio::select! {
            done = &mut work => done,
            () = self.traffic.busy() => {
                cancel.store(true, Ordering::Relaxed);
                work.await
            }
            () = wanted_back(&memory) => {
                cancel.store(true, Ordering::Relaxed);
                work.await
            }
            () = stopped(stop) => {
                is_stopped = true;
                cancel.store(true, Ordering::Relaxed);
                work.await
            }
        };
        self.packings.progress(subject, None);
        match done.unwrap_or_else(|_| Err(Failure::new(ErrorKind::Internal, "the engine panicked"))) {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::ByAnother,
            Err(_) if is_stopped => Outcome::Stopped,
            Err(failure) if failure.kind == ErrorKind::Cancelled => Outcome::Interrupted,
            Err(failure) => Outcome::Failed(failure),
        }
    }

    /// Makes a model's packed file, where there is none, and measures its layouts now, also those that were measured
    /// before: the machine may have been busy then. Whoever is being served is not asked.
    ///
    /// # Errors
    /// Why it cannot be packed here; whatever the engine or the store say.
    ///
    /// # Cancel safety
    /// Dropping the future stops what is being made.
    pub(crate) async fn make_now(
        self: &Arc<Self>,
        subject: &Arc<Subject>,
        progress: Option<mpsc::Sender<f32>>,
    ) -> Result<(), Failure> {
        self.packings.key(subject).map_err(|why| Failure::new(ErrorKind::Unsupported, why))?;
        self.packings.pardon(subject);
        for step in [Step::Pack, Step::Calibrate] {
            let memory = self.memory_for(subject).await?;
            loop {
                let progress = progress.clone();
                let control = self.control(subject, move |fraction| {
                    if let Some(progress) = &progress {
                        // What nobody has room for is lost: the next one says more.
                        let _ = progress.try_send(fraction);
                    }
                });
                let stops = StopsWhenDropped(control.cancel_flag());
                let (workshop, model) = (Arc::clone(self), Arc::clone(subject));
                let mut work = spawn_blocking(move || workshop.take(step, &model, &control));
                let done = tokio::select! {
                    done = &mut work => done,
                    () = wanted_back(&memory) => {
                        drop(stops);
                        work.await
                    }
                };
                self.packings.progress(subject, None);
                let panicked = || Failure::new(ErrorKind::Internal, "the engine panicked");
                match done.unwrap_or_else(|_| Err(panicked())) {
                    Ok(true) => break,
                    Ok(false) => tokio::time::sleep(BY_ANOTHER).await,
                    Err(failure) if failure.kind == ErrorKind::Cancelled => {
                        let message = "a request needed the memory before it was done";
                        return Err(Failure::new(ErrorKind::Busy, message).with_hint("try again"));
                    }
                    Err(failure) => {
                        self.packings.failed(subject, &failure);
                        return Err(failure);
                    }
                }
            }
        }
        Ok(())
    }

    fn control(
        self: &Arc<Self>,
        subject: &Arc<Subject>,
        told: impl Fn(f32) + Send + Sync + 'static,
    ) -> LoadControl {
        let (packings, subject) = (Arc::clone(&self.packings), Arc::clone(subject));
        LoadControl::new(move |fraction| {
            packings.progress(&subject, Some(fraction));
            told(fraction);
        })
    }

    /// Memory for the most that a step takes: a load with both files mapped.
    async fn memory_for(&self, subject: &Subject) -> Result<SetAside, Failure> {
        let needed = subject.hybrid_bytes;
        self.pool.set_aside(needed).await.ok_or_else(|| {
            let message = format!("{} of memory are not free for it", ByteSize::from_bytes(needed));
            Failure::new(ErrorKind::Busy, message)
                .with_hint("unload other models, or raise pool.budget_bytes")
        })
    }

    /// Does one thing; false when somebody else is doing it. Blocks.
    fn take(&self, step: Step, subject: &Subject, control: &LoadControl) -> Result<bool, Failure> {
        let store = self.shelf.store()?;
        let (path, _leased) = weights(&store, subject)?;
        match step {
            Step::Pack => self.pack(&store, &path, subject, control),
            Step::Calibrate => self.calibrate(&store, &path, subject, control).map(|()| true),
        }
    }

    fn pack(
        &self,
        store: &Store,
        path: &Path,
        subject: &Subject,
        control: &LoadControl,
    ) -> Result<bool, Failure> {
        let key = self.packings.key(subject).map_err(|why| Failure::new(ErrorKind::Unsupported, why))?;
        let Subject { source, descriptor, .. } = subject;
        let began = Instant::now();
        let making = match store.packed().make(&source.text, &key, descriptor.file_bytes, source.parent)? {
            Make::Begun(making) => making,
            Make::ByAnother => return Ok(false),
            Make::Here => {
                if let Some(opened) = store.packed().find(&source.text, &key)? {
                    let made = Made { bytes: opened.bytes(), unix_ms: opened.created_ms() };
                    self.packings.made(subject, made, None);
                }
                return Ok(true);
            }
        };
        self.engine.pack(path, descriptor, &source.text, making.file(), control)?;
        if source.parent.is_none() && self.packings.source_of(path, descriptor).as_ref() != Ok(source) {
            return Err(Failure::new(ErrorKind::Storage, "the file was replaced while it was packed"));
        }
        let opened = making.commit()?;
        let made = Made { bytes: opened.bytes(), unix_ms: opened.created_ms() };
        self.packings.made(subject, made, Some(began.elapsed()));
        let (size, took_ms) = (ByteSize::from_bytes(made.bytes), began.elapsed().as_millis() as u64);
        tracing::info!(model = ?descriptor.name, took_ms, "packed weights were made: {size}");
        Ok(true)
    }

    fn calibrate(
        &self,
        store: &Store,
        path: &Path,
        subject: &Subject,
        control: &LoadControl,
    ) -> Result<(), Failure> {
        let key = self.packings.key(subject).map_err(|why| Failure::new(ErrorKind::Unsupported, why))?;
        let Subject { source, descriptor, options, .. } = subject;
        let Some(opened) = store.packed().find(&source.text, &key)? else {
            self.packings.gone(source);
            return Err(Failure::new(ErrorKind::Storage, "its packed file has gone from the store"));
        };
        let packed = PackedFile { path: opened.path(), source: &source.text };
        let files = ModelFiles { path, packed: Some(packed) };
        let speeds = self.engine.calibrate(files, descriptor, options, control)?;
        if !speeds.iter().any(|speed| speed.layout == Layout::Packed) {
            drop(opened);
            let why = "its layouts could not be measured";
            store.packed().discard(&source.text, &key, why);
            self.packings.refused(source, why);
            return Err(Failure::new(ErrorKind::EngineFailed, why));
        }
        self.packings.measured(subject, speeds);
        let choice = self.packings.choose(subject);
        tracing::info!(model = ?descriptor.name, layout = %choice.layout, "layouts were measured: {}", choice.why);
        let is_of_use = choice.layout.needs_packed_file() || subject.wish != LayoutWish::Auto;
        if !is_of_use && !self.packings.is_wanted(source) {
            drop(opened);
            store.packed().discard(&source.text, &key, &choice.why);
            self.packings.dropped(subject);
        }
        Ok(())
    }
}

/// The file to be packed, which stays where it is until the lease is dropped.
fn weights(store: &Store, subject: &Subject) -> Result<(PathBuf, Option<Opened>), Failure> {
    let Some(key) = &subject.source.parent else { return Ok((subject.path.clone(), None)) };
    let opened = store.look_at(key)?;
    let path = opened.weights().first().cloned();
    let path = path.ok_or_else(|| Failure::new(ErrorKind::InvalidModel, "it has no weights"))?;
    Ok((path, Some(opened)))
}

/// Tells whoever works to stop.
struct StopsWhenDropped(Arc<AtomicBool>);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns when a request needs this memory.
async fn wanted_back(memory: &SetAside) {
    while !memory.is_wanted_back() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Returns when nothing is to be made any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever could say so has gone: the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every change is a single insert or take.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
