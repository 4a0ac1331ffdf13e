//! What the fake says next: a real distribution over its vocabulary, a function of the context alone.

use super::vocabulary::{self, EOS};
use crate::generation::{Sampling, TokenLogprob};

/// Logit of the token it means to say; all others lie in `[0, 6)`.
const CERTAIN: f32 = 9.0;

/// One answer's way of speaking: first the prompt's last words once more, then words that follow
/// from all that was said, then the end.
pub(super) struct Voice {
    echo: Vec<u32>,
    answer_tokens: u32,
    draw: u64,
    /// The tokens of the answer, where it may say no others.
    only: Option<Vec<u32>>,
}

impl Voice {
    pub(super) fn new(
        prompt: &[u32],
        sampling: &Sampling,
        answer_tokens: Option<u32>,
        only: Option<Vec<u32>>,
    ) -> Self {
        let prompt_hash = prompt.iter().fold(1, |hash, token| mix(hash ^ u64::from(*token)));
        let mut words: Vec<u32> = prompt
            .iter()
            .copied()
            .filter(|token| vocabulary::words().contains(token))
            .rev()
            .take(4)
            .collect();
        words.reverse();
        Self {
            echo: words,
            answer_tokens: answer_tokens.unwrap_or(12 + (prompt_hash % 32) as u32),
            draw: sampling.seed.map_or_else(clock_seed, u64::from),
            only,
        }
    }

    /// Whether nothing may follow a token that ends the answer, whatever the request ignores.
    pub(super) fn is_bound(&self) -> bool {
        self.only.is_some()
    }

    /// The token chosen after `context`, of which the last `said` are the answer so far.
    pub(super) fn next(
        &mut self,
        context: &[u32],
        said: usize,
        request: &Choice<'_>,
    ) -> (u32, Option<TokenLogprob>) {
        let logits = self.logits(context, said);
        let token = match &self.only {
            Some(only) => only.get(said).copied().unwrap_or(EOS),
            None => self.choose(&logits, request),
        };
        let logprob = request.logprobs.map(|count| logprob_of(&logits, token, count));
        (token, logprob)
    }

    fn logits(&self, context: &[u32], said: usize) -> Vec<f32> {
        let hash =
            context.iter().rev().take(8).fold(said as u64, |hash, token| mix(hash ^ u64::from(*token)));
        let spread = |token: u32| (mix(hash ^ u64::from(token) << 32) % 6000) as f32 / 1000.0;
        let mut logits: Vec<f32> = (0..vocabulary::size()).map(spread).collect();
        let meant = match self.echo.get(said) {
            _ if said >= self.answer_tokens as usize => EOS,
            Some(token) => *token,
            None => vocabulary::words().start + (mix(hash) % vocabulary::words().len() as u64) as u32,
        };
        logits[meant as usize] = CERTAIN;
        logits
    }

    fn choose(&mut self, logits: &[f32], request: &Choice<'_>) -> u32 {
        let mut logits = logits.to_vec();
        for (token, bias) in &request.sampling.logit_bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        if request.ignores_end {
            (0..vocabulary::size())
                .filter(|token| vocabulary::ends_generation(*token))
                .for_each(|token| logits[token as usize] = f32::NEG_INFINITY);
        }
        if request.sampling.temperature <= 0.0 {
            return argmax(&logits);
        }
        // Gumbel's trick: the largest of logit/T plus noise is a draw from the softmax.
        let noisy: Vec<f32> = logits
            .iter()
            .map(|logit| {
                self.draw = mix(self.draw.wrapping_add(0x9e37_79b9_7f4a_7c15));
                let uniform = ((self.draw >> 40) as f32 + 0.5) / (1 << 24) as f32;
                logit / request.sampling.temperature - (-uniform.ln()).ln()
            })
            .collect();
        argmax(&noisy)
    }
}

/// What a request says about the choice of tokens.
pub(super) struct Choice<'a> {
    pub(super) sampling: &'a Sampling,
    pub(super) logprobs: Option<u32>,
    pub(super) ignores_end: bool,
}

fn argmax(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a)));
    best.expect("invariant: the vocabulary is not empty") as u32
}

fn logprob_of(logits: &[f32], token: u32, count: u32) -> TokenLogprob {
    let total = logits.iter().map(|logit| logit.exp()).sum::<f32>().ln();
    let plain = |token: u32| TokenLogprob {
        token,
        bytes: vocabulary::bytes_of(token),
        logprob: logits[token as usize] - total,
        top: Vec::new(),
    };
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    TokenLogprob { top: order.into_iter().take(count as usize).map(plain).collect(), ..plain(token) }
}

/// *Source:* the finalizer of `SplitMix64`.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

fn clock_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    mix(now.map_or(0, |now| now.as_nanos() as u64))
}
