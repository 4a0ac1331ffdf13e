//! How many threads a step has: as many as the machine gives, and no more.
//!
//! ```text
//!   parent, or other instances here ─► share ─┐
//!   /proc/stat, or the parent ──► idle, free ─┼─► Governor ─► threads of the next step ─► decode ─┐
//!                                             └──────────── wall time, processor time ◄───────────┘
//! ```
//!
//! ggml's threads wait for each other by spinning, many times in a step: one that loses its core to another program
//! holds up all others, and a step then takes several times as long as with one thread less. So the number is chosen
//! before each step. Nothing here starts a thread or waits.

mod disk;
mod governor;
mod lane;
mod share;
#[cfg(test)]
mod simulation;

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use samovar_core::ThreadUse;
use samovar_core::cores::{CoreWatch, ThreadsWhy};

use self::governor::{Governor, Kind, Step, View};
use self::share::Allowance;
pub(crate) use self::share::{Computing, PeerPlace, Peers};

/// How often to look at the machine while computing.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A look that comes later says nothing about now.
const LOOK_STALE: Duration = Duration::from_secs(3);
/// A step of this length that lacks cores is held up by others, and not by the moment in which threads wake.
const LONG_STEP: Duration = Duration::from_millis(250);
/// For so long after such a step no chunk is long.
const CROWDED_FOR: Duration = Duration::from_secs(5);

/// What this process sees of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Nothing yet, or others tell.
    None,
    /// What has happened since the last look.
    Since,
    /// It may not look, as in a sandbox, and no longer tries.
    Denied,
}

/// Chooses the threads of each step of one instance.
#[derive(Debug)]
pub(crate) struct Threads<'a> {
    governor: Governor,
    allowance: &'a Allowance,
    /// The machine, where this process may look at it.
    watch: CoreWatch,
    born: Instant,
    looked: Option<Instant>,
    sight: Sight,
    cores: u32,
    idle: Option<f32>,
    /// When a long step lacked cores last.
    crowded: Option<Instant>,
    /// Of the last step.
    used: ThreadUse,
}

/// What is known of the step that is to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen {
    pub threads: u32,
    /// How long it may take, if it still lacks cores then.
    step_limit: Option<Duration>,
    kind: Kind,
    work: f64,
}

impl<'a> Threads<'a> {
    /// For an instance that may compute with `most` threads.
    pub(crate) fn new(most: u32, allowance: &'a Allowance) -> Self {
        let watch = CoreWatch::new();
        let cores = watch.cores();
        Self {
            governor: Governor::new(most),
            allowance,
            watch,
            born: Instant::now(),
            looked: None,
            sight: Sight::None,
            cores,
            idle: None,
            crowded: None,
            used: ThreadUse { used: 0, most, why: ThreadsWhy::All },
        }
    }

    /// Whether others want the same cores, other models or other programs, or wanted them a moment ago: then no step
    /// should take long.
    pub(crate) fn is_crowded(&self) -> bool {
        self.used.why == ThreadsWhy::OtherPrograms
            || self.allowance.share() < self.used.most.min(self.cores)
            || self.crowded.is_some_and(|crowded| crowded.elapsed() < CROWDED_FOR)
    }

    /// The instance begins to compute: with as many threads as other programs leave cores, if the parent said so.
    pub(crate) fn begin(&mut self) {
        if let Some(free) = self.allowance.take_free() {
            let (view, age) = (self.view(), self.age(Instant::now()));
            self.governor.begin(free, view, age);
        }
    }

    /// Chooses the threads of a step with so many tokens.
    pub(crate) fn choose(&mut self, tokens: usize) -> Chosen {
        let now = Instant::now();
        self.look(now);
        let (kind, work) = governor::weigh(tokens);
        let view = self.view();
        let threads = self.governor.choose(kind, view, self.age(now));
        let step_limit = self.governor.step_limit(kind, threads, work).map(Duration::from_secs_f64);
        let most = self.used.most;
        let why = if threads >= most {
            ThreadsWhy::All
        } else if threads < view.limit {
            ThreadsWhy::OtherPrograms
        } else if self.allowance.share() < most.min(self.cores) {
            ThreadsWhy::OtherModels
        } else {
            ThreadsWhy::FewCores
        };
        self.used = ThreadUse { used: threads, most, why };
        Chosen { threads, step_limit, kind, work }
    }

    /// Takes note of how a step went; of one that was broken off, too, if that was for lack of cores.
    pub(crate) fn note(&mut self, chosen: &Chosen, watch: &Stopwatch, is_whole: bool) {
        let (wall, cpu) = watch.elapsed();
        let step = Step {
            threads: chosen.threads,
            work: chosen.work,
            wall: wall.as_secs_f64(),
            cpu: cpu.as_secs_f64(),
        };
        let now = Instant::now();
        let (view, age) = (self.view(), self.age(now));
        if wall >= LONG_STEP && governor::lacks_cores(step.threads, step.wall, step.cpu) {
            self.crowded = Some(now);
        }
        if is_whole {
            self.governor.note(chosen.kind, &step, view, age);
        } else {
            self.governor.give_way(chosen.kind, &step, age);
        }
    }

    /// The threads of the last step, and why.
    pub(crate) fn used(&self) -> ThreadUse {
        self.used
    }

    fn view(&self) -> View {
        View { limit: self.allowance.share().min(self.cores), idle: self.allowance.idle().or(self.idle) }
    }

