//! Penalties on tokens that occurred lately, as llama.cpp counts them. They touch only the tokens that they concern. Pure.

use std::collections::{HashMap, VecDeque};

use crate::generation::Sampling;

/// Penalties on tokens that occurred lately.
#[derive(Debug)]
pub struct Penalties {
    repeat: f32,
    frequency: f32,
    presence: f32,
    window: usize,
    recent: VecDeque<u32>,
    counts: HashMap<u32, u32>,
}

impl Penalties {
    /// `None` when the settings penalize nothing.
    #[allow(clippy::float_cmp, reason = "off is exactly these values")]
    pub fn new(sampling: &Sampling) -> Option<Self> {
        let is_off = sampling.repeat_penalty == 1.0
            && sampling.frequency_penalty == 0.0
            && sampling.presence_penalty == 0.0;
        if is_off || sampling.repeat_last_tokens == 0 {
            return None;
        }
        Some(Self {
            repeat: sampling.repeat_penalty,
            frequency: sampling.frequency_penalty,
            presence: sampling.presence_penalty,
            window: sampling.repeat_last_tokens as usize,
            recent: VecDeque::new(),
            counts: HashMap::new(),
        })
    }

    /// Takes note of a token of the prompt or the answer.
    pub fn accept(&mut self, token: u32) {
        if self.recent.len() == self.window {
            let left = self.recent.pop_front().expect("invariant: a window holds at least one token");
            let count = self.counts.get_mut(&left).expect("invariant: a recent token is counted");
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&left);
            }
        }
        self.recent.push_back(token);
        *self.counts.entry(token).or_default() += 1;
    }

    /// Changes the logits of the tokens that occurred lately.
    ///
    /// *Source:* llama.cpp's `llama_sampler_penalties_apply`.
    pub fn apply(&self, logits: &mut [f32]) {
        for (token, &count) in &self.counts {
            let Some(logit) = logits.get_mut(*token as usize) else { continue };
            // The papers divide; that would favour tokens with negative logits.
            *logit = if *logit <= 0.0 { *logit * self.repeat } else { *logit / self.repeat };
            *logit -= count as f32 * self.frequency + self.presence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_are_llama_cpps() {
        let sampling = Sampling {
            repeat_penalty: 2.0,
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            ..Sampling::greedy()
        };
        let mut penalties = Penalties::new(&sampling).unwrap();
        penalties.accept(0);
        penalties.accept(0);
        penalties.accept(1);
        let mut logits = [4.0, -1.0, 3.0];
        penalties.apply(&mut logits);
        let expected = [4.0 / 2.0 - 1.25, -2.0 - 0.75, 3.0];
        assert!(
            logits.iter().zip(expected).all(|(ours, llama): (&f32, f32)| (ours - llama).abs() < 1e-6),
            "{logits:?}"
        );
    }
}
