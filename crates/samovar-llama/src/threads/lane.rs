//! The number of threads for one kind of steps: kept while it serves, changed on trial, and kept if that was better. Pure.
//!
//! ```text
//!              cores are missing ─► fewer ─┐            ┌─ faster ─► kept
//!   steady ────┤                           ├─► trial ───┤
//!              cores idle, or long ago ─► more          └─ slower ─► back, and not again for a while
//! ```
//!
//! Where fewer are slower, fewer still are tried, down to one. A trial is a window of steps: two steps and 120 ms, or one step
//! of 240 ms. How long "a while" is doubles with each failure; what is clearly worse than at the last failure is tried at
//! once. So where nothing helps, hardly anything is lost by trying. While it is known that no core idles, more threads are
//! not tried: they could only share cores with others.

use super::governor::{SHORT_CORES, Step, View};

/// A window is full after this long and two steps, or one step of twice this; in seconds.
const WINDOW: f64 = 0.12;
/// The first step after a change is left out if it is shorter: threads move, caches fill. In seconds.
const SETTLING: f64 = 0.03;
/// A trial must gain this much to be kept.
const GAIN: f64 = 1.03;
/// A trial that is slower than this part of what was there ends at once.
const MUCH_SLOWER: f64 = 0.5;
/// Cores that must idle before more threads are tried.
const IDLE_CORES: f64 = 0.7;
/// With so many idle cores, what is missing is not taken by others: steps wait for the disk.
const NOT_OTHERS: f64 = 0.5;
/// With fewer idle cores than this there is none for a further thread, so that more are not tried.
const NONE_IDLE: f64 = 0.25;
/// Threads added and taken away again within so many seconds were no success.
const SHORT_LIVED: f64 = 2.0;

/// Keeps a direction from being tried again and again. Times are in seconds.
#[derive(Clone, Copy, Debug)]
struct Backoff {
    first: f64,
    longest: f64,
    wait: f64,
    until: f64,
    /// How bad things were when it failed.
    level: f64,
}

impl Backoff {
    const fn new(first: f64, longest: f64) -> Self {
        Self { first, longest, wait: 0.0, until: 0.0, level: f64::INFINITY }
    }

    /// Whether it may be tried: it is time, or things are worse than when it failed.
    fn allows(&self, now: f64, level: f64) -> bool {
        now >= self.until || level > self.level + 0.25
    }

    fn fail(&mut self, now: f64, level: f64) {
        self.wait = (self.wait * 2.0).clamp(self.first, self.longest);
        self.until = now + self.wait;
        self.level = level;
    }

    fn forget(&mut self) {
        *self = Self::new(self.first, self.longest);
    }

    /// Waits once, without a failure.
    fn hold(&mut self, now: f64) {
        self.until = self.until.max(now + self.first);
    }
}

/// What was seen of steps with one number of threads.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    threads: u32,
    steps: u32,
    work: f64,
    wall: f64,
    cpu: f64,
    is_settled: bool,
}

impl Window {
    fn add(&mut self, step: &Step) {
        if step.threads != self.threads {
            *self = Self { threads: step.threads, ..Self::default() };
        }
        if !std::mem::replace(&mut self.is_settled, true) && step.wall < SETTLING {
            return;
        }
        self.steps += 1;
        self.work += step.work;
        self.wall += step.wall;
        self.cpu += step.cpu;
    }

    fn is_full(&self) -> bool {
        self.wall >= WINDOW && self.steps >= 2 || self.wall >= 2.0 * WINDOW
    }

    fn rate(&self) -> f64 {
        self.work / self.wall.max(1e-9)
    }

    /// Cores that the threads did not get.
    fn missing(&self) -> f64 {
        f64::from(self.threads) - self.cpu / self.wall.max(1e-9)
    }
}

/// Why another number is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reason {
    /// So many cores are missing.
    Missing(f64),
    /// So many cores idle.
    Idle(f64),
    /// It was long ago.
    Time,
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    from: u32,
    rate: f64,
    reason: Reason,
}

/// The number of threads for one kind of steps, and what is known of it.
#[derive(Debug)]
pub(super) struct Lane {
    most: u32,
    /// Threads wanted; `most` stands for as many as are allowed.
    pub(super) wish: u32,
    limit: u32,
    window: Window,
    /// Work in a second, as last seen.
    rate: Option<f64>,
    trial: Option<Trial>,
    down: Backoff,
    up: Backoff,
    blind: Backoff,
    raised_at: Option<f64>,
    /// When its number was last found to be right or wrong, in seconds.
    pub(super) decided: f64,
    /// When something was last heard of it, in seconds.
    pub(super) last: f64,
}

impl Lane {
    pub(super) const fn new(most: u32) -> Self {
        Self {
            most,
            wish: most,
            limit: most,
            window: Window { threads: 0, steps: 0, work: 0.0, wall: 0.0, cpu: 0.0, is_settled: false },
            rate: None,
            trial: None,
            down: Backoff::new(1.0, 32.0),
            up: Backoff::new(0.5, 8.0),
            blind: Backoff::new(4.0, 64.0),
            raised_at: None,
            decided: f64::NEG_INFINITY,
            last: f64::NEG_INFINITY,
        }
    }

