//! Makes packed files and measures layouts: one thing at a time, in memory that was set aside for it.
//!
//! ```text
//!   turn ─► memory ─► a thread: engine.pack ─► memory given back ─► commit      told to stop by a request, a shutdown,
//!                               engine.calibrate ─► known                       whoever needs the memory
//! ```
//!
//! Turn, memory and what is told of the progress belong to the thread that does the work: however the order ends, they
//! are free when the work has, and not before. One of a kind is made at a time in all processes that share a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use samovar_core::footprint::{Layout, LayoutWish};
use samovar_core::port::{Engine, LoadControl, ModelFiles, PackedFile};
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure};
use samovar_pool::{Pool, SetAside};
use samovar_store::{Make, Opened, Store};
use tokio::sync::{Mutex, mpsc};
use tokio::task::spawn_blocking;

use super::known::{Made, Packings};
use super::quiet::Traffic;
use super::room::Room;
use super::subject::Subject;
use crate::shelf::Shelf;

/// How often is looked whether memory is wanted back.
const LOOK: Duration = Duration::from_millis(20);
/// How often is looked whether another process has finished.
pub(super) const BY_ANOTHER: Duration = Duration::from_millis(500);

/// What it takes to make packed files.
pub(crate) struct Workshop {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) packings: Arc<Packings>,
    pub(crate) pool: Pool,
    pub(crate) traffic: Traffic,
    /// How long nobody must have been served before something is made.
    pub(crate) quiet: Duration,
    /// Held by the thread that works.
    pub(crate) turn: Arc<Mutex<()>>,
}

/// One thing to do for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Pack,
    Calibrate,
}

/// What came of a step.
pub(super) enum Taken {
    Done,
    /// Another process is doing it.
    ByAnother,
    /// There is no memory for it now, as this says.
    LacksMemory(Failure),
}

