//! Bounds: of the answer, of the context, of the vocabulary.

use super::subject::{Subject, ask, greedy, prompt, refusal};
use crate::error::ErrorKind;
use crate::generation::{FinishReason, GenerationRequest, Prompt};

/// An answer has at most as many tokens as were asked for.
pub fn max_tokens_bounds_the_answer(subject: &Subject) {
    let instance = subject.load();
    for max_tokens in [1, 2, 7, 40] {
        let answer = ask(&instance, greedy(prompt(&instance, 12, 0), max_tokens));
        assert_eq!(answer.completion.usage.completion_tokens, max_tokens);
        assert_eq!(answer.completion.finish, FinishReason::Length);
    }
    let nothing = ask(&instance, greedy(prompt(&instance, 12, 0), 0));
    let usage = nothing.completion.usage;
    assert_eq!((nothing.text.as_str(), usage.prompt_tokens, usage.completion_tokens), ("", 12, 0));
    assert_eq!(nothing.completion.finish, FinishReason::Length);
}

/// A prompt that does not fit is refused at once, with its length and the context's.
pub fn a_prompt_too_long_is_refused_with_both_numbers(subject: &Subject) {
    let instance = subject.load();
    let context = subject.options.context_tokens as usize;
    for count in [context + 1, context + 100] {
        let failure = refusal(&instance, greedy(prompt(&instance, count, 0), 1));
        assert_eq!(failure.kind, ErrorKind::ContextExceeded, "{failure:?}");
        assert!(
            failure.message.starts_with("prompt is too long"),
            "clients know it by these words: {failure}"
        );
        let names =
            |number: usize| failure.message.replace([',', '_', ' '], "").contains(&number.to_string());
        assert!(names(count) && names(context), "{:?} names not both {count} and {context}", failure.message);
    }
    assert_eq!(ask(&instance, greedy(prompt(&instance, 12, 0), 2)).completion.usage.completion_tokens, 2);
}

/// A prompt of several prefill chunks, nearly as long as the context, is answered.
pub fn a_prompt_nearly_as_long_as_the_context_is_answered(subject: &Subject) {
    let instance = subject.load();
    let count = subject.options.context_tokens as usize - 16;
    let answer = ask(&instance, greedy(prompt(&instance, count, 4), 8));
    assert_eq!(answer.completion.usage.prompt_tokens, count as u32);
    assert_eq!(answer.completion.usage.completion_tokens, 8);
}

/// Where the context is full, the answer ends, and says so.
pub fn a_full_context_ends_with_length(subject: &Subject) {
    let instance = subject.load();
    let count = subject.options.context_tokens as usize - 10;
    let request = GenerationRequest { max_tokens: None, ..greedy(prompt(&instance, count, 5), 0) };
    let answer = ask(&instance, request);
    assert_eq!(answer.completion.finish, FinishReason::Length);
    let generated = answer.completion.usage.completion_tokens;
    assert!((1..=11).contains(&generated), "{generated} tokens in a room of 10");
}

/// Nothing cannot be continued.
pub fn an_empty_prompt_is_refused(subject: &Subject) {
    let instance = subject.load();
    let failure = refusal(&instance, greedy(Prompt::Tokens(Vec::new()), 4));
    assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
}

/// Token ids that the model does not have are refused, and harm no other request.
pub fn tokens_outside_the_vocabulary_are_refused(subject: &Subject) {
    let instance = subject.load();
    for token in [subject.descriptor.vocabulary, i32::MAX as u32, u32::MAX] {
        let failure = refusal(&instance, greedy(Prompt::Tokens(vec![0, token]), 4));
        assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
        let failure = instance.detokenize(&[token]).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
    }
    assert_eq!(ask(&instance, greedy(prompt(&instance, 12, 0), 2)).completion.usage.completion_tokens, 2);
}