    pub(super) const fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// Begins again after a pause; with what the other kind has found meanwhile, if it has.
    pub(super) fn resume(&mut self, found: Option<u32>) {
        self.end_trial();
        self.window = Window::default();
        self.up.forget();
        self.wish = found.unwrap_or(self.wish);
    }

    /// Begins after a pause, with as many threads as others leave cores.
    pub(super) fn begin(&mut self, free: f32, limit: u32) {
        self.resume(None);
        self.limit = limit;
        self.want((f64::from(free) + 1.0 - IDLE_CORES) as u32);
    }

    pub(super) fn choose(&mut self, limit: u32) -> u32 {
        if limit != self.limit {
            // What was being compared was something else.
            self.end_trial();
            self.window = Window::default();
            self.limit = limit;
        }
        self.threads()
    }

    fn threads(&self) -> u32 {
        self.wish.min(self.limit)
    }

    fn end_trial(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.want(trial.from);
        }
    }

    fn want(&mut self, threads: u32) {
        self.wish = if threads >= self.limit { self.most } else { threads.max(1) };
    }

    /// A step went like this.
    pub(super) fn note(&mut self, step: &Step, view: View, now: f64) {
        if step.threads != self.threads() {
            return;
        }
        self.window.add(step);
        if let Some(trial) = self.trial
            && step.work / step.wall.max(1e-9) < trial.rate * MUCH_SLOWER
            && step.wall > SETTLING
        {
            return self.conclude(trial, 0.0, now);
        }
        if !self.window.is_full() {
            return;
        }
        let window = std::mem::replace(
            &mut self.window,
            Window { threads: step.threads, is_settled: true, ..Window::default() },
        );
        let rate = window.rate();
        if let Some(trial) = self.trial {
            return self.conclude(trial, rate, now);
        }
        self.rate = Some(rate);
        self.consider(rate, window.missing(), view, now);
    }

    /// Keeps what was tried if it gained.
    fn conclude(&mut self, trial: Trial, rate: f64, now: f64) {
        self.trial = None;
        self.decided = now;
        if rate > trial.rate * GAIN {
            self.rate = Some(rate);
            if let Reason::Missing(_) = trial.reason {
                self.lowered(now);
            } else {
                self.raised_at = Some(now);
            }
            return;
        }
        let tried = self.threads();
        self.want(trial.from);
        match trial.reason {
            Reason::Missing(_) if tried > 1 => {
                // Between two numbers that are both bad there is no slope to follow.
                self.want(tried / 2);
                self.trial = Some(trial);
            }
            Reason::Missing(level) => self.down.fail(now, level),
            Reason::Idle(level) => self.up.fail(now, level),
            Reason::Time => self.blind.fail(now, f64::INFINITY),
        }
    }

    /// Fewer threads were better.
    fn lowered(&mut self, now: f64) {
        self.down.forget();
        self.blind.hold(now);
        if self.raised_at.take().is_some_and(|raised| now - raised < SHORT_LIVED) {
            self.up.fail(now, f64::INFINITY);
        }
    }

    /// Begins a trial if there is reason for one.
    fn consider(&mut self, rate: f64, missing: f64, view: View, now: f64) {
        let (threads, idle) = (self.threads(), view.idle.map(f64::from));
        let is_short = missing > SHORT_CORES && idle.is_none_or(|idle| idle < NOT_OTHERS);
        if self.raised_at.is_some_and(|raised| now - raised > SHORT_LIVED) && !is_short {
            self.raised_at = None;
            self.up.forget();
            self.blind.forget();
        }
        let (candidate, reason) = if is_short && threads > 1 && self.down.allows(now, missing) {
            let fewer = (missing - SHORT_CORES).ceil().max(1.0) as u32;
            (threads.saturating_sub(fewer).max(1), Reason::Missing(missing))
        } else if threads < self.limit
            && let Some(idle) = idle.filter(|idle| *idle >= IDLE_CORES)
            && self.up.allows(now, idle)
        {
            (threads + (idle + 1.0 - IDLE_CORES) as u32, Reason::Idle(idle))
        } else if threads < self.limit
            && missing <= SHORT_CORES
            && idle.is_none_or(|idle| idle >= NONE_IDLE)
            && now >= self.blind.until
        {
            (if idle.is_none() { threads * 2 } else { threads + 1 }, Reason::Time)
        } else {
            return;
        };
        let from = threads;
        self.want(candidate.min(self.limit));
        self.trial = Some(Trial { from, rate, reason });
    }

    /// A step was broken off for lack of cores.
    pub(super) fn give_way(&mut self, step: &Step, now: f64) {
        let threads = step.threads;
        if threads != self.threads() || threads <= 1 {
            return;
        }
        if let Some(trial) = self.trial.filter(|trial| trial.from < threads) {
            return self.conclude(trial, 0.0, now);
        }
        self.trial = None;
        self.decided = now;
        let got = (step.cpu / step.wall.max(1e-9)).round() as u32;
        self.want(got.clamp(1, threads - 1));
        self.lowered(now);
    }
}
