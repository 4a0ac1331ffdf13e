//! All that an answer says, told apart.

use samovar_core::generation::{Delta, Generation};
use samovar_core::{Completion, TokenEvent, TokenLogprob};

/// An answer as its caller puts it together.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) thinking: String,
    /// Names and arguments.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) logprobs: Vec<TokenLogprob>,
    /// Events that came with a token.
    pub(crate) tokens: usize,
    pub(crate) completion: Completion,
}

impl Heard {
    /// Each token has an event, and what was held back at the end may have one more.
    pub(crate) fn check_tokens(&self) {
        let said = self.completion.usage.completion_tokens as usize;
        assert!((said..=said + 1).contains(&self.tokens), "{self:?}");
    }
}

/// Hears an answer to its end.
pub(crate) fn hear(mut generation: Generation) -> Heard {
    let (mut text, mut thinking, mut tokens) = (String::new(), String::new(), 0);
    let (mut calls, mut logprobs): (Vec<(String, String)>, Vec<TokenLogprob>) = Default::default();
    loop {
        let (deltas, logprob) = match generation.blocking_next().expect("an answer has an end") {
            TokenEvent::Token { text, logprob } => (vec![Delta::Text(text)], logprob),
            TokenEvent::Deltas { deltas, logprob } => {
                assert!(!deltas.is_empty());
                (deltas, logprob)
            }
            TokenEvent::Done(completion) => {
                return Heard { text, thinking, calls, logprobs, tokens, completion };
            }
            TokenEvent::Failed(failure) => panic!("{failure:?}"),
            TokenEvent::Prefilling { .. } | TokenEvent::Prefilled { .. } | TokenEvent::Embedded(_) => {
                continue;
            }
        };
        tokens += 1;
        logprobs.extend(logprob);
        for delta in deltas {
            match delta {
                Delta::Text(part) => text += &part,
                Delta::Thinking(part) => thinking += &part,
                Delta::Call { index, name, .. } => {
                    assert_eq!(index as usize, calls.len());
                    calls.push((name, String::new()));
                }
                Delta::Arguments { index, text } => calls[index as usize].1 += &text,
            }
        }
    }
}
