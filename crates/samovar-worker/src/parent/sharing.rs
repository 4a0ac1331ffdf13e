//! Who computes with how many threads: the workers that have requests share the cores of this process.
//!
//! ```text
//!   a request begins ─► stir ─┐
//!   every 200 ms while any ───┴─► who has requests? ─► split ─► told to each whose share has changed, with what idles
//!                                          └─ any? ─► told to workers that pack or measure: they give way
//!   every two seconds for a minute afterwards ─► what others leave ─► told with the first share of the next request
//! ```
//!
//! Files of the kernel are read by the thread alone, and never under the lock: a request waits for no disk and no scan.
//! Threads of one step wait for each other by spinning, so two models that each use all cores slow each other down by
//! far more than half. Shares follow from what was asked of each worker, never from what a worker says of itself.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use samovar_core::cores::{CoreWatch, Cores, split};
use samovar_core::{ErrorKind, Failure};

use super::lock;
use super::worker::Shared;
use crate::protocol::Command;

/// How often to look while a worker computes, or while a worker that packs or measures is still told to give way.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often to look after the last answer, so that the next one begins with the cores that others leave.
const LOOK_AT_REST: Duration = Duration::from_secs(2);
/// So often: for a minute. Afterwards an idle daemon does nothing.
const LOOKS_AT_REST: u32 = 30;
/// The kernel counts in hundredths of a second: what idled in less than this is not exact.
const SHORTEST_LOOK: Duration = Duration::from_millis(100);
/// What others left before a request began is news for so long.
const FREE_FOR: Duration = Duration::from_secs(2);
/// Idle and free cores are told anew when they differ by this.
const CORES_STEP: f32 = 0.1;

/// Divides the cores.
#[derive(Debug)]
pub(super) struct Sharing {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    inner: Mutex<Inner>,
    /// A worker has begun to compute, or it is over.
    stirred: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    members: Vec<Member>,
    jobs: Vec<WorkerJob>,
    seen: Seen,
    /// A model was loaded since the last look.
    has_joined: bool,
    is_anybody_computing: bool,
    is_over: bool,
}

/// The machine at the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    cores: u32,
    /// What idles while any instance computes.
    idle: Option<f32>,
    /// What others left when no instance computed.
    free: Option<f32>,
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
    /// Begins to watch, on a thread of its own that sleeps while none computes.
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
        let mut inner = lock(&self.state.inner);
        inner.members.push(member);
        // What its load used is free from now on.
        (inner.seen.free, inner.has_joined) = (None, true);
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
        let inner = Inner { seen: Seen { cores, ..Seen::default() }, ..Inner::default() };
        Self { inner: Mutex::new(inner), stirred: Condvar::new() }
    }

    fn watch(&self, mut watch: CoreWatch) {
        let mut phase = Phase::Asleep;
        let mut inner = lock(&self.inner);
        while !inner.is_over {
            let is_computing = inner.is_anybody_computing;
            if !is_computing && !matches!(phase, Phase::Computing { .. }) {
                let (woken, is_time) = self.rest(inner, phase);
                inner = woken;
                if !is_time {
                    continue;
                }
            }
            let before = inner.seen;
            let has_joined = std::mem::take(&mut inner.has_joined);
            drop(inner);
            if is_computing && matches!(phase, Phase::Computing { .. }) {
                std::thread::sleep(LOOK_EVERY);
            }
            let now = Instant::now();
            let seen = phase.look(is_computing, now, watch.idle(now), before);
            let cores = watch.cores();
            inner = lock(&self.inner);
            let free = seen.free.filter(|_| !has_joined && !inner.has_joined);
            inner.seen = Seen { cores, free, ..seen };
            inner.divide();
        }
    }

    /// Waits while no instance computes. Says whether it is time for a look.
    fn rest<'a>(&self, inner: MutexGuard<'a, Inner>, phase: Phase) -> (MutexGuard<'a, Inner>, bool) {
        let is_asleep = matches!(phase, Phase::Asleep);
        if is_asleep && !inner.jobs.iter().any(|worker_job| worker_job.gives_way) {
            return (self.stirred.wait(inner).unwrap_or_else(PoisonError::into_inner), false);
        }
        let wait = if is_asleep { LOOK_EVERY } else { LOOK_AT_REST };
        let waited = self.stirred.wait_timeout(inner, wait);
        let (mut woken, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
        if is_asleep {
            // A worker could not be told to go on, and no further request may come.
            woken.divide();
        }
        (woken, !is_asleep && outcome.timed_out())
    }
}

