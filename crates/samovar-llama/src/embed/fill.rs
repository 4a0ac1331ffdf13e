//! How full batches are made: as full as computes the most tokens a second, and as can be waited for. Pure.
//!
//! ```text
//!   128   256   512 ...  budget
//!          ▲ steady ──now and then──► trial of a neighbour ──► kept if it gains, else back, and not again for a while
//! ```
//!
//! llama.cpp computes all sequences of a batch in one block-masked attention, whose cost grows with the square of the
//! batch; matrices want batches that are not too small. Where the best lies between is for the machine and the model to say.

/// The least that is worth a batch of its own.
pub(crate) const LEAST_TOKENS: usize = 128;
/// Where it begins.
const FIRST_TOKENS: usize = 256;
/// Full batches that make a measurement, or so many seconds of them.
const BATCHES: u32 = 3;
const SECONDS: f64 = 0.5;
/// A trial must gain this much to be kept.
const GAIN: f64 = 1.03;
/// Batches take no longer, where smaller ones can be made: others wait for them. In seconds.
const LONGEST_BATCH: f64 = 0.25;
/// Measurements between two trials: at first, and at most.
const WAIT: (u32, u32) = (2, 64);
/// A batch says something about its level if it has so much of it.
const FULL: f64 = 0.75;

/// Chooses how many tokens a batch has.
#[derive(Debug)]
pub(crate) struct Fill {
    levels: Vec<usize>,
    current: usize,
    /// The level that is being tried, and the rate to beat.
    trial: Option<(usize, f64)>,
    /// Whether the next trial is of a larger level.
    is_upwards: bool,
    wait: u32,
    /// Measurements since the last trial.
    measured: u32,
    batches: u32,
    tokens: usize,
    seconds: f64,
}

impl Fill {
    /// For batches of at most `budget` tokens.
    pub(crate) fn new(budget: usize) -> Self {
        let powers = std::iter::successors(Some(LEAST_TOKENS), |tokens| tokens.checked_mul(2));
        let mut levels: Vec<usize> = powers.take_while(|tokens| *tokens < budget).collect();
        levels.push(budget);
        let current = levels.iter().rposition(|tokens| *tokens <= FIRST_TOKENS).unwrap_or(0);
        Self {
            levels,
            current,
            trial: None,
            is_upwards: true,
            wait: WAIT.0,
            measured: 0,
            batches: 0,
            tokens: 0,
            seconds: 0.0,
        }
    }

    /// Tokens of the next batch at most, if no input of it has more.
    pub(crate) fn tokens(&self) -> usize {
        self.levels[self.level()]
    }

    fn level(&self) -> usize {
        self.trial.map_or(self.current, |(level, _)| level)
    }

    /// A batch of so many tokens took so long.
    pub(crate) fn note(&mut self, tokens: usize, seconds: f64) {
        if (tokens as f64) < self.tokens() as f64 * FULL || seconds <= 0.0 {
            return;
        }
        self.batches += 1;
        self.tokens += tokens;
        self.seconds += seconds;
        if self.batches < BATCHES && self.seconds < SECONDS {
            return;
        }
        let rate = self.tokens as f64 / self.seconds;
        (self.batches, self.tokens, self.seconds) = (0, 0, 0.0);
        match self.trial.take() {
            Some((level, before)) => self.conclude(level, rate > before * GAIN && self.is_quick(level, rate)),
            None => self.consider(rate),
        }
    }

    /// Whether batches of a level can be waited for.
    fn is_quick(&self, level: usize, rate: f64) -> bool {
        level == 0 || self.levels[level] as f64 / rate <= LONGEST_BATCH
    }

    fn conclude(&mut self, level: usize, is_better: bool) {
        self.measured = 0;
        if is_better {
            self.current = level;
            self.wait = WAIT.0;
        } else {
            self.is_upwards = !self.is_upwards;
            self.wait = (self.wait * 2).min(WAIT.1);
        }
    }

