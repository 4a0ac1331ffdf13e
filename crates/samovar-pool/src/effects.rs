//! The slow work: each act runs on a blocking thread, and its outcome comes back as an event.
//!
//! A panic of an engine is an outcome like any other: a failure. Nothing here decides anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use samovar_core::footprint::{Footprint, Layout, LoadOptions, Measurement};
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest};
use samovar_core::{Arena, Bytes, ErrorKind, Failure, Memory};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::ask::ModelSpec;
use crate::protocol::{Event, InstanceId};

/// An instance that takes longer for one token is taken for dead.
const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// What an act came to.
pub(crate) struct EffectResult {
    pub(crate) event: Event,
    /// The instance that a load made.
    pub(crate) made: Option<Arc<dyn Instance>>,
}

impl From<Event> for EffectResult {
    fn from(event: Event) -> Self {
        Self { event, made: None }
    }
}

/// Does the slow work for the owner.
pub(crate) struct Executor {
    engine: Arc<dyn Engine>,
    outcomes: mpsc::Sender<EffectResult>,
}

impl Executor {
    pub(crate) fn new(engine: Arc<dyn Engine>, outcomes: mpsc::Sender<EffectResult>) -> Self {
        Self { engine, outcomes }
    }

    /// Loads a model; setting the flag that is returned stops the load.
    pub(crate) fn load(&self, id: InstanceId, model: Arc<ModelSpec>) -> Arc<AtomicBool> {
        let is_told = Arc::new(Semaphore::new(0));
        let control = LoadControl::new(progress(id, self.outcomes.clone())).on_death(obituary(
            id,
            self.outcomes.clone(),
            Arc::clone(&is_told),
        ));
        let stop = control.cancel_flag();
        let (engine, weigher) = (Arc::clone(&self.engine), Arc::clone(&self.engine));
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            let asked = Arc::clone(&model);
            let load = move || {
                engine.load(LoadRequest::new(&asked.files, &asked.descriptor, &asked.options, &control))
            };
            let outcome = match spawn_blocking(load).await.unwrap_or_else(|_| Err(panicked("loading"))) {
                Ok(instance) => {
                    let layout = instance.arrangement().layout;
                    let memory = measured(&*weigher, &model, layout, instance.measure());
                    let event = Event::Loaded { instance: id, memory, layout };
                    EffectResult { event, made: Some(instance) }
                }
                Err(failure) => Event::LoadFailed { instance: id, failure }.into(),
            };
            report(&outcomes, outcome).await;
            is_told.close();
        });
        stop
    }

    /// What an instance that serves uses now.
    pub(crate) fn weigh(&self, instance: &dyn Instance, model: &ModelSpec) -> Memory {
        measured(&*self.engine, model, instance.arrangement().layout, instance.measure())
    }

    /// Gives an instance's working memory back.
    pub(crate) fn park(
        &self,
        id: InstanceId,
        instance: Arc<dyn Instance>,
        model: Arc<ModelSpec>,
        probe: Option<JoinHandle<()>>,
    ) {
        let engine = Arc::clone(&self.engine);
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            ended(probe).await;
            let park = move || {
                let keeps = || residue(&*engine, &model, instance.arrangement().layout, instance.measure());
                instance.park().map(|()| keeps())
            };
            let event = match spawn_blocking(park).await.unwrap_or_else(|_| Err(panicked("parking"))) {
                Ok(left) => Event::Parked { instance: id, left },
                Err(failure) => Event::ParkFailed { instance: id, failure },
            };
            report(&outcomes, event.into()).await;
        });
    }

    /// Gives an instance its working memory again.
    pub(crate) fn resume(&self, id: InstanceId, instance: Arc<dyn Instance>, model: Arc<ModelSpec>) {
        let engine = Arc::clone(&self.engine);
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            let resume = move || {
                let weigh = || measured(&*engine, &model, instance.arrangement().layout, instance.measure());
                instance.resume(&model.options).map(|()| weigh())
            };
            let event = match spawn_blocking(resume).await.unwrap_or_else(|_| Err(panicked("resuming"))) {
                Ok(memory) => Event::Resumed { instance: id, memory },
                Err(failure) => Event::ResumeFailed { instance: id, failure },
            };
            report(&outcomes, event.into()).await;
        });
    }

    /// Drops an instance; this must be the last reference to it.
    pub(crate) fn unload(&self, id: InstanceId, instance: Arc<dyn Instance>, probe: Option<JoinHandle<()>>) {
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            ended(probe).await;
            if Arc::strong_count(&instance) > 1 {
                tracing::warn!(
                    instance = id.0,
                    "an instance outlives its leases; its memory is given back later"
                );
            }
            if spawn_blocking(move || drop(instance)).await.is_err() {
                tracing::error!(instance = id.0, "the engine panicked while unloading");
            }
            report(&outcomes, Event::Unloaded { instance: id }.into()).await;
        });
    }

    /// Runs one token of inference.
    pub(crate) fn probe(&self, id: InstanceId, instance: Arc<dyn Instance>) -> JoinHandle<()> {
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            let probe = spawn_blocking(move || instance.probe());
            let probed = match timeout(PROBE_LIMIT, probe).await {
                Ok(probed) => probed.unwrap_or_else(|_| Err(panicked("probing"))),
                Err(_) => Err(silent()),
            };
            let event = match probed {
                Ok(()) => Event::Probed { instance: id },
                Err(failure) => Event::ProbeFailed { instance: id, failure },
            };
            report(&outcomes, event.into()).await;
        })
    }
}

