//! Has packed files made and layouts measured, while no request is being served.
//!
//! ```text
//!   request served ─► consider ─► queue ─► idle for a while ─► packer: pack ─► calibrate ─► done
//!                                   ▲        ▲                     │  └─ a request: stopped at once
//!                                   │        └─ twice as long, up to minutes ◄────┘
//!                                   └─ later ◄─────────────────────┘ no memory
//! ```
//!
//! One model is worked on at a time. Whatever goes wrong is kept as the reason, and tried again by a later request, not
//! for ever. What only lacks memory is come back to without one, for as long as this lives: the memory may come when the
//! model is used no more.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use samovar_core::{ErrorKind, Failure, ModelKey, WeightsId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::packer::{BY_ANOTHER, Packer, Step, Taken};
use super::subject::Subject;

/// Models that wait for their turn at the same time; who finds no place comes with the next request.
const QUEUE: usize = 64;
/// Models that are in the queue or wait for memory, at most.
const PENDING_MAX: usize = 1_024;
/// However often it is interrupted, it waits no longer than this for its next attempt.
const IDLE_MAX: Duration = Duration::from_secs(5 * 60);
/// How long after the first lack of memory it is looked for again; each further time twice as long …
const MEMORY_AFTER: Duration = Duration::from_secs(60);
/// … so often.
const LONGER_MAX: u32 = 4;
/// How long a shutdown waits for what has been told to stop: a disk that syncs cannot be told.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Works off what is to be made.
pub(crate) struct PackScheduler {
    packer: Arc<Packer>,
    jobs: mpsc::Sender<Arc<Subject>>,
    /// Weights in the queue, at work, or waiting for memory.
    pending: Arc<Mutex<HashSet<WeightsId>>>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A model for which something is to be made.
struct Job {
    subject: Arc<Subject>,
    /// Times that there was no memory for it.
    lacked: u32,
}

/// What came of an attempt.
enum PackResult {
    Done,
    /// Another one is at it.
    ByAnother,
    Interrupted,
    Stopped,
    LacksMemory(Failure),
    Failed(Failure),
}

/// How a model was left.
enum Left {
    /// It lacks nothing, or has to wait for a request.
    Alone,
    LacksMemory,
    Stopped,
}

impl PackScheduler {
    /// Must be called inside a tokio runtime.
    pub(crate) fn start(packer: Packer) -> Self {
        let packer = Arc::new(packer);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let stop = watch::Sender::new(false);
        let pending = Arc::default();
        let task = tokio::spawn(work_off(Arc::clone(&packer), queue, Arc::clone(&pending), stop.subscribe()));
        Self { packer, jobs, pending, stop, task: Mutex::new(Some(task)) }
    }

    /// Has made, some time, what this model lacks.
    pub(crate) fn consider(&self, key: &ModelKey) {
        let layout_registry = &self.packer.layout_registry;
        let Some(subject) = layout_registry.subject(key) else { return };
        if !layout_registry.choose(&subject).lacks_something() || !layout_registry.may_try(&subject) {
            return;
        }
        let weights = subject.weights;
        let mut pending = lock(&self.pending);
        let has_place = pending.len() < PENDING_MAX && !pending.contains(&weights);
        if has_place && self.jobs.try_send(subject).is_ok() {
            pending.insert(weights);
        }
    }

    /// Stops what is being made, and returns when it has stopped, or soon. Nothing is begun any more.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        let task = lock(&self.task).take();
        if let Some(task) = task
            && tokio::time::timeout(STOP_WITHIN, task).await.is_err()
        {
            tracing::debug!(
                "packed weights are still being written to the disk; the shutdown does not wait for them"
            );
        }
    }

    /// What makes things, for a caller that wants one made now.
    pub(crate) const fn packer(&self) -> &Arc<Packer> {
        &self.packer
    }
}

impl Drop for PackScheduler {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn work_off(
    packer: Arc<Packer>,
    mut queue: mpsc::Receiver<Arc<Subject>>,
    pending: Arc<Mutex<HashSet<WeightsId>>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut later = Vec::new();
    loop {
        let job = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            job = due(&mut later) => job,
            subject = queue.recv() => match subject {
                Some(subject) => Job { subject, lacked: 0 },
                None => return,
            },
        };
        match attend(&packer, &job, &mut stop).await {
            Left::Stopped => return,
            Left::LacksMemory => {
                let wait = MEMORY_AFTER * 2_u32.pow(job.lacked.min(LONGER_MAX));
                later.push((Instant::now() + wait, Job { lacked: job.lacked.saturating_add(1), ..job }));
            }
            Left::Alone => {
                lock(&pending).remove(&job.subject.weights);
            }
        }
    }
}

/// Returns the first of those that wait for memory when its time has come; never where none waits.
async fn due(later: &mut Vec<(Instant, Job)>) -> Job {
    let first = later.iter().enumerate().min_by_key(|(_, (at, _))| *at);
    let Some((place, at)) = first.map(|(place, (at, _))| (place, *at)) else {
        return std::future::pending().await;
    };
    tokio::time::sleep_until(at).await;
    later.swap_remove(place).1
}

/// Makes what a model lacks, whenever it is quiet, until it lacks nothing or something goes wrong.
async fn attend(packer: &Arc<Packer>, job: &Job, stop: &mut watch::Receiver<bool>) -> Left {
    let Job { subject, lacked } = job;
    let (layout_registry, name) = (&packer.layout_registry, &subject.descriptor.name);
    let mut idle = packer.idle;
    while let Some(step) = packer.next_step(subject) {
        tokio::select! {
            biased;
            () = stopped(stop) => return Left::Stopped,
            () = packer.activity_counter.idle_for(idle) => {}
        }
        match attempt(packer, step, subject, stop).await {
            PackResult::Done => {}
            PackResult::Interrupted => {
                layout_registry.interrupted();
                idle = (idle * 2).min(IDLE_MAX);
            }
            PackResult::ByAnother => tokio::time::sleep(BY_ANOTHER).await,
            PackResult::Stopped => return Left::Stopped,
            PackResult::LacksMemory(failure) => {
                if *lacked == 0 {
                    tracing::info!(model = ?name, "packed weights wait: {failure}");
                }
                layout_registry.lacks_memory(subject, &failure);
                return Left::LacksMemory;
            }
            PackResult::Failed(failure) => {
                tracing::info!(model = ?name, "packed weights: {failure}");
                layout_registry.failed(subject, &failure);
                return Left::Alone;
            }
        }
    }
    Left::Alone
}

async fn attempt(
    packer: &Arc<Packer>,
    step: Step,
    subject: &Arc<Subject>,
    stop: &mut watch::Receiver<bool>,
) -> PackResult {
    let has_stopped = stop.clone();
    let broken_off = async {
        tokio::select! {
            () = packer.activity_counter.busy() => {}
            () = stopped(stop) => {}
        }
    };
    match packer.take(step, subject, (|_| (), false), broken_off).await {
        Ok(Taken::Done) => PackResult::Done,
        Ok(Taken::ByAnother) => PackResult::ByAnother,
        Ok(Taken::LacksMemory(failure)) => PackResult::LacksMemory(failure),
        Err(_) if *has_stopped.borrow() => PackResult::Stopped,
        Err(failure) if failure.kind == ErrorKind::Cancelled => PackResult::Interrupted,
        Err(failure) => PackResult::Failed(failure),
    }
}

/// Returns when nothing is to be made any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender has gone: the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every change is a single insert or take.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
