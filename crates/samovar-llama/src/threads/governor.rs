//! The decision: from how steps went to the number of threads of the next one. Pure.
//!
//! ```text
//!   prompts ──► lane ─┐
//!   answers ──► lane ─┴─ each has its own number; one that pauses begins with what the other has found
//! ```

use super::lane::Lane;

/// What a step computes, which says how it gains from threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A chunk of prompts, perhaps with some answers beside it: bound by arithmetic.
    Prompt,
    /// A token of each answer: bound by memory.
    Answers,
}

/// From so many tokens a step is a chunk of prompts.
const PROMPT_TOKENS: usize = 32;
/// What each further answer of a step costs beside the first: a step of 1, 4 and 8 answers took 57, 129 and 200 ms
/// (1.1B, `Q4_K_M`, 2 cores).
const FURTHER_ANSWER: f64 = 0.36;

/// The kind of a step, and its work in a unit that makes steps of that kind comparable.
pub(super) fn weigh(tokens: usize) -> (Kind, f64) {
    let count = tokens.max(1) as f64;
    if tokens >= PROMPT_TOKENS {
        (Kind::Prompt, count)
    } else {
        (Kind::Answers, (count - 1.0).mul_add(FURTHER_ANSWER, 1.0))
    }
}

/// How a step went. Times are in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub threads: u32,
    pub work: f64,
    pub wall: f64,
    /// Processor time of the whole process.
    pub cpu: f64,
}

/// What is known of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Threads that a step may have.
    pub limit: u32,
    /// Unused cores, where that is known.
    pub idle: Option<f32>,
}

/// Threads of a step spin where they wait: each uses a whole core, unless another program has it. More than this part of
/// a core that is missing in all is more than noise.
pub(super) const SHORT_CORES: f64 = 0.2;
/// A pause after which a lane asks whether the other has found something meanwhile, in seconds.
const PAUSE: f64 = 1.0;
/// A pause after which nothing that was found counts any more, in seconds.
const LONG_PAUSE: f64 = 60.0;

/// Whether a step of so many threads did not get the cores for them.
pub(super) fn lacks_cores(threads: u32, wall: f64, cpu: f64) -> bool {
    threads > 1 && f64::from(threads) - cpu / wall.max(1e-9) > (f64::from(threads) * 0.15).max(0.4)
}

/// Chooses the number of threads.
#[derive(Debug)]
pub(super) struct Governor {
    most: u32,
    prompts: Lane,
    answers: Lane,
}

impl Governor {
    /// For steps of at most `most` threads.
    pub(super) fn new(most: u32) -> Self {
        let most = most.max(1);
        Self { most, prompts: Lane::new(most), answers: Lane::new(most) }
    }

    fn lanes(&mut self, kind: Kind) -> (&mut Lane, &Lane) {
        match kind {
            Kind::Prompt => (&mut self.prompts, &self.answers),
            Kind::Answers => (&mut self.answers, &self.prompts),
        }
    }

    /// Steps begin again, and other programs left so many cores just before. A kind that has paused begins with that
    /// many threads; one that has not knows better.
    pub(super) fn begin(&mut self, free: f32, view: View, now: f64) {
        let (most, limit) = (self.most, view.limit.clamp(1, self.most));
        for lane in [&mut self.prompts, &mut self.answers] {
            if now - lane.last > LONG_PAUSE {
                *lane = Lane::new(most);
            }
            if now - lane.last > PAUSE {
                lane.begin(free, limit);
                lane.last = now;
            }
        }
    }

    /// Threads of a step that begins at `now`, in seconds since any moment.
    pub(super) fn choose(&mut self, kind: Kind, view: View, now: f64) -> u32 {
        let most = self.most;
        let (lane, other) = self.lanes(kind);
        let before = lane.last;
        if now - before > LONG_PAUSE {
            *lane = Lane::new(most);
        }
        if now - before > PAUSE {
            let is_news = other.decided > before && now - other.decided < LONG_PAUSE;
            lane.resume(is_news.then_some(other.wish));
        }
        lane.last = now;
        lane.choose(view.limit.clamp(1, most))
    }

    /// How long a step may take, in seconds, if it lacks cores. `None` where it must be awaited.
    pub(super) fn step_limit(&mut self, kind: Kind, threads: u32, work: f64) -> Option<f64> {
        let (lane, _) = self.lanes(kind);
        // Of a chunk much is lost when it is computed again, and much when it keeps threads that hold each other up.
        let (times, least) = if kind == Kind::Prompt { (3.0, 1.5) } else { (5.0, 0.25) };
        // Before anything was measured it is unknown, but that much is unlikely for want of speed alone.
        let expected = lane.rate().map_or(0.1, |rate| work / rate);
        (threads > 1).then(|| (expected * times).max(least))
    }

    /// A step went like this.
    pub(super) fn note(&mut self, kind: Kind, step: &Step, view: View, now: f64) {
        let limit = view.limit.clamp(1, self.most);
        let (lane, _) = self.lanes(kind);
        lane.last = now;
        lane.note(step, View { limit, ..view }, now);
    }

    /// A step was broken off for lack of cores.
    pub(super) fn give_way(&mut self, kind: Kind, step: &Step, now: f64) {
        let (lane, _) = self.lanes(kind);
        lane.last = now;
        lane.give_way(step, now);
    }
}
