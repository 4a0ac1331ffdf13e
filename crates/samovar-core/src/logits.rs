//! Logits of a whole vocabulary: the few largest, without sorting them all, and the probabilities that they stand for. Pure.
//!
//! A vocabulary has up to a quarter million tokens and sampling wants forty: one pass compares blocks of
//! logits with the smallest of the best so far, which the compiler turns into vector instructions, and
//! looks closer only where a block beats it.

use std::cmp::Ordering;

/// Logits are compared in blocks of this many.
const BLOCK: usize = 16;

/// The token with the largest logit; the first of equals. `None` when no logit is a number above -∞.
pub fn largest(logits: &[f32]) -> Option<u32> {
    let mut best = f32::NEG_INFINITY;
    let mut token = None;
    for (start, block) in logits.chunks(BLOCK).enumerate() {
        if beats(block, best) {
            for (offset, &logit) in block.iter().enumerate() {
                if logit > best {
                    best = logit;
                    token = Some((start * BLOCK + offset) as u32);
                }
            }
        }
    }
    token
}

/// The `count` tokens with the largest logits, best first; lower ids first among equals. Logits of -∞
/// and those that are no numbers are left out.
pub fn top(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    if count == 0 {
        return Vec::new();
    }
    // Twice the wanted size, cut in half when full: cheaper than a heap when few blocks beat the threshold.
    let capacity = 2 * count.min(logits.len());
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(capacity.max(2));
    let mut threshold = f32::NEG_INFINITY;
    for (start, block) in logits.chunks(BLOCK).enumerate() {
        if !beats(block, threshold) {
            continue;
        }
        for (offset, &logit) in block.iter().enumerate() {
            if logit > threshold {
                best.push(((start * BLOCK + offset) as u32, logit));
                if best.len() == 2 * count {
                    best.select_nth_unstable_by(count - 1, best_first);
                    best.truncate(count);
                    threshold = best[count - 1].1;
                }
            }
        }
    }
    best.sort_unstable_by(best_first);
    best.truncate(count);
    best
}

/// What the model thought at one place of the answer.
#[derive(Debug)]
pub struct Distribution<'a> {
    logits: &'a [f32],
    /// `ln Σ exp(logit)`
    normalizer: f64,
}

impl<'a> Distribution<'a> {
    /// Normalizes logits (softmax, in logarithms).
    pub fn new(logits: &'a [f32]) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits
            .iter()
            .filter(|logit| !logit.is_nan())
            .map(|logit| f64::from((logit - largest).exp()))
            .sum();
        Self { logits, normalizer: f64::from(largest) + sum.ln() }
    }

    /// Natural logarithm of a token's probability.
    pub fn logprob(&self, token: u32) -> f32 {
        (f64::from(self.logits[token as usize]) - self.normalizer) as f32
    }

    /// The most likely tokens, best first.
    pub fn top(&self, count: usize) -> Vec<(u32, f32)> {
        let best = top(self.logits, count);
        best.into_iter().map(|(token, _)| (token, self.logprob(token))).collect()
    }
}

/// Whether any logit of a block is above a threshold; false for those that are no numbers.
#[allow(clippy::needless_bitwise_bool, reason = "without a branch the loop becomes vector instructions")]
fn beats(block: &[f32], threshold: f32) -> bool {
    block.iter().fold(false, |beaten, &logit| beaten | (logit > threshold))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that sorting wants")]
fn best_first(left: &(u32, f32), right: &(u32, f32)) -> Ordering {
    right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize) -> Vec<f32> {
        let mut state = 0x2545_f491_u32;
        (0..count)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state % 2000) as f32 / 100.0 - 10.0
            })
            .collect()
    }

    #[test]
    fn agrees_with_sorting_everything() {
        for size in [1, 15, 16, 17, 1000, 4096] {
            let logits = noise(size);
            let mut sorted: Vec<_> = logits.iter().enumerate().map(|(i, l)| (i as u32, *l)).collect();
            sorted.sort_by(best_first);
            for count in [1, 2, 40, 5000] {
                assert_eq!(top(&logits, count), sorted[..count.min(size)], "{count} of {size}");
            }
            assert_eq!(largest(&logits), Some(sorted[0].0));
        }
    }

    #[test]
    fn what_is_no_number_is_never_chosen() {
        let logits = [f32::NAN, f32::NEG_INFINITY, -3.0, f32::NAN, 7.0];
        assert_eq!(largest(&logits), Some(4));
        assert_eq!(top(&logits, 4), vec![(4, 7.0), (2, -3.0)]);
        assert_eq!(largest(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(top(&[f32::NAN], 3), vec![]);
        assert_eq!(top(&[1.0], 0), vec![]);
    }

    #[test]
    fn probabilities_sum_to_one() {
        let logits: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin() * 8.0).collect();
        let distribution = Distribution::new(&logits);
        let sum: f32 = (0..1000).map(|token| distribution.logprob(token).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    }

    #[test]
    fn matches_a_known_softmax() {
        // softmax([1, 2, 3]) = [0.0900, 0.2447, 0.6652]
        let distribution = Distribution::new(&[1.0, 2.0, 3.0]);
        assert!((distribution.logprob(0).exp() - 0.090_030_6).abs() < 1e-6);
        let top = distribution.top(2);
        assert_eq!(top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), vec![2, 1]);
        assert!((top[0].1.exp() - 0.665_240_9).abs() < 1e-6);
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let distribution = Distribution::new(&[1.0e4, 1.0e4, f32::NEG_INFINITY]);
        assert!((distribution.logprob(0) - 0.5_f32.ln()).abs() < 1e-3);
        assert!(distribution.logprob(2) < f32::MIN);
    }
}
