//! Log-probabilities of tokens, from the logits as the model gave them, before anything is added, banned or masked.

use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use samovar_core::TokenLogprob;
use samovar_core::logits::Distribution;

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