/// What the thread that looks at the machine waits for.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// A request.
    Asleep,
    /// The next look, while any instance computes since then.
    Computing { since: Instant },
    /// A request, or the next look of those that are left.
    Resting { looked: Instant, left: u32 },
}

impl Phase {
    /// What is known after a look that found so many idle cores since the one before.
    fn look(&mut self, is_computing: bool, now: Instant, idle: Option<f32>, before: Seen) -> Seen {
        let unknown = Seen { idle: None, free: None, ..before };
        let (next, seen) = match (*self, is_computing) {
            (Self::Computing { since }, true) => {
                let free = before.free.filter(|_| now.duration_since(since) < FREE_FOR);
                (*self, Seen { idle, free, ..before })
            }
            (Self::Resting { looked, .. }, true) => {
                let is_exact = now.duration_since(looked) >= SHORTEST_LOOK;
                let free = if is_exact { idle } else { before.free };
                (Self::Computing { since: now }, Seen { free, ..unknown })
            }
            // What idled while this thread did not look says nothing about now.
            (Self::Asleep, true) => (Self::Computing { since: now }, unknown),
            // What idled while any instance computed does not say what others leave.
            (Self::Computing { .. }, false) => (Self::Resting { looked: now, left: LOOKS_AT_REST }, unknown),
            (Self::Resting { left, .. }, false) if left > 1 => {
                (Self::Resting { looked: now, left: left - 1 }, Seen { free: idle, ..unknown })
            }
            (Self::Resting { .. } | Self::Asleep, false) => (Self::Asleep, unknown),
        };
        *self = next;
        seen
    }
}

impl Inner {
    /// Tells all workers that compute what has changed for it.
    fn divide(&mut self) {
        self.members.retain(|member| member.shared.strong_count() > 0);
        let mut computing = Vec::new();
        for member in &mut self.members {
            match member.shared.upgrade().filter(|shared| shared.pending_calls.is_answering()) {
                Some(shared) => computing.push((shared, member)),
                // Its next request begins with what holds then.
                None => member.told = None,
            }
        }
        self.is_anybody_computing = !computing.is_empty();
        let wanted: Vec<u32> = computing.iter().map(|(_, member)| member.wanted).collect();
        let shares = split(self.seen.cores, &wanted);
        // Who packs or measures has used what it leaves from now on.
        let free = self.seen.free.filter(|_| self.jobs.is_empty());
        for ((shared, member), share) in computing.iter_mut().zip(shares) {
            let cores = Cores { share, idle: self.seen.idle, free };
            if member.told.is_none_or(|told| is_news(told, cores))
                // One that does not listen just now is told at the next look.
                && shared.tell(&Command::Cores(cores), Vec::new()).is_ok()
            {
                member.told = Some(cores);
            }
        }
        drop(computing);
        if !self.is_anybody_computing {
            self.seen.idle = None;
        }
        self.tell_jobs();
    }

    /// Tells those that pack or measure whether a worker serves, where they were told something else.
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
    let is_moved = |before: Option<f32>, after: Option<f32>| match (before, after) {
        (Some(before), Some(after)) => (before - after).abs() >= CORES_STEP,
        (before, after) => before.is_some() != after.is_some(),
    };
    told.share != now.share || is_moved(told.idle, now.idle) || is_moved(told.free, now.free)
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

