//! Log-probabilities of tokens, from the logits as the model gave them, before anything is added, banned or masked.

use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use samovar_core::TokenLogprob;

use crate::select;

/// What the model thought at one place of the answer.
#[derive(Debug)]
pub(crate) struct Distribution<'a> {
    logits: &'a [f32],
    /// `ln Σ exp(logit)`
    normalizer: f64,
}

impl<'a> Distribution<'a> {
    /// Normalizes logits (softmax, in logarithms).
    pub(crate) fn new(logits: &'a [f32]) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits
            .iter()
            .filter(|logit| !logit.is_nan())
            .map(|logit| f64::from((logit - largest).exp()))
            .sum();
        Self { logits, normalizer: f64::from(largest) + sum.ln() }
    }

    /// Natural logarithm of a token's probability.
    pub(crate) fn logprob(&self, token: u32) -> f32 {
        (f64::from(self.logits[token as usize]) - self.normalizer) as f32
    }

    /// The most likely tokens, best first.
    pub(crate) fn top(&self, count: usize) -> Vec<(u32, f32)> {
        let best = select::top(self.logits, count);
        best.into_iter().map(|(token, _)| (token, self.logprob(token))).collect()
    }
}

/// A token with its probability and the alternatives to it. Its own bytes are those of the answer, where
/// control tokens show nothing; alternatives are named whatever they are.
pub(crate) fn describe(
    token: LlamaToken,
    logits: &[f32],
    count: u32,
    vocab: &LlamaVocab<'_>,
) -> TokenLogprob {
    let distribution = Distribution::new(logits);
    let entry = |token: LlamaToken, logprob: f32, is_named: bool| TokenLogprob {
        token: token.0 as u32,
        bytes: vocab.token_to_piece(token, is_named, None),
        logprob,
        top: Vec::new(),
    };
    let top = distribution.top(count as usize).into_iter();
    let top = top.map(|(token, logprob)| entry(LlamaToken(token as i32), logprob, true)).collect();
    TokenLogprob { top, ..entry(token, distribution.logprob(token.0 as u32), false) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
