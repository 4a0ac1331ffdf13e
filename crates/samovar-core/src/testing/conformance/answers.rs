//! Answers are repeatable, counted right, and not changed by what was computed before.

use super::subject::{Subject, ask, greedy, prompt};
use crate::generation::{FinishReason, GenerationRequest, Prompt};

/// Log-probabilities of one token in two batches of different shape may differ by this much.
const LOGPROB_NOISE: f32 = 0.15;

/// The same greedy request gives the same answer.
pub fn answers_greedily_the_same_each_time(subject: &Subject) {
    let instance = subject.load();
    let request = greedy(prompt(&instance, 20, 0), 24);
    let first = ask(&instance, request.clone());
    let second = ask(&instance, request);
    assert_eq!(second.text, first.text);
    assert_eq!(first.completion.usage, second.completion.usage);
}

/// Prompt tokens are those of the tokenizer, completion tokens those of the stream.
pub fn usage_adds_up(subject: &Subject) {
    let instance = subject.load();
    let text = "Once there was a fox.";
    let expected = instance.tokenize(text, true, false).unwrap().len() as u32;
    let prompt = Prompt::Text { text: text.to_owned(), add_special: true, parse_special: false };
    for ignore_eos in [true, false] {
        let answer = ask(&instance, GenerationRequest { ignore_eos, ..greedy(prompt.clone(), 16) });
        let usage = answer.completion.usage;
        assert_eq!(usage.prompt_tokens, expected);
        assert!(usage.cached_tokens < usage.prompt_tokens, "{usage:?}");
        assert!(usage.completion_tokens <= 16, "{usage:?}");
        assert_eq!(usage.thinking_tokens, 0, "only conversations have thoughts");
        // The token that ends the answer has no event; withheld text has one of its own.
        assert!(answer.token_events.abs_diff(usage.completion_tokens) <= 1, "{answer:?}");
        assert!(answer.completion.prefill_ms >= 0.0 && answer.completion.decode_ms >= 0.0, "{answer:?}");
    }
}

/// Text becomes tokens and text again; added spaces at the beginning are the tokenizer's business.
pub fn text_survives_its_tokens(subject: &Subject) {
    let instance = subject.load();
    for text in ["Hello, world!", "two  spaces\nand a line", "naïve café — 東京 🦊", "1234567890"] {
        let tokens = instance.tokenize(text, false, false).unwrap();
        assert!(tokens.iter().all(|token| *token < subject.descriptor.vocabulary.max(1)), "{tokens:?}");
        let back = String::from_utf8(instance.detokenize(&tokens).unwrap()).unwrap();
        assert_eq!(back.trim_start(), text);
    }
    assert_eq!(instance.detokenize(&[]).unwrap(), b"");
}

/// Batches around and beyond 64 tokens use other kernels than small ones, and must agree with them.
pub fn batches_beyond_64_tokens_are_right(subject: &Subject) {
    let instance = subject.load();
    let most = subject.options.context_tokens as usize - 8;
    for count in [63, 64, 65, 100, 129, 200, 300, 511, 600].into_iter().filter(|count| *count <= most) {
        let whole = ask(&instance, greedy(prompt(&instance, count, 1), 4));
        assert_eq!(whole.completion.usage.prompt_tokens, count as u32);
        assert_eq!(whole.tokens.len(), 4, "prompt of {count}");
        assert!(whole.tokens.iter().all(|token| token.logprob.is_finite()), "prompt of {count}: {whole:?}");
        let again = ask(&instance, greedy(prompt(&instance, count, 1), 4));
        assert_eq!(again.text, whole.text, "prompt of {count}");
    }
}

/// A prompt whose beginning was computed before is answered as if it was not.
pub fn reused_prefixes_do_not_change_the_answer(subject: &Subject) {
    if !subject.capabilities().reuses_prefixes {
        return;
    }
    let fresh = subject.load();
    let reusing = subject.load();
    for (known, asked) in [(100, 140), (140, 100), (70, 71), (150, 150)] {
        let reuse =
            |count| GenerationRequest { reuse_prefix: true, ..greedy(prompt(&reusing, count, 2), 12) };
        ask(&reusing, reuse(known));
        let expected = ask(&fresh, greedy(prompt(&fresh, asked, 2), 12));
        let answer = ask(&reusing, reuse(asked));
        assert!(answer.completion.usage.cached_tokens > 0, "{known} then {asked}: {:?}", answer.completion);
        let (ours, theirs) = (expected.tokens[0].logprob, answer.tokens[0].logprob);
        assert!((ours - theirs).abs() < LOGPROB_NOISE, "{known} then {asked}: {ours} against {theirs}");
        subject.assert_same(&format!("prefix of {known} for {asked} tokens"), &expected, &answer);
    }
}

/// What is reused is reported, and nothing is reused where that was not wanted.
pub fn cached_prefixes_are_reported(subject: &Subject) {
    let instance = subject.load();
    let request = |reuse_prefix| GenerationRequest { reuse_prefix, ..greedy(prompt(&instance, 120, 3), 8) };
    let cached = |reuse_prefix| ask(&instance, request(reuse_prefix)).completion.usage.cached_tokens;
    assert_eq!(cached(true), 0, "nothing was computed before");
    let reused = cached(true);
    if subject.capabilities().reuses_prefixes {
        assert!((100..120).contains(&reused), "{reused} of 120 tokens reused");
    } else {
        assert_eq!(reused, 0);
    }
    assert_eq!(cached(false), 0, "reuse was not wanted");
    let answer = ask(&instance, request(false));
    assert_eq!(answer.completion.finish, FinishReason::Length);
}
