//! Who computes with how many threads: the workers that have requests share the cores of this process.
//!
//! ```text
//!   a request begins ─► stir ─┐
//!   every 200 ms while any ───┴─► who has requests? ─► split ─► told to each whose share has changed, with what idles
//!                                          └─ anybody? ─► told to whoever packs or measures: it gives way
//! ```
//!
//! Files of the kernel are read by the thread alone, and never under the lock: a request waits for no disk and no scan.
//! Threads of one step wait for each other by spinning, so two models that each use all cores slow each other down by
//! far more than half. Shares follow from what was asked of each worker, never from what a worker says of itself.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use samovar_core::cores::{CoreWatch, Cores, split};
use samovar_core::{ErrorKind, Failure};

use super::lock;
use super::worker::Shared;
use crate::protocol::Command;

/// How often to look while a worker computes, or while a worker that packs or measures is still told to give way.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Idle cores are told anew when they differ by this.
const IDLE_STEP: f32 = 0.1;

/// Divides the cores.
#[derive(Debug)]
pub(super) struct Sharing {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    inner: Mutex<Inner>,
    /// Somebody has begun to compute, or it is over.
    stirred: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    members: Vec<Member>,
    jobs: Vec<WorkerJob>,
    /// At the last look.
    cores: u32,
    idle: Option<f32>,
    is_anybody_computing: bool,
    is_over: bool,
}

/// A worker that serves a model.
#[derive(Debug)]
struct Member {
    shared: Weak<Shared>,
    wanted: u32,
    told: Option<Cores>,
}

/// A worker that packs or measures a model.
#[derive(Debug)]
struct WorkerJob {
    shared: Weak<Shared>,
    /// Whether it was told to give way.
    gives_way: bool,
}

impl Sharing {
    /// Begins to watch, on a thread of its own that sleeps while nobody computes.
    pub(super) fn start() -> Result<Arc<Self>, Failure> {
        let watch = CoreWatch::new();
        let state = Arc::new(State::new(watch.cores()));
        let watched = Arc::clone(&state);
        std::thread::Builder::new().name("cores".to_owned()).spawn(move || watched.watch(watch)).map_err(
            |error| {
                Failure::new(ErrorKind::EngineFailed, format!("no thread to share cores: {error}"))
                    .with_hint("the system may be out of threads or memory")
            },
        )?;
        Ok(Arc::new(Self { state }))
    }

    /// A worker serves from now on, with at most so many threads a step.
    pub(super) fn join(&self, shared: &Arc<Shared>, wanted: u32) {
        let member = Member { shared: Arc::downgrade(shared), wanted, told: None };
        lock(&self.state.inner).members.push(member);
    }

    /// A worker packs or measures from now on, and gives way to those that serve.
    pub(super) fn join_job(&self, shared: &Arc<Shared>) {
        let worker_job = WorkerJob { shared: Arc::downgrade(shared), gives_way: false };
        let mut inner = lock(&self.state.inner);
        inner.jobs.push(worker_job);
        inner.divide();
    }

    /// A request has begun: shares are told before this returns. Waits for no worker, and reads no file.
    pub(super) fn stir(&self) {
        lock(&self.state.inner).divide();
        self.state.stirred.notify_all();
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        lock(&self.state.inner).is_over = true;
        self.state.stirred.notify_all();
    }
}

impl State {
    fn new(cores: u32) -> Self {
        Self { inner: Mutex::new(Inner { cores, ..Inner::default() }), stirred: Condvar::new() }
    }

    fn watch(&self, mut watch: CoreWatch) {
        let mut is_begun = false;
        let mut inner = lock(&self.inner);
        while !inner.is_over {
            if !inner.is_anybody_computing {
                is_begun = false;
                if inner.jobs.iter().any(|worker_job| worker_job.gives_way) {
                    // That worker could not be told to go on, and no further request may come.
                    let waited = self.stirred.wait_timeout(inner, LOOK_EVERY);
                    inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                    inner.divide();
                } else {
                    inner = self.stirred.wait(inner).unwrap_or_else(PoisonError::into_inner);
                }
                continue;
            }
            drop(inner);
            let idle = if is_begun {
                std::thread::sleep(LOOK_EVERY);
                watch.idle(Instant::now())
            } else {
                // What idled while nobody computed says nothing about now.
                watch.restart(Instant::now());
                None
            };
            is_begun = true;
            let cores = watch.cores();
            inner = lock(&self.inner);
            (inner.idle, inner.cores) = (idle, cores);
            inner.divide();
        }
    }
}

impl Inner {
    /// Tells everybody who computes what has changed for it.
    fn divide(&mut self) {
        self.members.retain(|member| member.shared.strong_count() > 0);
        let mut computing: Vec<_> = self
            .members
            .iter_mut()
            .filter_map(|member| Some((member.shared.upgrade()?, member)))
            .filter(|(shared, _)| shared.pending_calls.is_answering())
            .collect();
        self.is_anybody_computing = !computing.is_empty();
        let wanted: Vec<u32> = computing.iter().map(|(_, member)| member.wanted).collect();
        let shares = split(self.cores, &wanted);
        for ((shared, member), share) in computing.iter_mut().zip(shares) {
            let cores = Cores { share, idle: self.idle };
            if member.told.is_none_or(|told| is_news(told, cores))
                // One that does not listen just now is told at the next look.
                && shared.tell(&Command::Cores(cores), Vec::new()).is_ok()
            {
                member.told = Some(cores);
            }
        }
        drop(computing);
        if !self.is_anybody_computing {
            self.idle = None;
        }
        self.tell_jobs();
    }

