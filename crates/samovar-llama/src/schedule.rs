//! What one step of the loop computes: one token of every running sequence, and a chunk of prompts.
//!
//! ```text
//!   sequences    A decodes   B decodes   C: 900 prompt tokens to go   D: 40 to go
//!   this step    1           1           half a chunk                 the other half
//!   next step    1           1           a chunk                      1, it decodes now
//! ```
//!
//! Half of a chunk goes to the oldest prompt, so that it gets on; the rest to the shortest, so that a
//! long one does not stall it. How long a chunk is depends on who waits for it, and on the pace seen so
//! far. Pure.

use std::time::Duration;

/// What a sequence has to compute next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// One token, and a new one is sampled from it.
    Decode,
    /// Tokens of its prompt not computed yet, or tokens of its answer that were not sampled.
    Prefill { tokens: usize },
    /// Nothing: it waits for another's prefix.
    Wait,
}

/// Tokens that each sequence computes in the next step; 0 = not in this step. `works` are in order of
/// arrival.
pub(crate) fn pick(works: &[Work], batch_tokens: usize, chunk_tokens: usize) -> Vec<usize> {
    let mut parts = vec![0; works.len()];
    let mut room = batch_tokens;
    for (part, _) in parts.iter_mut().zip(works).filter(|(_, work)| **work == Work::Decode) {
        *part = room.min(1);
        room -= *part;
    }
    let mut prompts: Vec<(usize, usize)> = works
        .iter()
        .enumerate()
        .filter_map(|(index, work)| match *work {
            Work::Prefill { tokens } => Some((index, tokens)),
            Work::Decode | Work::Wait => None,
        })
        .collect();
    let mut chunk = chunk_tokens.min(room);
    if let [(oldest, tokens), _, ..] = prompts[..] {
        parts[oldest] = tokens.min(chunk / 2);
        chunk -= parts[oldest];
    }
    prompts.sort_by_key(|&(_, tokens)| tokens);
    for (index, tokens) in prompts {
        let part = (tokens - parts[index]).min(chunk);
        parts[index] += part;
        chunk -= part;
    }
    parts
}

/// Who waits for a step with a chunk of a prompt in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// Only the prompt's own request, and that step is broken off if it leaves.
    Alone,
    /// Other prompts: one that leaves frees its slot after the step.
    Prompts,
    /// Answers whose next token comes with the step.
    Answers,
}

impl Company {
    /// Who waits for the next step.
    pub(crate) fn of(works: &[Work]) -> Self {
        if works.contains(&Work::Decode) {
            Self::Answers
        } else if works.iter().filter(|work| **work != Work::Wait).count() > 1 {
            Self::Prompts
        } else {
            Self::Alone
        }
    }

    /// The same where other models or programs want the cores that this one has: none computes as if it were alone.
    pub(crate) const fn beside_others(self) -> Self {
        match self {
            Self::Alone => Self::Prompts,
            company => company,
        }
    }

    /// How long a chunk may take, and how short it may be cut for that: weights are read once a chunk, however short it
    /// is. A lone one is bounded, too: it keeps its threads to its end, whatever request comes meanwhile. (Against 256
    /// tokens, prefill of a 1.1B model as on disk reached 93 % with chunks of 128, 87 % with 64 and 72 % with 32.)
    const fn bounds(self) -> (Duration, usize) {
        match self {
            Self::Alone => (Duration::from_millis(1500), 128),
            Self::Prompts => (Duration::from_millis(400), 64),
            Self::Answers => (Duration::from_millis(200), 32),
        }
    }
}

/// Kernels work in tiles: chunks are multiples of this.
const CHUNK_GRAIN_TOKENS: usize = 32;
/// The first chunk, before anything was measured.
const FIRST_CHUNK_TOKENS: usize = 64;

/// How fast this instance computes prompts, as seen so far.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    seconds_per_token: Option<f64>,
}