    fn age(&self, now: Instant) -> f64 {
        now.duration_since(self.born).as_secs_f64()
    }

    /// Looks at the machine, if it is time.
    fn look(&mut self, now: Instant) {
        let since = self.looked.map_or(Duration::MAX, |looked| now.duration_since(looked));
        if since < LOOK_EVERY {
            return;
        }
        let is_told = self.allowance.idle().is_some();
        (self.idle, self.sight) = match self.sight {
            Sight::Denied => (None, Sight::Denied),
            _ if is_told => (None, Sight::None),
            Sight::Since if since < LOOK_STALE => {
                let idle = self.watch.idle(now);
                (idle, if idle.is_some() { Sight::Since } else { Sight::Denied })
            }
            // A mean over a pause says nothing about now. Long steps are no pause, but then idle cores can wait, too.
            _ => (None, if self.watch.restart(now) { Sight::Since } else { Sight::Denied }),
        };
        self.cores = self.watch.cores();
        self.looked = Some(now);
    }
}

/// Wall time and processor time of this process since a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    began: Instant,
    cpu: Duration,
    disk_waits: u64,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), cpu: process_time(), disk_waits: disk::waits() }
    }

    /// Both. Waits for the disk count as processor time, with the most that they may have taken: no other program has
    /// the cores then.
    pub(crate) fn elapsed(&self) -> (Duration, Duration) {
        let cpu = process_time().saturating_sub(self.cpu);
        let waited = disk::waited(disk::waits().wrapping_sub(self.disk_waits));
        (self.began.elapsed(), cpu.saturating_add(waited))
    }

    /// Whether a step takes far longer than it should, for lack of cores. Asked between operations of the step.
    pub(crate) fn is_hopeless(&self, chosen: &Chosen) -> bool {
        let Some(step_limit) = chosen.step_limit else { return false };
        if self.began.elapsed() < step_limit {
            return false;
        }
        let (wall, cpu) = self.elapsed();
        governor::lacks_cores(chosen.threads, wall.as_secs_f64(), cpu.as_secs_f64())
    }
}

/// Processor time of all threads of this process.
pub(crate) fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use samovar_core::cores::Cores;

    use super::*;

    const CHOSEN: Chosen =
        Chosen { threads: 2, step_limit: Some(Duration::from_millis(250)), kind: Kind::Prompt, work: 64.0 };

    /// A step that began half a second ago and has had no processor time since, but waited for the disk so many times.
    fn starved(disk_waits: u64) -> Stopwatch {
        let began =
            Instant::now().checked_sub(Duration::from_millis(500)).expect("the machine runs for longer");
        Stopwatch { began, cpu: process_time(), disk_waits: disk::waits().wrapping_sub(disk_waits) }
    }

    #[test]
    fn a_step_that_waits_for_the_disk_lacks_no_cores() {
        assert!(starved(0).is_hopeless(&CHOSEN));
        assert!(!starved(1000).is_hopeless(&CHOSEN));
        let (wall, cpu) = starved(50).elapsed();
        assert!(wall >= Duration::from_millis(500) && cpu >= Duration::from_secs(1), "{wall:?} {cpu:?}");
    }

    #[test]
    fn after_a_long_step_that_lacked_cores_no_chunk_is_long() {
        let allowance = Allowance::default();
        let mut threads = Threads::new(2, &allowance);
        assert!(!threads.is_crowded());
        threads.note(&CHOSEN, &starved(1000), true);
        assert!(!threads.is_crowded(), "the disk is no other program");
        threads.note(&CHOSEN, &starved(0), true);
        assert!(threads.is_crowded());
    }

    #[test]
    fn begins_with_the_cores_that_others_leave() {
        let allowance = Allowance::default();
        let mut threads = Threads::new(2, &allowance);
        // A machine of two cores, whatever this one has: it is not looked at.
        (threads.cores, threads.looked) = (2, Some(Instant::now() + LOOK_STALE));
        let told = |free| allowance.tell(Cores { share: 2, idle: None, free: Some(free) });
        told(1.1);
        threads.begin();
        assert_eq!(threads.choose(1).threads, 1);
        assert_eq!(threads.used(), ThreadUse { used: 1, most: 2, why: ThreadsWhy::OtherPrograms });
        told(2.0);
        threads.begin();
        assert_eq!(threads.choose(1).threads, 1, "it computed a moment ago, and knows better");
    }

    #[test]
    fn looks_at_the_machine_only_while_nobody_tells_and_it_may() {
        let allowance = Allowance::default();
        let mut threads = Threads::new(2, &allowance);
        if !CoreWatch::new().restart(Instant::now()) {
            return;
        }
        let told = |idle| allowance.tell(Cores { share: 2, idle, free: None });
        let mut now = Instant::now();
        let mut look = |threads: &mut Threads<'_>| {
            now += LOOK_EVERY;
            threads.look(now);
            (threads.sight, threads.idle.is_some())
        };
        assert_eq!(look(&mut threads), (Sight::Since, false));
        assert_eq!(look(&mut threads), (Sight::Since, true));
        told(Some(1.0));
        assert_eq!(look(&mut threads), (Sight::None, false));
        told(None);
        assert_eq!(look(&mut threads), (Sight::Since, false), "the last look was long ago");
        threads.sight = Sight::Denied;
        assert_eq!(look(&mut threads), (Sight::Denied, false));
        assert_eq!(look(&mut threads), (Sight::Denied, false));
    }
}
