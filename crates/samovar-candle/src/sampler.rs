//! How the next token of one request is chosen, in llama.cpp's order: bias and bans, penalties, top-k, top-p, min-p, temperature,
//! draw. Logits are copied only where a setting changes some of them. Pure.

use std::hash::{BuildHasher, RandomState};

use samovar_core::penalties::Penalties;
use samovar_core::{Sampling, logits};

/// The choosing part of one request.
#[derive(Debug)]
pub(crate) struct Sampler {
    bias: Vec<(u32, f32)>,
    penalties: Option<Penalties>,
    is_greedy: bool,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    random: SplitMix,
    /// Logits with bias and penalties; reused from token to token.
    changed: Vec<f32>,
}

impl Sampler {
    /// A sampler with these settings that never chooses one of `banned`.
    pub(crate) fn new(sampling: &Sampling, banned: &[u32]) -> Self {
        let mut bias = sampling.logit_bias.clone();
        bias.extend(banned.iter().map(|token| (*token, f32::NEG_INFINITY)));
        let seed = sampling.seed.map_or_else(|| RandomState::new().hash_one(0_u8), u64::from);
        Self {
            bias,
            penalties: Penalties::new(sampling),
            is_greedy: sampling.temperature <= 0.0 || sampling.top_k == 1,
            temperature: sampling.temperature,
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            random: SplitMix(seed),
            changed: Vec::new(),
        }
    }

    /// Takes note of a token of the prompt or the answer.
    pub(crate) fn accept(&mut self, token: u32) {
        if let Some(penalties) = &mut self.penalties {
            penalties.accept(token);
        }
    }

    /// Chooses a token; `None` when no token may be chosen: all are banned, or the model computed nonsense.
    pub(crate) fn sample(&mut self, logits: &[f32]) -> Option<u32> {
        if self.bias.is_empty() && self.penalties.is_none() {
            return self.choose(logits);
        }
        let mut changed = std::mem::take(&mut self.changed);
        changed.clear();
        changed.extend_from_slice(logits);
        for &(token, bias) in &self.bias {
            if let Some(logit) = changed.get_mut(token as usize) {
                *logit += bias;
            }
        }
        if let Some(penalties) = &self.penalties {
            penalties.apply(&mut changed);
        }
        let token = self.choose(&changed);
        self.changed = changed;
        token
    }

    fn choose(&mut self, logits: &[f32]) -> Option<u32> {
        if self.is_greedy {
            return logits::largest(logits);
        }
        let count = if self.top_k == 0 { logits.len() } else { self.top_k };
        let mut best = logits::top(logits, count);
        let largest = best.first()?.1;
        let weights: Vec<f32> = best.iter().map(|(_, logit)| (logit - largest).exp()).collect();
        best.truncate(self.kept(&weights));
        // No number is drawn where there is no choice.
        if let [(only, _)] = best[..] {
            return Some(only);
        }
        let weight = |logit: f32| f64::from((logit - largest) / self.temperature).exp();
        let total: f64 = best.iter().map(|(_, logit)| weight(*logit)).sum();
        let mut left = self.random.fraction() * total;
        for (token, logit) in &best {
            left -= weight(*logit);
            if left < 0.0 {
                return Some(*token);
            }
        }
        best.last().map(|(token, _)| *token)
    }

    /// How many of the best tokens are kept, of those with these weights; at least one.
    fn kept(&self, weights: &[f32]) -> usize {
        let mut kept = weights.len();
        if self.top_p < 1.0 {
            let total: f32 = weights.iter().sum();
            let mut sum = 0.0;
            let reaches = |weight: &f32| {
                sum += weight / total;
                sum >= self.top_p
            };
            kept = weights.iter().position(reaches).map_or(kept, |place| place + 1);
        }
        if self.min_p > 0.0 {
            // The best one has the weight 1.
            kept = kept.min(weights.iter().take_while(|weight| **weight >= self.min_p).count());
        }
        kept.max(1)
    }
}

/// Random numbers that a seed repeats.
///
/// *Source:* Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    /// At least 0, below 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: &Sampling, logits: &[f32]) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling, &[]);
        let mut counts = vec![0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.sample(logits).unwrap() as usize] += 1;
        }
        counts
    }

    fn plain(seed: u32) -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: Some(seed),
            ..Sampling::default()
        }
    }

    #[test]
    fn draws_have_the_probabilities_of_the_logits() {
        // 1/2, 1/4, 1/8, 1/8
        let logits = [8.0_f32, 4.0, 2.0, 2.0].map(f32::ln);
        let found = counts(&plain(7), &logits);
        for (count, expected) in found.iter().zip([10_000, 5_000, 2_500, 2_500_usize]) {
            assert!(count.abs_diff(expected) < 300, "{found:?}");
        }
        assert_eq!(found, counts(&plain(7), &logits), "a seed repeats them");
    }

    #[test]
    fn filters_leave_the_best_out_of_none() {
        let logits = [8.0_f32, 4.0, 2.0, 2.0].map(f32::ln);
        let kinds = |sampling| counts(&sampling, &logits).iter().filter(|count| **count > 0).count();
        assert_eq!(kinds(Sampling { top_k: 3, ..plain(1) }), 3);
        assert_eq!(kinds(Sampling { top_p: 0.74, ..plain(1) }), 2);
        assert_eq!(kinds(Sampling { top_p: 0.1, ..plain(1) }), 1);
        assert_eq!(kinds(Sampling { min_p: 0.4, ..plain(1) }), 2);
    }

    #[test]
    fn what_is_banned_is_not_chosen_and_nonsense_is_none() {
        let mut sampler = Sampler::new(&Sampling::greedy(), &[0]);
        assert_eq!(sampler.sample(&[5.0, 1.0]), Some(1));
        assert_eq!(sampler.sample(&[5.0, f32::NAN]), None);
        let mut sampler = Sampler::new(&plain(1), &[0, 1]);
        assert_eq!(sampler.sample(&[5.0, 1.0]), None);
    }
}
