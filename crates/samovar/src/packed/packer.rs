//! Makes packed files and measures layouts: one thing at a time, in memory that was set aside for it.
//!
//! ```text
//!   turn ─► memory ─► a thread: engine.pack ─► memory given back ─► commit      told to stop by a request, a shutdown,
//!                               engine.calibrate ─► known                       a demand for the memory
//! ```
//!
//! Turn, memory and what is told of the progress belong to the thread that does the work: however the order ends, they
//! are free when the work has, and not before. One of a kind is made at a time in all processes that share a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use samovar_core::footprint::{Layout, LayoutWish};
use samovar_core::port::{Engine, LoadControl, LoadRequest, PackRequest, PackedFile};
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure, ModelFiles};
use samovar_pool::{BackgroundReservation, Pool};
use samovar_store::{KeyDigest, Make, Opened, OpenedDerived, Store};
use tokio::sync::{Mutex, mpsc};
use tokio::task::spawn_blocking;

use super::idle::ActivityCounter;
use super::known::{LayoutRegistry, Made};
use super::room::Room;
use super::subject::Subject;
use crate::lazy_store::LazyStore;
use crate::weights;

/// How often is looked whether memory is wanted back.
const LOOK: Duration = Duration::from_millis(20);
/// How often is looked whether another process has finished.
pub(super) const BY_ANOTHER: Duration = Duration::from_millis(500);

/// What it takes to make packed files.
pub(crate) struct Packer {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) lazy_store: Arc<LazyStore>,
    pub(crate) layout_registry: Arc<LayoutRegistry>,
    pub(crate) pool: Pool,
    pub(crate) activity_counter: ActivityCounter,
    /// How long no request must have been served before something is made.
    pub(crate) idle: Duration,
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

impl Packer {
    /// What a model lacks first, and may be tried now.
    pub(super) fn next_step(&self, subject: &Subject) -> Option<Step> {
        let choice = self.layout_registry.choose(subject);
        match (choice.lacks_file, choice.lacks_speeds) {
            _ if !self.layout_registry.may_try(subject) => None,
            (true, _) => Some(Step::Pack),
            (false, true) => Some(Step::Calibrate),
            (false, false) => None,
        }
    }