    /// Goes down where batches take too long; tries a neighbour if it is time.
    fn consider(&mut self, rate: f64) {
        if !self.is_quick(self.current, rate) {
            self.current -= 1;
            self.measured = 0;
            return;
        }
        self.measured += 1;
        if self.measured < self.wait {
            return;
        }
        if self.neighbour(rate).is_none() {
            self.is_upwards = !self.is_upwards;
        }
        self.trial = self.neighbour(rate).map(|level| (level, rate));
    }

    /// The level that is to be tried next.
    fn neighbour(&self, rate: f64) -> Option<usize> {
        let level = if self.is_upwards { self.current + 1 } else { self.current.checked_sub(1)? };
        (level < self.levels.len() && self.is_quick(level, rate)).then_some(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets full batches run on a machine where one of so many tokens takes so many seconds; returns the sizes.
    fn run(fill: &mut Fill, batches: usize, seconds: impl Fn(f64) -> f64) -> Vec<usize> {
        let step = |_| {
            let tokens = fill.tokens();
            fill.note(tokens, seconds(tokens as f64));
            tokens
        };
        (0..batches).map(step).collect()
    }

    /// How many of the last batches were of this size.
    fn share(sizes: &[usize], tokens: usize) -> f64 {
        let last = &sizes[sizes.len() / 2..];
        last.iter().filter(|size| **size == tokens).count() as f64 / last.len() as f64
    }

    #[test]
    fn levels_are_powers_of_two_and_the_budget() {
        assert_eq!(Fill::new(512).levels, [128, 256, 512]);
        assert_eq!(Fill::new(1280).levels, [128, 256, 512, 1024, 1280]);
        assert_eq!((Fill::new(512).tokens(), Fill::new(100).tokens()), (256, 100));
    }

    #[test]
    fn goes_where_most_tokens_are_computed_and_stays_there() {
        // A fixed cost of each batch, a cost of each token, and one of each pair of tokens.
        let machine =
            |fixed: f64, pair: f64| move |tokens: f64| fixed + tokens * 1e-5 + tokens * tokens * pair;
        for (fixed, pair, best) in
            [(0.0, 1e-7, 128), (2e-2, 0.0, 4096), (4e-4, 4e-9, 256), (1.6e-3, 1.5e-9, 1024)]
        {
            let sizes = run(&mut Fill::new(4096), 2_000, machine(fixed, pair));
            assert!(share(&sizes, best) > 0.9, "{best}: {}", share(&sizes, best));
        }
    }

    #[test]
    fn a_machine_that_changes_is_noticed() {
        let mut fill = Fill::new(2048);
        let sizes = run(&mut fill, 1_000, |tokens| 2e-2 + tokens * 1e-5);
        assert!(share(&sizes, 2048) > 0.9);
        let sizes = run(&mut fill, 2_000, |tokens| tokens * 1e-5 + tokens * tokens * 1e-7);
        assert!(share(&sizes, 128) > 0.9);
    }

    #[test]
    fn where_all_is_slow_nobody_waits_for_full_batches() {
        let sizes = run(&mut Fill::new(4096), 100, |tokens| 0.1 + tokens * 1e-2);
        assert!(share(&sizes, 128) > 0.99);
        // 250 ms are enough for 512 tokens and not for 1,024.
        let sizes = run(&mut Fill::new(4096), 1_000, |tokens| 0.05 + tokens * 2e-4);
        assert!(sizes.iter().skip(100).all(|size| *size <= 512), "{:?}", sizes.iter().max());
        assert!(share(&sizes, 512) > 0.9);
    }

    #[test]
    fn batches_that_are_not_full_say_nothing() {
        let mut fill = Fill::new(1024);
        for _ in 0..1_000 {
            fill.note(100, 1e-3);
        }
        assert_eq!((fill.tokens(), fill.measured), (256, 0));
    }
}
