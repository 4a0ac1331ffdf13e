//! Who computes with how many threads: the workers that have requests share the cores of this process.
//!
//! ```text
//!   a request begins ─► stir ─┐
//!   every 200 ms while any ───┴─► who has requests? ─► split ─► told to each whose share has changed, with what idles
//! ```
//!
//! Threads of one step wait for each other by spinning, so two models that each use all cores slow each other down by
//! far more than half. Shares follow from what was asked of each worker, never from what a worker says of itself.

use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use samovar_core::cores::{CoreWatch, Cores, split};
use samovar_core::{ErrorKind, Failure};

use super::lock;
use super::worker::Shared;
use crate::protocol::Command;

/// How often to look while anybody computes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Idle cores are told anew when they differ by this.
const IDLE_STEP: f32 = 0.1;

/// Divides the cores.
#[derive(Debug)]
pub(super) struct Sharing {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    inner: Mutex<Inner>,
    /// Somebody has begun to compute, or it is over.
    stirred: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    members: Vec<Member>,
    watch: CoreWatch,
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

impl Sharing {
    /// Begins to watch, on a thread of its own that sleeps while nobody computes.
    pub(super) fn start() -> Result<Arc<Self>, Failure> {
        let state = Arc::<State>::default();
        let watched = Arc::clone(&state);
        std::thread::Builder::new().name("cores".to_owned()).spawn(move || watched.watch()).map_err(
            |error| Failure::new(ErrorKind::EngineFailed, format!("no thread to share cores: {error}")),
        )?;
        Ok(Arc::new(Self { state }))
    }

    /// A worker serves from now on, with at most so many threads a step.
    pub(super) fn join(&self, shared: &Arc<Shared>, wanted: u32) {
        let member = Member { shared: Arc::downgrade(shared), wanted, told: None };
        lock(&self.state.inner).members.push(member);
    }

    /// A request has begun: shares are told before this returns. Waits for no worker.
    pub(super) fn stir(&self) {
        let mut inner = lock(&self.state.inner);
        if !inner.is_anybody_computing {
            // What idled while nobody computed says nothing about now.
            inner.watch.restart(Instant::now());
            inner.idle = None;
        }
        inner.divide();
        drop(inner);
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
    fn watch(&self) {
        let mut inner = lock(&self.inner);
        while !inner.is_over {
            if !inner.is_anybody_computing {
                inner = self.stirred.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner);
                continue;
            }
            drop(inner);
            std::thread::sleep(LOOK_EVERY);
            inner = lock(&self.inner);
            inner.idle = inner.watch.idle(Instant::now());
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
            .filter(|(shared, _)| shared.roll.is_answering())
            .collect();
        self.is_anybody_computing = !computing.is_empty();
        if computing.is_empty() {
            return;
        }
        let wanted: Vec<u32> = computing.iter().map(|(_, member)| member.wanted).collect();
        let shares = split(self.watch.cores(), &wanted);
        for ((shared, member), share) in computing.iter_mut().zip(shares) {
            let cores = Cores { share, idle: self.idle };
            if member.told.is_none_or(|told| is_news(told, cores))
                // One that does not listen just now is told at the next look.
                && shared.tell(&Command::Cores(cores), Vec::new()).is_ok()
            {
                member.told = Some(cores);
            }
        }
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
    use samovar_core::generation::Generation;

    use super::*;
    use crate::protocol::{Inbox, decode, pair, receive};

    /// A worker's two ends.
    fn worker(sharing: &Sharing) -> (Arc<Shared>, std::os::fd::OwnedFd) {
        let (ours, theirs) = pair().unwrap();
        let shared = Arc::new(Shared::new(1, "served", Arc::new(ours)).unwrap());
        sharing.join(&shared, 64);
        (shared, theirs)
    }

    /// The share that was told first since the last call.
    fn share(theirs: &std::os::fd::OwnedFd) -> u32 {
        let mut buffer = [0; 4096];
        let bytes = receive(theirs, &mut buffer).unwrap().bytes;
        let mut inbox = Inbox::default();
        inbox.put(&buffer[..bytes]);
        match decode(inbox.take().unwrap().unwrap()).unwrap() {
            Command::Cores(cores) => cores.share,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn workers_with_requests_share_and_those_without_hear_nothing() {
        let sharing = Sharing { state: Arc::default() };
        let cores = CoreWatch::new().cores();
        let (one, one_end) = worker(&sharing);
        let (other, other_end) = worker(&sharing);
        let (_idle, _idle_end) = worker(&sharing);
        let (events, _one_answer) = Generation::channel(4);
        one.roll.enter_generation(events).unwrap();
        sharing.stir();
        assert_eq!(share(&one_end), cores.min(64));
        let (events, _other_answer) = Generation::channel(4);
        let id = other.roll.enter_generation(events).unwrap();
        sharing.stir();
        let (first, second) =
            if cores == 1 { (1, share(&other_end)) } else { (share(&one_end), share(&other_end)) };
        assert!(first + second <= cores.max(2) && first >= 1 && second >= 1, "{first} {second} of {cores}");
        other.roll.strike(id);
        sharing.stir();
        if cores > 1 {
            assert_eq!(share(&one_end), cores.min(64));
        }
    }

    #[test]
    fn who_computes_alone_again_has_all_within_a_look() {
        let sharing = Sharing::start().unwrap();
        let (one, one_end) = worker(&sharing);
        let (other, _other_end) = worker(&sharing);
        let (events, _one_answer) = Generation::channel(4);
        one.roll.enter_generation(events).unwrap();
        let (events, _other_answer) = Generation::channel(4);
        let id = other.roll.enter_generation(events).unwrap();
        sharing.stir();
        let shared = share(&one_end);
        other.roll.strike(id);
        let cores = CoreWatch::new().cores().min(64);
        let deadline = Instant::now() + Duration::from_secs(30);
        while cores > 1 && share(&one_end) < cores {
            assert!(Instant::now() < deadline, "{shared} of {cores}");
        }
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