    /// Makes a model's packed file, where there is none, and measures its layouts now, also those that were measured
    /// before: the machine may have been busy then. Requests that are being served are not considered.
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
        self.layout_registry.key(subject).map_err(|why| {
            Failure::new(ErrorKind::Unsupported, why).with_hint("it is served mapped, as it lies on the disk")
        })?;
        self.layout_registry.pardon(subject);
        // Whatever is made in the background leaves off, and begins nothing that would disturb the figures.
        let _passing = self.activity_counter.enter();
        for step in [Step::Pack, Step::Calibrate] {
            let Err(failure) = self.make(step, subject, progress.as_ref()).await else { continue };
            // Who wants a layout by name needs no figures.
            let is_needed = step == Step::Pack || subject.wish == LayoutWish::Auto;
            if failure.kind == ErrorKind::TooLarge && !is_needed {
                tracing::info!(model = ?subject.descriptor.name, "layouts are not measured: {failure}");
                break;
            }
            if failure.kind != ErrorKind::Busy {
                self.layout_registry.failed(subject, &failure);
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
                    // What finds no room is lost: the next one says more.
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

    /// Does one thing, when its turn has come, and tells how far it is. Work that no caller waits for yields to everything else.
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
        let Some(memory) = self.pool.reserve_background(needed).await else {
            let message = format!("{} of memory are not free for it", ByteSize::from_bytes(needed));
            let failure = Failure::new(ErrorKind::Busy, message)
                .with_hint("unload models, this one too, or raise pool.budget_bytes");
            return Ok(Taken::LacksMemory(failure));
        };
        let wanted_back = memory.wanted_back();
        let control = self.control(subject, told);
        let control = if is_waited_for { control } else { control.in_background() };
        let stops = StopsWhenDropped(control.cancel_flag());
        let shown =
            Shown { layout_registry: Arc::clone(&self.layout_registry), subject: Arc::clone(subject) };
        let (packer, model) = (Arc::clone(self), Arc::clone(subject));
        let mut work = spawn_blocking(move || {
            let _held = (shown, turn);
            packer.work(step, &model, memory, &control)
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
        done.unwrap_or_else(|_| {
            Err(Failure::new(ErrorKind::Internal, "the engine panicked")
                .with_hint("this is a fault of the program; please report it with the log"))
        })
    }

    fn control(
        self: &Arc<Self>,
        subject: &Arc<Subject>,
        told: impl Fn(f32) + Send + Sync + 'static,
    ) -> LoadControl {
        let (layout_registry, subject) = (Arc::clone(&self.layout_registry), Arc::clone(subject));
        LoadControl::new(move |fraction| {
            layout_registry.progress(&subject, Some(fraction));
            told(fraction);
        })
    }

    /// How much memory a step needs now. What could never be had says so, before the first step already.
    async fn memory_for(&self, step: Step, subject: &Subject) -> Result<u64, Failure> {
        let room = Room::of(&*self.engine, subject)?;
        let snapshot = self.pool.snapshot().await;
        let (needed, at_most) = match step {
            // A file that only figures could make of use would be made for nothing.
            Step::Pack if self.layout_registry.choose(subject).lacks_speeds => {
                (room.to_pack(), room.to_pack().max(room.to_calibrate(0)))
            }
            Step::Pack => (room.to_pack(), room.to_pack()),
            Step::Calibrate => {
                let counted_bytes = self.layout_registry.mapped_of(&subject.weights, &snapshot.models);
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
        memory: BackgroundReservation,
        control: &LoadControl,
    ) -> Result<Taken, Failure> {
        let store = self.lazy_store.store()?;
        let leased = leased(&store, subject)?;
        match step {
            Step::Pack => self.pack(&store, &leased, subject, memory, control),
            Step::Calibrate => self.calibrate(&store, &leased.files, subject, control).map(|()| Taken::Done),
        }
    }

    fn pack(
        &self,
        store: &Store,
        leased: &Leased,
        subject: &Subject,
        memory: BackgroundReservation,
        control: &LoadControl,
    ) -> Result<Taken, Failure> {
        let key =
            self.layout_registry.key(subject).map_err(|why| Failure::new(ErrorKind::Unsupported, why))?;
        let Subject { weights, descriptor, .. } = subject;
        let source = weights.to_string();
        let (files, parent) = (&leased.files, leased.artifact);
        let began = Instant::now();
        let making = match store.packed().make(&source, &key, descriptor.file_bytes, parent)? {
            Make::Begun(making) => making,
            Make::ByAnother => return Ok(Taken::ByAnother),
            Make::Here => {
                if let Some(opened) = store.packed().find(&source, &key)? {
                    let made = Made { bytes: opened.bytes(), unix_ms: opened.created_ms() };
                    self.layout_registry.made(subject, made, None);
                }
                return Ok(Taken::Done);
            }
        };
        let into = making.file();
        self.engine.pack(PackRequest { files, descriptor, source: &source, into, control })?;
        if !weights::are_at(weights, files.main()) {
            return Err(Failure::new(ErrorKind::Storage, "the file was replaced while it was packed")
                .with_param("model")
                .with_hint("ask again"));
        }
        // No caller must wait for a disk that syncs.
        drop(memory);
        let opened = making.commit_unless(&control.cancel_flag())?.ok_or_else(stopped)?;
        let made = Made { bytes: opened.bytes(), unix_ms: opened.created_ms() };
        self.layout_registry.made(subject, made, Some(began.elapsed()));
        let (size, took_ms) = (ByteSize::from_bytes(made.bytes), began.elapsed().as_millis() as u64);
        tracing::info!(model = ?descriptor.name, took_ms, "packed weights were made: {size}");
        Ok(Taken::Done)
    }

    fn calibrate(
        &self,
        store: &Store,
        files: &ModelFiles,
        subject: &Subject,
        control: &LoadControl,
    ) -> Result<(), Failure> {
        let key =
            self.layout_registry.key(subject).map_err(|why| Failure::new(ErrorKind::Unsupported, why))?;
        let Subject { weights, descriptor, options, .. } = subject;
        let source = weights.to_string();
        let Some(opened) = store.packed().find(&source, &key)? else {
            self.layout_registry.missing(weights);
            return Err(Failure::new(ErrorKind::Storage, "its packed file has gone from the store")
                .with_hint("try again: it is made again"));
        };
        let packed = PackedFile { path: opened.path(), source: &source };
        let request = LoadRequest::new(files, descriptor, options, control).with_packed(Some(packed));
        let speeds = self.engine.calibrate(request)?;
        if !speeds.iter().any(|speed| speed.layout == Layout::Packed) {
            drop(opened);
            let why = "its layouts could not be measured";
            self.layout_registry.refuse(weights, files.main(), &key, why);
            return Err(Failure::new(ErrorKind::EngineFailed, why));
        }
        self.layout_registry.measured(subject, speeds);
        let choice = self.layout_registry.choose(subject);
        tracing::info!(model = ?descriptor.name, layout = %choice.layout, "layouts were measured: {}", choice.why);
        // What is to be measured again needs its file.
        let is_of_use =
            choice.layout.needs_packed_file() || choice.lacks_speeds || subject.wish != LayoutWish::Auto;
        if !is_of_use && !self.layout_registry.is_wanted(weights) {
            drop(opened);
            self.layout_registry.give_up(subject, &key);
        }
        Ok(())
    }
}

/// The files of the model to be packed, which stay where they are until this is dropped.
struct Leased {
    files: ModelFiles,
    /// The artifact that they are, or that they were prepared of: what is packed leaves with it.
    artifact: Option<KeyDigest>,
    _opened: Option<Opened>,
    _prepared: Option<OpenedDerived>,
}

fn leased(store: &Store, subject: &Subject) -> Result<Leased, Failure> {
    let Some(key) = weights::artifact(&subject.weights) else {
        let files = subject.files.clone();
        let is_prepared = weights::is_prepared(&subject.weights);
        let prepared = if is_prepared { store.prepared().open(files.main())? } else { None };
        let artifact = prepared.as_ref().and_then(OpenedDerived::parent);
        return Ok(Leased { files, artifact, _opened: None, _prepared: prepared });
    };
    let opened = store.look_at(&key)?;
    let files = opened.files();
    let files = files.ok_or_else(|| {
        Failure::new(ErrorKind::InvalidModel, "it has no weights").with_hint("pull it again")
    })?;
    Ok(Leased { files, artifact: Some(key), _opened: Some(opened), _prepared: None })
}

/// Tells the work to stop.
struct StopsWhenDropped(Arc<AtomicBool>);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Takes what is told of the progress back when the work has ended, even if no caller waits for it.
struct Shown {
    layout_registry: Arc<LayoutRegistry>,
    subject: Arc<Subject>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.layout_registry.progress(&self.subject, None);
    }
}

/// Returns when this is set.
async fn is_set(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}

fn stopped() -> Failure {
    Failure::new(ErrorKind::Cancelled, "it was stopped")
}