impl Pace {
    /// Takes note of a step that computed `tokens` in `elapsed`. Steps with few tokens say nothing about
    /// prompts and are left out.
    pub(crate) fn note(&mut self, tokens: usize, elapsed: Duration) {
        if tokens < CHUNK_GRAIN_TOKENS {
            return;
        }
        let seen = elapsed.as_secs_f64() / tokens as f64;
        // A first step may wait for the disk; the mean forgets it within a few chunks.
        self.seconds_per_token =
            Some(self.seconds_per_token.map_or(seen, |before| before.mul_add(0.5, seen * 0.5)));
    }

    /// Prompt tokens of the next step.
    pub(crate) fn chunk_tokens(&self, company: Company, batch_tokens: usize) -> usize {
        let Some(pace) = self.seconds_per_token else { return FIRST_CHUNK_TOKENS.min(batch_tokens) };
        let (most, least) = company.bounds();
        let tokens = (most.as_secs_f64() / pace.max(f64::MIN_POSITIVE)) as usize;
        (tokens / CHUNK_GRAIN_TOKENS * CHUNK_GRAIN_TOKENS).max(least).min(batch_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_decoding_sequence_advances_beside_a_long_prompt() {
        let works = [Work::Decode, Work::Prefill { tokens: 4000 }, Work::Decode];
        assert_eq!(pick(&works, 512, 128), vec![1, 128, 1]);
    }

    #[test]
    fn a_short_prompt_is_not_stalled_by_a_long_one() {
        let works =
            [Work::Prefill { tokens: 4000 }, Work::Prefill { tokens: 900 }, Work::Prefill { tokens: 9 }];
        assert_eq!(pick(&works, 512, 128), vec![64, 55, 9]);
    }

    #[test]
    fn what_the_oldest_prompt_leaves_goes_to_the_others_and_back() {
        assert_eq!(
            pick(&[Work::Prefill { tokens: 10 }, Work::Prefill { tokens: 500 }], 512, 128),
            vec![10, 118]
        );
        assert_eq!(
            pick(&[Work::Prefill { tokens: 500 }, Work::Prefill { tokens: 10 }], 512, 128),
            vec![118, 10]
        );
    }

    #[test]
    fn a_batch_is_never_larger_than_it_may_be() {
        let mut works = vec![Work::Prefill { tokens: 1000 }];
        works.extend([Work::Decode; 6]);
        let parts = pick(&works, 8, 512);
        assert_eq!(parts.iter().sum::<usize>(), 8);
        assert_eq!(parts[0], 2, "decoding goes first");
        assert_eq!(pick(&[Work::Decode; 4], 3, 0), vec![1, 1, 1, 0]);
    }

    #[test]
    fn who_waits_computes_nothing() {
        assert_eq!(pick(&[Work::Wait, Work::Prefill { tokens: 3 }], 512, 64), vec![0, 3]);
    }

    #[test]
    fn chunks_fit_the_time_of_those_who_wait() {
        let paced = |tokens, elapsed| {
            let mut pace = Pace::default();
            (0..40).for_each(|_| pace.note(tokens, elapsed));
            [Company::Alone, Company::Prompts, Company::Answers]
                .map(|company| pace.chunk_tokens(company, 512))
        };
        // 500 tokens a second: 750, 200 and 100 would fit.
        assert_eq!(paced(100, Duration::from_millis(200)), [512, 192, 96]);
        assert_eq!(paced(100, Duration::from_secs(1)), [128, 64, 32]);
        assert_eq!(paced(32, Duration::from_secs(3)), [128, 64, 32], "never so short that weights dominate");
        assert_eq!(paced(512, Duration::from_millis(1)), [512, 512, 512]);
        assert_eq!(paced(512, Duration::ZERO), [512, 512, 512]);
    }

    #[test]
    fn company_is_who_computes_too() {
        let prompt = Work::Prefill { tokens: 5 };
        assert_eq!(Company::of(&[prompt, Work::Wait]), Company::Alone);
        assert_eq!(Company::of(&[prompt, prompt]), Company::Prompts);
        assert_eq!(Company::of(&[Work::Wait, prompt, Work::Decode]), Company::Answers);
    }

    #[test]
    fn single_tokens_say_nothing_about_prompts() {
        let mut pace = Pace::default();
        pace.note(1, Duration::from_secs(9));
        assert_eq!(pace.chunk_tokens(Company::Answers, 512), 64);
    }
}