/// What an instance that lies so was measured to use; nothing where its engine measures nothing.
fn measured(engine: &dyn Engine, model: &ModelSpec, layout: Layout, found: Measurement) -> Memory {
    let Measurement { held_bytes, mapped_bytes, .. } = found;
    let footprint = Footprint { held_bytes, mapped_bytes };
    if footprint.total_bytes() == 0 {
        return Memory::default();
    }
    let options = LoadOptions { layout, ..model.options.clone() };
    engine.cost(&model.descriptor, &options, footprint).memory
}

/// What a parked instance that lies so still holds: on the host as it was measured, on devices as its engine says.
fn residue(engine: &dyn Engine, model: &ModelSpec, layout: Layout, found: Measurement) -> Bytes {
    let Measurement { held_bytes, mapped_bytes, .. } = found;
    let options = LoadOptions { layout, ..model.options.clone() };
    let cost = engine.cost(&model.descriptor, &options, Footprint { held_bytes, mapped_bytes });
    cost.residue(cost.memory.private, &options).with(Arena::HOST, held_bytes)
}

/// Waits for the probe that was begun last, if there was one.
async fn ended(probe: Option<JoinHandle<()>>) {
    if let Some(probe) = probe {
        // How it went has been reported.
        let _ = probe.await;
    }
}

/// Reports whole percents, and loses those for which the owner has no room: the next one says more.
fn progress(id: InstanceId, outcomes: mpsc::Sender<EffectResult>) -> impl Fn(f32) + Send + Sync + 'static {
    let last_percent = AtomicU32::new(0);
    move |fraction| {
        let percent = (fraction.clamp(0.0, 1.0) * 100.0) as u32;
        if last_percent.fetch_max(percent, Ordering::Relaxed) < percent {
            let fraction = percent as f32 / 100.0;
            let _ = outcomes.try_send(Event::LoadProgress { instance: id, fraction }.into());
        }
    }
}

/// Reports a death, whatever thread learns of it and however full the owner's queue is; but never before the load, which
/// may have ended a moment ago: `is_told` closes when its outcome is known.
fn obituary(
    id: InstanceId,
    outcomes: mpsc::Sender<EffectResult>,
    is_told: Arc<Semaphore>,
) -> impl Fn(Failure) + Send + Sync + 'static {
    let runtime = tokio::runtime::Handle::current();
    move |failure| {
        let (outcomes, is_told) = (outcomes.clone(), Arc::clone(&is_told));
        let event = Event::InstanceDied { instance: id, failure };
        runtime.spawn(async move {
            // It has no permits and never will: this waits for the end of the waiting.
            let _ = is_told.acquire().await;
            report(&outcomes, event.into()).await;
        });
    }
}

async fn report(outcomes: &mpsc::Sender<EffectResult>, outcome: EffectResult) {
    if let Err(unheard) = outcomes.send(outcome).await {
        // The owner has left. What a late load made is dropped where dropping may block.
        let _ = spawn_blocking(move || drop(unheard)).await;
    }
}

fn silent() -> Failure {
    let message = format!("a probe of one token had no answer within {} s", PROBE_LIMIT.as_secs());
    Failure::new(ErrorKind::EngineFailed, message)
}

fn panicked(doing: &str) -> Failure {
    Failure::new(ErrorKind::Internal, format!("the engine panicked while {doing}"))
        .with_hint("this is a fault of the program; please report it with the log")
}