impl Workshop {
    /// What a model lacks first, and may be tried now.
    pub(super) fn next_step(&self, subject: &Subject) -> Option<Step> {
        let choice = self.packings.choose(subject);
        match (choice.lacks_file, choice.lacks_speeds) {
            _ if !self.packings.may_try(subject) => None,
            (true, _) => Some(Step::Pack),
            (false, true) => Some(Step::Calibrate),
            (false, false) => None,
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
        // Whatever is made in the background leaves off, and begins nothing that would disturb the figures.
        let _passing = self.traffic.enter();
        for step in [Step::Pack, Step::Calibrate] {
            let Err(failure) = self.make(step, subject, progress.as_ref()).await else { continue };
            // Who wants a layout by name needs no figures.
            let is_needed = step == Step::Pack || subject.wish == LayoutWish::Auto;
            if failure.kind == ErrorKind::TooLarge && !is_needed {
                tracing::info!(model = ?subject.descriptor.name, "layouts are not measured: {failure}");
                break;
            }
            if failure.kind != ErrorKind::Busy {
                self.packings.failed(subject, &failure);
            }
            return Err(failure);
        }
        Ok(())
    }

    /// Does one thing, also when another process is at it first.
    async fn make(
        self: &Arc<Self>,
        step: Step,
        subject: &Arc<Subject>,
        progress: Option<&mpsc::Sender<f32>>,
    ) -> Result<(), Failure> {
        loop {
            let progress = progress.cloned();
            let told = move |fraction| {
                if let Some(progress) = &progress {
                    // What nobody has room for is lost: the next one says more.
                    let _ = progress.try_send(fraction);
                }
            };
            match self.take(step, subject, (told, true), std::future::pending()).await {
                Ok(Taken::Done) => return Ok(()),
                Ok(Taken::ByAnother) => tokio::time::sleep(BY_ANOTHER).await,
                Err(failure) if failure.kind == ErrorKind::Cancelled => {
                    let message = "a request needed the memory before it was done";
                    return Err(Failure::new(ErrorKind::Busy, message).with_hint("try again"));
                }
                Ok(Taken::LacksMemory(failure)) | Err(failure) => return Err(failure),
            }
        }
    }

    /// Does one thing, when its turn has come, and tells how far it is. What nobody waits for yields to everything else.
    ///
    /// # Errors
    /// `Cancelled` when it was broken off, or a request needs its memory; `TooLarge` where there never is enough of it;
    /// whatever the engine or the store say.
    ///
    /// # Cancel safety
    /// Dropping the future stops the work, which holds its turn and its memory until it has stopped.
    pub(super) async fn take(
        self: &Arc<Self>,
        step: Step,
        subject: &Arc<Subject>,
        (told, is_waited_for): (impl Fn(f32) + Send + Sync + 'static, bool),
        broken_off: impl Future<Output = ()>,
    ) -> Result<Taken, Failure> {
        let mut broken_off = std::pin::pin!(broken_off);
        let turn = tokio::select! {
            biased;
            () = &mut broken_off => return Err(stopped()),
            turn = Arc::clone(&self.turn).lock_owned() => turn,
        };
        let needed = self.memory_for(step, subject).await?;
        let Some(memory) = self.pool.set_aside(needed).await else {
            let message = format!("{} of memory are not free for it", ByteSize::from_bytes(needed));
            let failure = Failure::new(ErrorKind::Busy, message)
                .with_hint("unload models, this one too, or raise pool.budget_bytes");
            return Ok(Taken::LacksMemory(failure));
        };
        let wanted_back = memory.wanted_back();
        let control = self.control(subject, told);
        let control = if is_waited_for { control } else { control.in_background() };
        let stops = StopsWhenDropped(control.cancel_flag());
        let shown = Shown { packings: Arc::clone(&self.packings), subject: Arc::clone(subject) };
        let (workshop, model) = (Arc::clone(self), Arc::clone(subject));
        let mut work = spawn_blocking(move || {
            let _held = (shown, turn);
            workshop.work(step, &model, memory, &control)
        });
        let done = tokio::select! {
            done = &mut work => done,
            () = broken_off => {
                drop(stops);
                work.await
            }
            () = is_set(&wanted_back) => {
                drop(stops);
                work.await
            }
        };
        done.unwrap_or_else(|_| Err(Failure::new(ErrorKind::Internal, "the engine panicked")))
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

    /// How much memory a step needs now. What could never be had says so, before the first step already.
    async fn memory_for(&self, step: Step, subject: &Subject) -> Result<u64, Failure> {
        let room = Room::of(&*self.engine, subject)?;
        let snapshot = self.pool.snapshot().await;
        let (needed, at_most) = match step {
            // A file that only figures could make of use would be made for nothing.
            Step::Pack if self.packings.choose(subject).lacks_speeds => {
                (room.to_pack(), room.to_pack().max(room.to_calibrate(0)))
            }
            Step::Pack => (room.to_pack(), room.to_pack()),
            Step::Calibrate => {
                let counted_bytes = self.packings.mapped_of(&subject.source, &snapshot.models);
                (room.to_calibrate(counted_bytes), room.to_calibrate(0))
            }
        };
        if at_most > snapshot.pool.soft_bytes {
            let [needed, soft] = [at_most, snapshot.pool.soft_bytes].map(ByteSize::from_bytes);
            let message =
                format!("{needed} of memory do not fit the budget, of which {soft} are used at most");
            return Err(Failure::new(ErrorKind::TooLarge, message)
                .with_hint("raise pool.budget_bytes, if memory allows"));
        }
        Ok(needed)
    }

    /// Does one thing. Blocks.
    fn work(
        &self,
        step: Step,
        subject: &Subject,
        memory: SetAside,
        control: &LoadControl,
    ) -> Result<Taken, Failure> {
        let store = self.shelf.store()?;
        let (path, _leased) = weights(&store, subject)?;
        match step {
            Step::Pack => self.pack(&store, &path, subject, memory, control),
            Step::Calibrate => self.calibrate(&store, &path, subject, control).map(|()| Taken::Done),
        }
    }

    fn pack(
        &self,
        store: &Store,
        path: &Path,
        subject: &Subject,
        memory: SetAside,
        control: &LoadControl,
    ) -> Result<Taken, Failure> {
        let key = self.packings.key(subject).map_err(|why| Failure::new(ErrorKind::Unsupported, why))?;
        let Subject { source, descriptor, .. } = subject;
        let began = Instant::now();
        let making = match store.packed().make(&source.text, &key, descriptor.file_bytes, source.parent)? {
            Make::Begun(making) => making,
            Make::ByAnother => return Ok(Taken::ByAnother),
            Make::Here => {
                if let Some(opened) = store.packed().find(&source.text, &key)? {
                    let made = Made { bytes: opened.bytes(), unix_ms: opened.created_ms() };
                    self.packings.made(subject, made, None);
                }
                return Ok(Taken::Done);
            }
        };
        self.engine.pack(path, descriptor, &source.text, making.file(), control)?;
        if source.parent.is_none() && self.packings.source_of(path, descriptor).as_ref() != Ok(source) {
            return Err(Failure::new(ErrorKind::Storage, "the file was replaced while it was packed"));
        }
        // Nobody is to wait for a disk that syncs.
        drop(memory);
        let opened = making.commit_unless(&control.cancel_flag())?.ok_or_else(stopped)?;
        let made = Made { bytes: opened.bytes(), unix_ms: opened.created_ms() };
        self.packings.made(subject, made, Some(began.elapsed()));
        let (size, took_ms) = (ByteSize::from_bytes(made.bytes), began.elapsed().as_millis() as u64);
        tracing::info!(model = ?descriptor.name, took_ms, "packed weights were made: {size}");
        Ok(Taken::Done)
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
            self.packings.refuse(source, path, &key, why);
            return Err(Failure::new(ErrorKind::EngineFailed, why));
        }
        self.packings.measured(subject, speeds);
        let choice = self.packings.choose(subject);
        tracing::info!(model = ?descriptor.name, layout = %choice.layout, "layouts were measured: {}", choice.why);
        // What is to be measured again needs its file.
        let is_of_use =
            choice.layout.needs_packed_file() || choice.lacks_speeds || subject.wish != LayoutWish::Auto;
        if !is_of_use && !self.packings.is_wanted(source) {
            drop(opened);
            self.packings.give_up(subject, &key);
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

/// Takes what is told of the progress back when the work has ended, whoever waits for it.
struct Shown {
    packings: Arc<Packings>,
    subject: Arc<Subject>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.packings.progress(&self.subject, None);
    }
}

/// Returns when this is set.
async fn is_set(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}

fn stopped() -> Failure {
    Failure::new(ErrorKind::Cancelled, "it was told to stop")
}
