//! What is being prepared in this process: one preparation for all callers, how far it is, and what could not be prepared.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use samovar_core::port::PreparePlan;
use samovar_core::{ErrorKind, Failure, Quantization};
use tokio::sync::watch;

use super::PreparedInfo;
use crate::wait::Preparing;

/// How long requests hear again why a model could not be prepared, before one of them tries it again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Before this part is done, nothing is said of how long the rest takes.
const KNOWN_FROM: f32 = 0.02;

/// What the store knows a prepared model by: its source, and its key.
pub(super) type Id = (String, String);

/// What is being prepared, and what could not be.
#[derive(Default)]
pub(crate) struct Preparations {
    flights: Mutex<HashMap<Id, Weak<Flight>>>,
    failed: Mutex<HashMap<Id, (Instant, Failure)>>,
    /// Held by the thread that works.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Preparations {
    pub(super) fn flights(&self) -> MutexGuard<'_, HashMap<Id, Weak<Flight>>> {
        // Every change is a single insert or removal.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<Id, (Instant, Failure)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why another try would fail like one shortly before: a conversion takes minutes, and clients ask again.
    pub(super) fn known_failure(&self, id: &Id) -> Option<Failure> {
        let failed = self.failed();
        let (when, failure) = failed.get(id)?;
        (when.elapsed() < REMEMBERED).then(|| failure.clone())
    }

    /// Remembers a failure that is the model's, and not this machine's at the moment.
    pub(super) fn note(&self, id: &Id, outcome: &Result<PreparedInfo, Failure>) {
        let mut failed = self.failed();
        failed.retain(|_, (when, _)| when.elapsed() < REMEMBERED);
        match outcome {
            Err(failure)
                if matches!(
                    failure.kind,
                    ErrorKind::InvalidModel | ErrorKind::Unsupported | ErrorKind::EngineFailed
                ) =>
            {
                failed.insert(id.clone(), (Instant::now(), failure.clone()));
            }
            _ => {
                failed.remove(id);
            }
        }
    }
}

/// One preparation, for as long as callers wait for it.
pub(super) struct Flight {
    pub(super) state: watch::Receiver<State>,
    pub(super) cancelled: Arc<AtomicBool>,
    /// Whether a request waits for it, or did: then it goes on whatever becomes of its callers.
    pub(super) goes_on: AtomicBool,
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.goes_on.load(Ordering::Relaxed) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }
}

/// How far a preparation is.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) fraction: f32,
    /// Once it is known what it takes.
    pub(super) plan: Option<PreparePlan>,
    /// Once it has begun to write.
    pub(super) began: Option<Instant>,
    pub(super) outcome: Option<Result<PreparedInfo, Failure>>,
}

impl State {
    /// What callers are told.
    pub(super) fn news(&self, quantization: Quantization) -> Option<Preparing> {
        let plan = self.plan.as_ref()?;
        let elapsed_ms = self.began.map_or(0.0, |began| began.elapsed().as_secs_f64() * 1e3);
        let left = f64::from((1.0 - self.fraction).max(0.0));
        let eta_ms =
            (self.fraction >= KNOWN_FROM).then(|| (elapsed_ms / f64::from(self.fraction) * left) as u64);
        Some(Preparing {
            fraction: self.fraction,
            quantization,
            source_bytes: plan.source_bytes,
            disk_bytes: plan.disk_bytes,
            memory_bytes: plan.held_bytes,
            eta_ms,
        })
    }
}
