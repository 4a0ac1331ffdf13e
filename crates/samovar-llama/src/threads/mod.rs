//! How many threads a step has: as many as the machine gives, and no more.
//!
//! ```text
//!   parent, or other instances here ─► share ─┐
//!   /proc/stat, or the parent ────────► idle ─┼─► Governor ─► threads of the next step ─► decode ─┐
//!                                             └──────────── wall time, processor time ◄───────────┘
//! ```
//!
//! ggml's threads wait for each other by spinning, many times in a step: one that loses its core to another program
//! holds up all others, and a step then takes several times as long as with one thread less. So the number is chosen
//! before each step. Nothing here starts a thread or waits.

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
pub(crate) use self::share::{Computing, Peers, Place};

/// How often to look at the machine while computing.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A look that comes later says nothing about now.
const LOOK_STALE: Duration = Duration::from_secs(3);

/// Chooses the threads of each step of one instance.
#[derive(Debug)]
pub(crate) struct Threads<'a> {
    governor: Governor,
    allowance: &'a Allowance,
    /// The machine, where this process may look at it.
    watch: CoreWatch,
    born: Instant,
    looked: Option<Instant>,
    cores: u32,
    idle: Option<f32>,
    /// Of the last step.
    used: ThreadUse,
}

/// What is known of the step that is to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen {
    pub threads: u32,
    /// How long it may take, if it still lacks cores then.
    patience: Option<Duration>,
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
            cores,
            idle: None,
            used: ThreadUse { used: 0, most, why: ThreadsWhy::All },
        }
    }

    /// Whether others want the same cores, other models or other programs: then no step should take long.
    pub(crate) fn is_crowded(&self) -> bool {
        self.used.why == ThreadsWhy::OtherPrograms || self.allowance.share() < self.used.most.min(self.cores)
    }

    /// Chooses the threads of a step with so many tokens.
    pub(crate) fn choose(&mut self, tokens: usize) -> Chosen {
        let now = Instant::now();
        self.look(now);
        let (kind, work) = governor::weigh(tokens);
        let view = self.view();
        let threads = self.governor.choose(kind, view, self.age(now));
        let patience = self.governor.patience(kind, threads, work).map(Duration::from_secs_f64);
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
        Chosen { threads, patience, kind, work }
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
        let (view, age) = (self.view(), self.age(Instant::now()));
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
        match self.looked.map(|looked| now.duration_since(looked)) {
            Some(since) if since < LOOK_EVERY => return,
            Some(since) if since < LOOK_STALE => self.idle = self.watch.idle(now),
            // A mean over a pause says nothing about now. Long steps are no pause, but then idle cores can wait, too.
            _ => {
                self.watch.restart(now);
                self.idle = None;
            }
        }
        self.cores = self.watch.cores();
        self.looked = Some(now);
    }
}

/// Wall time and processor time of this process since a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    began: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), cpu: process_time() }
    }

    pub(crate) fn elapsed(&self) -> (Duration, Duration) {
        (self.began.elapsed(), process_time().saturating_sub(self.cpu))
    }

    /// Whether a step takes far longer than it should, for lack of cores. Asked between operations of the step.
    pub(crate) fn is_hopeless(&self, chosen: &Chosen) -> bool {
        let Some(patience) = chosen.patience else { return false };
        if self.began.elapsed() < patience {
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
