//! How the next token of one request is chosen.
//!
//! ```text
//!   logits ─► bias, bans ─► penalties ─► mask ─► top-k ─┬─► largest                              (greedy)
//!             (few tokens)  (few tokens)                └─► top-p ─► min-p ─► temperature ─► draw (llama.cpp)
//! ```
//!
//! The order is llama.cpp's. Its own chain would first copy the whole vocabulary into a candidate list
//! and look every token up in the penalties' table; here bias and penalties touch only the tokens they
//! concern, and the native chain sees only the survivors of top-k.

use std::hash::{BuildHasher, RandomState};

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use samovar_core::penalties::Penalties;
use samovar_core::{Sampling, logits};

use crate::binding::Allowed;

/// The choosing part of one request.
#[derive(Debug)]
pub(crate) struct Sampler {
    bias: Vec<(u32, f32)>,
    penalties: Option<Penalties>,
    top_k: usize,
    /// `None` = greedy.
    chain: Option<LlamaSampler>,
    /// Logits with bias, penalties and mask; reused from token to token.
    changed: Vec<f32>,
    candidates: LlamaTokenDataArray,
}

impl Sampler {
    /// A sampler with these settings that never chooses one of `banned`.
    pub(crate) fn new(sampling: &Sampling, banned: &[LlamaToken]) -> Self {
        let mut bias = sampling.logit_bias.clone();
        bias.extend(banned.iter().map(|token| (token.0 as u32, f32::NEG_INFINITY)));
        let is_greedy = sampling.temperature <= 0.0 || sampling.top_k == 1;
        Self {
            bias,
            penalties: Penalties::new(sampling),
            top_k: sampling.top_k as usize,
            chain: (!is_greedy).then(|| chain(sampling)),
            changed: Vec::new(),
            candidates: LlamaTokenDataArray::new(Vec::new(), true),
        }
    }

    /// Takes note of a token of the prompt or the answer.
    pub(crate) fn accept(&mut self, token: LlamaToken) {
        if let Some(penalties) = &mut self.penalties {
            penalties.accept(token.0 as u32);
        }
    }

    /// Chooses one of the tokens that are `allowed` (`None` = all); `None` when no token may be chosen (all banned, or the
    /// model computed nonsense).
    pub(crate) fn sample(&mut self, logits: &[f32], allowed: Option<Allowed<'_>>) -> Option<LlamaToken> {
        let is_changed = !self.bias.is_empty() || self.penalties.is_some() || allowed.is_some();
        let mut changed = std::mem::take(&mut self.changed);
        if is_changed {
            changed.clear();
            changed.extend_from_slice(logits);
            self.change(&mut changed);
            if let Some(allowed) = allowed {
                allowed.apply(&mut changed);
            }
        }
        let token = self.choose(if is_changed { &changed } else { logits });
        self.changed = changed;
        token
    }