    /// Tells those that pack or measure whether anybody serves, where they were told something else.
    fn tell_jobs(&mut self) {
        let gives_way = self.is_anybody_computing;
        self.jobs.retain_mut(|worker_job| {
            let Some(shared) = worker_job.shared.upgrade() else { return false };
            if worker_job.gives_way != gives_way
                // One that does not listen just now is told at the next look.
                && shared.tell(&Command::GiveWay(gives_way), Vec::new()).is_ok()
            {
                worker_job.gives_way = gives_way;
            }
            true
        });
    }
}

/// Whether it matters to a worker that was told the first.
fn is_news(told: Cores, now: Cores) -> bool {
    let is_moved = match (told.idle, now.idle) {
        (Some(before), Some(after)) => (before - after).abs() >= IDLE_STEP,
        (before, after) => before.is_some() != after.is_some(),
    };
    told.share != now.share || is_moved
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use samovar_core::generation::Generation;

    use super::*;
    use crate::protocol::{Inbox, decode, pair, receive};

    /// A worker's two ends, with use for more threads than any machine has cores.
    fn worker(sharing: &Sharing) -> (Arc<Shared>, OwnedFd) {
        let (shared, theirs) = worker_job();
        sharing.join(&shared, u32::MAX);
        (shared, theirs)
    }

    fn worker_job() -> (Arc<Shared>, OwnedFd) {
        let (ours, theirs) = pair().unwrap();
        // A command that never comes fails its test.
        set_socket_timeout(&theirs, Timeout::Recv, Some(Duration::from_secs(30))).unwrap();
        (Arc::new(Shared::new(1, "served", Arc::new(ours)).unwrap()), theirs)
    }

    /// Nobody looks at the machine: it has so many cores.
    fn sharing(cores: u32) -> Sharing {
        Sharing { state: Arc::new(State::new(cores)) }
    }

    /// The last thing that was told since the last call.
    fn told(theirs: &OwnedFd) -> Command {
        let mut buffer = [0; 4096];
        let bytes = receive(theirs, &mut buffer).unwrap().bytes;
        let mut inbox = Inbox::default();
        inbox.put(&buffer[..bytes]);
        let mut last = None;
        while let Some(frame) = inbox.take().unwrap() {
            last = Some(decode(frame).unwrap());
        }
        last.unwrap()
    }

    fn share(theirs: &OwnedFd) -> u32 {
        match told(theirs) {
            Command::Cores(cores) => cores.share,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn workers_with_requests_share_and_those_without_hear_nothing() {
        let sharing = sharing(5);
        let (one, one_end) = worker(&sharing);
        let (other, other_end) = worker(&sharing);
        let (_idle, _idle_end) = worker(&sharing);
        let (events, _one_answer) = Generation::channel(4);
        one.pending_calls.enter_generation(events).unwrap();
        sharing.stir();
        assert_eq!(share(&one_end), 5);
        let (events, _other_answer) = Generation::channel(4);
        let id = other.pending_calls.enter_generation(events).unwrap();
        sharing.stir();
        assert_eq!((share(&one_end), share(&other_end)), (3, 2));
        other.pending_calls.remove(id);
        sharing.stir();
        assert_eq!(share(&one_end), 5);
    }

    #[test]
    fn who_packs_or_measures_gives_way_while_anybody_serves() {
        let sharing = sharing(2);
        let (serving, _serving_end) = worker(&sharing);
        let (before, before_end) = worker_job();
        sharing.join_job(&before);
        let (events, _answer) = Generation::channel(4);
        let id = serving.pending_calls.enter_generation(events).unwrap();
        sharing.stir();
        assert!(matches!(told(&before_end), Command::GiveWay(true)), "as soon as a model answers");
        let (after, after_end) = worker_job();
        sharing.join_job(&after);
        assert!(matches!(told(&after_end), Command::GiveWay(true)), "from its beginning");
        serving.pending_calls.remove(id);
        sharing.stir();
        assert!(matches!(told(&before_end), Command::GiveWay(false)), "and no longer");
        assert!(matches!(told(&after_end), Command::GiveWay(false)));
    }

    #[test]
    fn who_computes_alone_again_has_all_within_a_look() {
        let sharing = Sharing::start().unwrap();
        let (one, one_end) = worker(&sharing);
        let (other, _other_end) = worker(&sharing);
        let (events, _one_answer) = Generation::channel(4);
        one.pending_calls.enter_generation(events).unwrap();
        let (events, _other_answer) = Generation::channel(4);
        let id = other.pending_calls.enter_generation(events).unwrap();
        sharing.stir();
        let shared = share(&one_end);
        other.pending_calls.remove(id);
        let cores = CoreWatch::new().cores();
        let deadline = Instant::now() + Duration::from_secs(30);
        while cores > 1 && share(&one_end) < cores {
            assert!(Instant::now() < deadline, "{shared} of {cores}");
        }
    }

    #[test]
    fn a_worker_that_could_not_be_told_to_go_on_is_told_at_the_next_look() {
        let sharing = Sharing::start().unwrap();
        let (packing, packing_end) = worker_job();
        // As after the last answer, when the worker did not listen.
        let worker_job = WorkerJob { shared: Arc::downgrade(&packing), gives_way: true };
        lock(&sharing.state.inner).jobs.push(worker_job);
        sharing.state.stirred.notify_all();
        assert!(matches!(told(&packing_end), Command::GiveWay(false)));
    }

    #[test]
    fn small_changes_of_what_idles_are_no_news() {
        let cores = |share, idle| Cores { share, idle };
        assert!(!is_news(cores(2, Some(0.5)), cores(2, Some(0.55))));
        assert!(is_news(cores(2, Some(0.5)), cores(2, Some(0.7))));
        assert!(is_news(cores(2, None), cores(2, Some(0.0))));
        assert!(is_news(cores(2, None), cores(1, None)));
    }
}
