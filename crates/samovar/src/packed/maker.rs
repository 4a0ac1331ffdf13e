//! Has packed files made and layouts measured, while nobody is being served.
//!
//! ```text
//!   request served ─► consider ─► queue ─► quiet for a while ─► workshop: pack ─► calibrate ─► done
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

use samovar_core::{ErrorKind, Failure, ModelKey};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::subject::Subject;
use super::workshop::{BY_ANOTHER, Step, Taken, Workshop};

/// Models that wait for their turn at the same time; who finds no place comes with the next request.
const QUEUE: usize = 64;
/// However often it is interrupted, it waits no longer than this for its next attempt.
const QUIET_MAX: Duration = Duration::from_secs(5 * 60);
/// How long after the first lack of memory it is looked for again; each further time twice as long …
const MEMORY_AFTER: Duration = Duration::from_secs(60);
/// … so often.
const LONGER_MAX: u32 = 4;
/// How long a shutdown waits for what has been told to stop: a disk that syncs cannot be told.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Works off what is to be made.
pub(crate) struct Maker {
    workshop: Arc<Workshop>,
    jobs: mpsc::Sender<Arc<Subject>>,
    /// Sources in the queue, or at work.
    pending: Arc<Mutex<HashSet<String>>>,
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
enum Outcome {
    Done,
    /// Somebody else is at it.
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

    /// Stops what is being made, and returns when it has stopped, or soon. Nothing is begun any more.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        let task = lock(&self.task).take();
        if let Some(task) = task
            && tokio::time::timeout(STOP_WITHIN, task).await.is_err()
        {
            tracing::debug!("packed weights are still on their way to the disk; nobody waits for them");
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
        match attend(&workshop, &job, &mut stop).await {
            Left::Stopped => return,
            Left::LacksMemory => {
                let wait = MEMORY_AFTER * 2_u32.pow(job.lacked.min(LONGER_MAX));
                later.push((Instant::now() + wait, Job { lacked: job.lacked.saturating_add(1), ..job }));
            }
            Left::Alone => {
                lock(&pending).remove(&job.subject.source.text);
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
async fn attend(workshop: &Arc<Workshop>, job: &Job, stop: &mut watch::Receiver<bool>) -> Left {
    let Job { subject, lacked } = job;
    let (packings, name) = (&workshop.packings, &subject.descriptor.name);
    let mut quiet = workshop.quiet;
    while let Some(step) = workshop.next_step(subject) {
        tokio::select! {
            biased;
            () = stopped(stop) => return Left::Stopped,
            () = workshop.traffic.quiet_for(quiet) => {}
        }
        match attempt(workshop, step, subject, stop).await {
            Outcome::Done => {}
            Outcome::Interrupted => {
                packings.interrupted();
                quiet = (quiet * 2).min(QUIET_MAX);
            }
            Outcome::ByAnother => tokio::time::sleep(BY_ANOTHER).await,
            Outcome::Stopped => return Left::Stopped,
            Outcome::LacksMemory(failure) => {
                if *lacked == 0 {
                    tracing::info!(model = ?name, "packed weights wait: {failure}");
                }
                packings.lacks_memory(subject, &failure);
                return Left::LacksMemory;
            }
            Outcome::Failed(failure) => {
                tracing::info!(model = ?name, "packed weights: {failure}");
                packings.failed(subject, &failure);
                return Left::Alone;
            }
        }
    }
    Left::Alone
}

async fn attempt(
    workshop: &Arc<Workshop>,
    step: Step,
    subject: &Arc<Subject>,
    stop: &mut watch::Receiver<bool>,
) -> Outcome {
    let has_stopped = stop.clone();
    let broken_off = async {
        tokio::select! {
            () = workshop.traffic.busy() => {}
            () = stopped(stop) => {}
        }
    };
    match workshop.take(step, subject, (|_| (), false), broken_off).await {
        Ok(Taken::Done) => Outcome::Done,
        Ok(Taken::ByAnother) => Outcome::ByAnother,
        Ok(Taken::LacksMemory(failure)) => Outcome::LacksMemory(failure),
        Err(_) if *has_stopped.borrow() => Outcome::Stopped,
        Err(failure) if failure.kind == ErrorKind::Cancelled => Outcome::Interrupted,
        Err(failure) => Outcome::Failed(failure),
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