    fn change(&self, logits: &mut [f32]) {
        for &(token, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        if let Some(penalties) = &self.penalties {
            penalties.apply(logits);
        }
    }

    fn choose(&mut self, logits: &[f32]) -> Option<LlamaToken> {
        let Some(chain) = &mut self.chain else {
            return logits::largest(logits).map(|token| LlamaToken(token as i32));
        };
        let data = &mut self.candidates.data;
        data.clear();
        if self.top_k > 0 && self.top_k < logits.len() {
            let best = logits::top(logits, self.top_k);
            data.extend(best.into_iter().map(|(token, logit)| candidate(token, logit)));
        } else {
            let all = logits.iter().enumerate().filter(|(_, logit)| **logit > f32::NEG_INFINITY);
            data.extend(all.map(|(token, &logit)| candidate(token as u32, logit)));
        }
        match data[..] {
            [] => return None,
            // No number is drawn where there is no choice: so the same seed draws the same answer, whether what must come
            // is sampled or said without.
            [only] => return Some(only.id()),
            [_, _, ..] => {}
        }
        self.candidates.sorted = self.top_k > 0 && self.top_k < logits.len();
        self.candidates.selected = None;
        self.candidates.apply_sampler(chain);
        self.candidates.selected_token()
    }
}

fn candidate(token: u32, logit: f32) -> LlamaTokenData {
    LlamaTokenData::new(LlamaToken(token as i32), logit, 0.0)
}

fn chain(sampling: &Sampling) -> LlamaSampler {
    let mut samplers = Vec::with_capacity(4);
    if sampling.top_p < 1.0 {
        samplers.push(LlamaSampler::top_p(sampling.top_p, 1));
    }
    if sampling.min_p > 0.0 {
        samplers.push(LlamaSampler::min_p(sampling.min_p, 1));
    }
    samplers.push(LlamaSampler::temp(sampling.temperature));
    samplers.push(LlamaSampler::dist(sampling.seed.map_or_else(random_seed, plain_seed)));
    LlamaSampler::chain(samplers, true)
}

/// A seed that differs from request to request.
fn random_seed() -> u32 {
    plain_seed(RandomState::new().hash_one(0_u8) as u32)
}

/// llama.cpp reads the largest seed as "take one from the clock"; ours mean what they say.
fn plain_seed(seed: u32) -> u32 {
    seed.min(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: &Sampling, logits: &[f32], count: usize) -> Vec<i32> {
        let mut sampler = Sampler::new(sampling, &[]);
        (0..count).map(|_| sampler.sample(logits, None).unwrap().0).collect()
    }

    fn seeded(seed: u32) -> Sampling {
        Sampling {
            seed: Some(seed),
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            ..Sampling::default()
        }
    }

    #[test]
    fn greedy_takes_the_largest() {
        assert_eq!(draws(&Sampling::greedy(), &[0.0, 3.0, 1.0], 3), vec![1, 1, 1]);
    }

    #[test]
    fn a_seed_gives_the_same_draws_and_another_gives_others() {
        let logits: Vec<f32> = (0..100).map(|i| (i % 7) as f32).collect();
        assert_eq!(draws(&seeded(7), &logits, 50), draws(&seeded(7), &logits, 50));
        assert_ne!(draws(&seeded(7), &logits, 50), draws(&seeded(8), &logits, 50));
        assert_eq!(draws(&seeded(u32::MAX), &logits, 50), draws(&seeded(u32::MAX), &logits, 50));
        let unseeded = Sampling { seed: None, ..seeded(0) };
        assert_ne!(draws(&unseeded, &logits, 50), draws(&unseeded, &logits, 50));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        // softmax([ln 3, 0]) = [0.75, 0.25]
        let drawn = draws(&seeded(1), &[3.0_f32.ln(), 0.0], 4000);
        let share = drawn.iter().filter(|token| **token == 0).count() as f32 / 4000.0;
        assert!((share - 0.75).abs() < 0.03, "{share}");
    }

    #[test]
    fn top_k_top_p_and_min_p_cut_the_tail() {
        let logits = [5.0, 4.9, 4.8, 1.0, 0.9, -2.0];
        let only = |sampling: Sampling| {
            let mut kinds = draws(&sampling, &logits, 2000);
            kinds.sort_unstable();
            kinds.dedup();
            kinds
        };
        assert_eq!(only(Sampling { top_k: 2, ..seeded(3) }), vec![0, 1]);
        assert_eq!(only(Sampling { top_k: 1, ..seeded(3) }), vec![0]);
        assert_eq!(only(Sampling { top_p: 0.5, ..seeded(3) }), vec![0, 1]);
        assert_eq!(only(Sampling { min_p: 0.5, ..seeded(3) }), vec![0, 1, 2]);
        assert!(only(seeded(3)).len() > 3);
    }

    #[test]
    fn bias_comes_before_anything_else_and_bans_hold() {
        let bias = Sampling { logit_bias: vec![(0, 10.0), (9999, 1.0)], ..Sampling::greedy() };
        assert_eq!(draws(&bias, &[0.0, 3.0], 1), vec![0]);
        let mut banned = Sampler::new(&Sampling::greedy(), &[LlamaToken(1)]);
        assert_eq!(banned.sample(&[0.0, 3.0], None), Some(LlamaToken(0)));
        let mut nothing = Sampler::new(&seeded(1), &[LlamaToken(0), LlamaToken(1)]);
        assert_eq!(nothing.sample(&[0.0, 3.0], None), None);
    }

    #[test]
    fn where_there_is_no_choice_no_number_is_drawn() {
        let logits = [1.0, 1.1, 0.9, 1.2];
        let after = |others: usize| {
            let mut sampler = Sampler::new(&seeded(11), &[]);
            let only = [f32::NEG_INFINITY, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
            (0..others).for_each(|_| assert_eq!(sampler.sample(&only, None), Some(LlamaToken(1))));
            (0..20).map(|_| sampler.sample(&logits, None)).collect::<Vec<_>>()
        };
        assert_eq!(after(5), after(0));
    }

    #[test]
    fn what_is_not_allowed_is_not_chosen_whatever_its_logit() {
        let mut rules = crate::binding::tests::rules("[ab]");
        let allowed = Allowed::of(rules.mask().unwrap());
        // The best forty are all forbidden.
        let mut logits = vec![9.0; 258];
        (logits[usize::from(b'a')], logits[usize::from(b'b')]) = (-3.0, -2.0);
        let greedy = Sampler::new(&Sampling::greedy(), &[]).sample(&logits, Some(allowed));
        assert_eq!(greedy, Some(LlamaToken(i32::from(b'b'))));
        let mut sampler = Sampler::new(&Sampling { top_k: 40, ..seeded(3) }, &[]);
        for _ in 0..100 {
            let token = sampler.sample(&logits, Some(allowed)).unwrap().0;
            assert!([b'a', b'b'].map(i32::from).contains(&token), "{token}");
        }
        let ban = [LlamaToken(i32::from(b'a')), LlamaToken(i32::from(b'b'))];
        assert_eq!(Sampler::new(&seeded(3), &ban).sample(&logits, Some(allowed)), None);
    }

    #[test]
    fn penalties_look_at_the_window_only() {
        let sampling = Sampling { presence_penalty: 2.0, repeat_last_tokens: 2, ..Sampling::greedy() };
        let mut sampler = Sampler::new(&sampling, &[]);
        let logits = [1.0, 0.5, 0.0];
        sampler.accept(LlamaToken(0));
        assert_eq!(sampler.sample(&logits, None), Some(LlamaToken(1)));
        sampler.accept(LlamaToken(1));
        assert_eq!(sampler.sample(&logits, None), Some(LlamaToken(2)));
        sampler.accept(LlamaToken(2));
        assert_eq!(sampler.sample(&logits, None), Some(LlamaToken(0)), "the first left the window");
    }
}