    /// The machine is not looked at: it has so many cores.
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
    fn what_others_leave_is_seen_at_rest_and_is_news_for_two_seconds() {
        let mut phase = Phase::Asleep;
        let mut seen = Seen { cores: 2, ..Seen::default() };
        let mut now = Instant::now();
        let mut look = |is_computing, after_ms, idle| {
            now += Duration::from_millis(after_ms);
            seen = phase.look(is_computing, now, Some(idle), seen);
            (seen.idle, seen.free)
        };
        assert_eq!(look(true, 0, 2.0), (None, None), "what idled before was not looked at");
        assert_eq!(look(true, 200, 0.5), (Some(0.5), None));
        assert_eq!(look(false, 100, 1.0), (None, None), "somebody computed");
        assert_eq!(look(false, 500, 1.0), (None, Some(1.0)));
        // A request comes; what happened since the last look is the latest news.
        assert_eq!(look(true, 300, 2.0), (None, Some(2.0)));
        assert_eq!(look(true, 200, 0.0), (Some(0.0), Some(2.0)));
        assert_eq!(look(true, 2000, 0.0), (Some(0.0), None));
        assert_eq!(look(false, 100, 0.0), (None, None));
        assert_eq!(look(false, 500, 1.0), (None, Some(1.0)));
        assert_eq!(look(true, 20, 0.0), (None, Some(1.0)), "that was too short to be exact");
    }

    #[test]
    fn after_a_minute_nobody_looks_any_more() {
        let (mut phase, now) = (Phase::Computing { since: Instant::now() }, Instant::now());
        let mut look = || {
            phase.look(false, now, Some(1.0), Seen::default());
            matches!(phase, Phase::Resting { .. })
        };
        let looks = (0..1000).take_while(|_| look()).count();
        assert_eq!(looks, LOOKS_AT_REST as usize);
    }

    #[test]
    fn a_request_begins_with_what_others_left_unless_a_job_had_it() {
        let sharing = sharing(2);
        let (one, one_end) = worker(&sharing);
        let begin = |free| {
            lock(&sharing.state.inner).seen.free = free;
            let (events, _answer) = Generation::channel(4);
            let id = one.pending_calls.enter_generation(events).unwrap();
            sharing.stir();
            one.pending_calls.remove(id);
            sharing.stir();
            match told(&one_end) {
                Command::Cores(cores) => cores.free,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(begin(Some(1.0)), Some(1.0));
        assert_eq!(begin(Some(1.0)), Some(1.0), "told with each request");
        let (packing, _packing_end) = worker_job();
        sharing.join_job(&packing);
        assert_eq!(begin(Some(1.0)), None);
    }

    #[test]
    fn what_was_left_while_a_model_was_loaded_is_forgotten_when_it_serves() {
        let sharing = sharing(2);
        lock(&sharing.state.inner).seen.free = Some(0.0);
        let (one, one_end) = worker(&sharing);
        let (events, _answer) = Generation::channel(4);
        one.pending_calls.enter_generation(events).unwrap();
        sharing.stir();
        assert!(matches!(told(&one_end), Command::Cores(Cores { free: None, .. })));
        assert!(
            lock(&sharing.state.inner).has_joined,
            "and the look that is to come counts the load as well"
        );
    }

    #[test]
    fn small_changes_of_what_idles_are_no_news() {
        let cores = |share, idle| Cores { share, idle, free: None };
        assert!(!is_news(cores(2, Some(0.5)), cores(2, Some(0.55))));
        assert!(is_news(cores(2, Some(0.5)), cores(2, Some(0.7))));
        assert!(is_news(cores(2, None), cores(2, Some(0.0))));
        assert!(is_news(cores(2, None), cores(1, None)));
        let free = |free| Cores { free: Some(free), ..cores(2, None) };
        assert!(!is_news(free(1.0), free(1.05)));
        assert!(is_news(free(1.0), free(2.0)));
        assert!(is_news(free(1.0), cores(2, None)), "that was long ago");
    }
}
