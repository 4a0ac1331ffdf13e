//! What one step of the loop computes: one token of every running sequence, and a chunk of prompts.
//!
//! ```text
//!   sequences    A decodes   B decodes   C: 900 prompt tokens to go   D: 40 to go
//!   this step    1           1           chunk                        –
//!   next step    1           1           chunk                        –   …then D's turn
//! ```
//!
//! A chunk is as long as fits a time, by the pace seen so far: short while others decode, because they
//! wait for it; longer otherwise, where it only bounds how soon a cancellation is seen. Pure.

use std::time::Duration;

/// What a sequence has to compute next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// One token, and a new one is sampled from it.
    Decode,
    /// Tokens of its prompt not computed yet.
    Prefill { tokens: usize },
    /// Nothing: it waits for another's prefix.
    Wait,
}

/// Tokens that each sequence computes in the next step, in the order of `works`; 0 = not in this step.
pub(crate) fn pick(works: &[Work], batch_tokens: usize, chunk_tokens: usize) -> Vec<usize> {
    let decoding = works.iter().filter(|work| **work == Work::Decode).count();
    let mut chunk = chunk_tokens.min(batch_tokens.saturating_sub(decoding));
    let mut room = batch_tokens;
    works
        .iter()
        .map(|work| match *work {
            Work::Decode if room > 0 => {
                room -= 1;
                1
            }
            Work::Prefill { tokens } => {
                let part = tokens.min(chunk);
                chunk -= part;
                part
            }
            Work::Decode | Work::Wait => 0,
        })
        .collect()
}

/// How long a step with a chunk may take while other sequences decode: their tokens wait for it.
const SHARED_STEP: Duration = Duration::from_millis(200);
/// How long it may take otherwise: a cancelled request frees its slot within one such step.
const LONELY_STEP: Duration = Duration::from_millis(400);
/// Shorter chunks would read all weights for too few tokens.
const MIN_CHUNK_TOKENS: usize = 32;
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
        if tokens < MIN_CHUNK_TOKENS {
            return;
        }
        let seen = elapsed.as_secs_f64() / tokens as f64;
        // A first step may wait for the disk; the mean forgets it within a few chunks.
        self.seconds_per_token =
            Some(self.seconds_per_token.map_or(seen, |before| before.mul_add(0.5, seen * 0.5)));
    }

    /// Prompt tokens of the next step.
    pub(crate) fn chunk_tokens(&self, others_decode: bool, batch_tokens: usize) -> usize {
        let step = if others_decode { SHARED_STEP } else { LONELY_STEP };
        let tokens = match self.seconds_per_token {
            Some(pace) if pace > 0.0 => (step.as_secs_f64() / pace) as usize,
            Some(_) => batch_tokens,
            None => FIRST_CHUNK_TOKENS,
        };
        let grained = tokens / CHUNK_GRAIN_TOKENS * CHUNK_GRAIN_TOKENS;
        grained.max(MIN_CHUNK_TOKENS).min(batch_tokens)
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
    fn prompts_are_served_in_order_of_arrival() {
        let works =
            [Work::Prefill { tokens: 100 }, Work::Prefill { tokens: 100 }, Work::Prefill { tokens: 9 }];
        assert_eq!(pick(&works, 512, 128), vec![100, 28, 0]);
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
    fn chunks_fit_their_time() {
        let mut pace = Pace::default();
        assert_eq!(pace.chunk_tokens(false, 512), 64);
        for _ in 0..20 {
            pace.note(100, Duration::from_millis(200));
        }
        assert_eq!(pace.chunk_tokens(true, 512), 96, "100 tokens in 200 ms, in whole grains");
        assert_eq!(pace.chunk_tokens(false, 512), 192);
        for _ in 0..20 {
            pace.note(32, Duration::from_secs(3));
        }
        assert_eq!(pace.chunk_tokens(true, 512), MIN_CHUNK_TOKENS, "never so short that weights dominate");
        for _ in 0..40 {
            pace.note(512, Duration::from_millis(1));
        }
        assert_eq!(pace.chunk_tokens(true, 512), 512);
    }

    #[test]
    fn single_tokens_say_nothing_about_prompts() {
        let mut pace = Pace::default();
        pace.note(1, Duration::from_secs(9));
        assert_eq!(pace.chunk_tokens(true, 512), 64);
    }
}
