//! What an instance may compute with: told by the holder of several workers, or found among the instances of this process.
//!
//! It counts and divides. It never waits for an instance that computes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::cores::{CoreWatch, Cores, split};

/// A figure that is not known.
const UNKNOWN: u32 = u32::MAX;
/// Parts of a core in which idle and free cores are kept.
const PARTS: f32 = 1024.0;

/// What one instance may have. Written by others, read before each step.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// By word from outside.
    told: AtomicU32,
    /// By division between the instances of this process.
    divided: AtomicU32,
    idle: AtomicU32,
    free: AtomicU32,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            told: AtomicU32::new(u32::MAX),
            divided: AtomicU32::new(u32::MAX),
            idle: AtomicU32::new(UNKNOWN),
            free: AtomicU32::new(UNKNOWN),
        }
    }
}

impl Allowance {
    /// The holder of several workers says so.
    pub(crate) fn tell(&self, cores: Cores) {
        self.idle.store(to_parts(cores.idle), Ordering::Relaxed);
        self.free.store(to_parts(cores.free), Ordering::Relaxed);
        self.told.store(cores.share.max(1), Ordering::Release);
    }

    /// Threads of a step at most.
    pub(super) fn share(&self) -> u32 {
        self.told.load(Ordering::Acquire).min(self.divided.load(Ordering::Acquire))
    }

    /// Idle cores, if that is known.
    pub(super) fn idle(&self) -> Option<f32> {
        from_parts(self.idle.load(Ordering::Relaxed))
    }

    /// Cores that other programs left, if the parent said so since the last call.
    pub(super) fn take_free(&self) -> Option<f32> {
        from_parts(self.free.swap(UNKNOWN, Ordering::Relaxed))
    }
}

fn to_parts(cores: Option<f32>) -> u32 {
    cores.map_or(UNKNOWN, |cores| (cores.clamp(0.0, 1e6) * PARTS) as u32)
}

fn from_parts(parts: u32) -> Option<f32> {
    (parts != UNKNOWN).then_some(parts as f32 / PARTS)
}

/// The instances of this process that compute now.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    members: Mutex<Vec<Member>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Member {
    id: u64,
    wanted: u32,
    allowance: Arc<Allowance>,
}

impl Peers {
    /// An instance computes until this is dropped, with at most so many threads.
    fn compute(self: &Arc<Self>, wanted: u32, allowance: &Arc<Allowance>) -> Computing {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut members = self.members();
        members.push(Member { id, wanted, allowance: Arc::clone(allowance) });
        divide(&members);
        drop(members);
        Computing { peers: Arc::clone(self), id }
    }

    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn divide(members: &[Member]) {
    if members.is_empty() {
        return;
    }
    if let [only] = members {
        // Nothing to divide: how many cores there are is looked at before each step.
        only.allowance.divided.store(u32::MAX, Ordering::Release);
        return;
    }
    let wanted: Vec<u32> = members.iter().map(|member| member.wanted).collect();
    for (member, share) in members.iter().zip(split(CoreWatch::new().cores(), &wanted)) {
        member.allowance.divided.store(share, Ordering::Release);
    }
}

/// The place of one instance among those that compute.
#[derive(Clone, Debug)]
pub(crate) struct PeerPlace {
    pub(crate) allowance: Arc<Allowance>,
    peers: Arc<Peers>,
}

impl PeerPlace {
    /// A place of its own beside these.
    pub(crate) fn beside(peers: &Arc<Peers>) -> Self {
        Self { allowance: Arc::default(), peers: Arc::clone(peers) }
    }

    /// It computes until what is returned is dropped, with at most so many threads.
    pub(crate) fn compute(&self, wanted: u32) -> Computing {
        self.peers.compute(wanted, &self.allowance)
    }
}

/// An instance that computes.
#[derive(Debug)]
pub(crate) struct Computing {
    peers: Arc<Peers>,
    id: u64,
}

impl Drop for Computing {
    fn drop(&mut self) {
        let mut members = self.peers.members();
        members.retain(|member| member.id != self.id);
        divide(&members);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_that_compute_together_share_and_one_alone_has_all() {
        let peers = Arc::<Peers>::default();
        let [one, other] = [(); 2].map(|()| Arc::<Allowance>::default());
        let first = peers.compute(64, &one);
        assert_eq!(one.share(), u32::MAX);
        let second = peers.compute(64, &other);
        let cores = CoreWatch::new().cores();
        assert!(one.share() + other.share() <= cores.max(2), "{one:?} {other:?}");
        assert!(one.share() >= 1 && other.share() >= 1);
        drop(first);
        assert_eq!(other.share(), u32::MAX);
        drop(second);
    }

    #[test]
    fn the_smaller_of_both_words_counts() {
        let allowance = Allowance::default();
        assert_eq!((allowance.share(), allowance.idle()), (u32::MAX, None));
        allowance.tell(Cores { share: 0, idle: Some(0.5), free: None });
        assert_eq!((allowance.share(), allowance.idle()), (1, Some(0.5)));
        allowance.tell(Cores { share: 3, idle: None, free: None });
        assert_eq!((allowance.share(), allowance.idle()), (3, None));
    }

    #[test]
    fn what_others_left_counts_once() {
        let allowance = Allowance::default();
        assert_eq!(allowance.take_free(), None);
        allowance.tell(Cores { share: 2, idle: None, free: Some(1.5) });
        assert_eq!((allowance.take_free(), allowance.take_free()), (Some(1.5), None));
    }
}
