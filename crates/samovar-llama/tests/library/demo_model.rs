//! The engine reads the demo model as its trainer did: ids, greedy tokens, logits.

use crate::support;

use samovar_core::generation::{GenerationRequest, Prompt, Sampling, TokenEvent};
use serde::Deserialize;

/// Between the trainer's 32-bit sums and 16-bit weights; measured: 0.007.
const LOGIT_TOLERANCE: f32 = 0.05;

#[derive(Deserialize)]
struct Checks {
    tokens: Vec<Tokens>,
    tokenizer: Vec<Tokenized>,
}

/// A prompt with the trainer's greedy answer and its most likely first tokens with their logits.
#[derive(Deserialize)]
struct Tokens {
    prompt_ids: Vec<u32>,
    first_ids: Vec<u32>,
    top_logits: Vec<(u32, f32)>,
}

#[derive(Deserialize)]
struct Tokenized {
    text: String,
    ids: Vec<u32>,
}

fn checks() -> Checks {
    let path = support::demo_path().with_file_name("checks.json");
    serde_json::from_str(&fs_err::read_to_string(path).expect("reads")).expect("checks.json")
}

#[test]
fn its_tokenizer_gives_the_trainers_ids() {
    let instance = support::load(&support::options());
    for Tokenized { text, ids } in checks().tokenizer {
        assert_eq!(instance.tokenize(&text, false, true).expect("tokenizes"), ids, "{text:?}");
        let bytes = instance.detokenize(&ids).expect("detokenizes");
        // Control tokens are no text.
        let plain = ["<|user|>", "<|end|>"].iter().fold(text, |text, control| text.replace(control, ""));
        assert_eq!(String::from_utf8_lossy(&bytes), plain);
    }
}

#[test]
fn its_greedy_tokens_and_logits_are_the_trainers() {
    let instance = support::load(&support::options());
    for check in checks().tokens {
        let request = GenerationRequest {
            sampling: Sampling::greedy(),
            max_tokens: Some(check.first_ids.len() as u32),
            logprobs: Some(check.top_logits.len() as u32),
            ..GenerationRequest::new(Prompt::Tokens(check.prompt_ids.clone()))
        };
        let mut generation = instance.generate(request).expect("starts");
        let mut tokens = Vec::new();
        while let Some(event) = generation.blocking_next() {
            if let TokenEvent::Token { logprob: Some(logprob), .. } = event {
                tokens.push(logprob);
            }
        }
        let ids: Vec<_> = tokens.iter().map(|token| token.token).collect();
        assert_eq!(ids, check.first_ids, "{:?}", check.prompt_ids);
        // Logits and log-probabilities differ by the same constant for every token of a place.
        let constant = check.top_logits[0].1 - tokens[0].top[0].logprob;
        for (theirs, ours) in check.top_logits.iter().zip(&tokens[0].top) {
            let difference = (theirs.1 - ours.logprob - constant).abs();
            assert!(theirs.0 == ours.token && difference < LOGIT_TOLERANCE, "{theirs:?} {ours:?}");
        }
    }
}
