//! The choice of tokens: stop strings, seeds, biases, probabilities.

use super::subject::{Subject, ask, greedy, prompt};
use crate::generation::{FinishReason, GenerationRequest, Sampling};

/// An answer ends before a stop string, wherever tokens cut it.
pub fn stop_strings_end_the_answer_and_are_not_in_it(subject: &Subject) {
    let instance = subject.load();
    let request = greedy(prompt(&instance, 20, 0), 32);
    let whole = ask(&instance, request.clone()).text;
    for length in [1, 3, 6] {
        let stop = part_of(&whole, length);
        let expected = &whole[..whole.find(&stop).expect("invariant: it is a part")];
        let never = || "never said \u{1}".to_owned();
        for (stops, place) in [(vec![stop.clone()], 0), (vec![never(), String::new(), stop.clone()], 2)] {
            let answer = ask(&instance, GenerationRequest { stop: stops, ..request.clone() });
            assert_eq!(answer.text, expected, "stop string {stop:?} in {whole:?}");
            assert_eq!(answer.completion.finish, FinishReason::Stop);
            assert_eq!(answer.completion.stopped_by, Some(place));
        }
    }
}

/// Text that could have been the beginning of a stop string is not lost.
pub fn stop_strings_begun_but_not_finished_are_text(subject: &Subject) {
    let instance = subject.load();
    let request = greedy(prompt(&instance, 20, 0), 24);
    let whole = ask(&instance, request.clone()).text;
    let middle = format!("{}\u{1}", part_of(&whole, 4));
    let last: String = whole.chars().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect();
    let answer = ask(&instance, GenerationRequest { stop: vec![middle, format!("{last}\u{1}")], ..request });
    assert_eq!(answer.text, whole);
    assert_eq!((answer.completion.finish, answer.completion.stopped_by), (FinishReason::Length, None));
}

/// `length` characters from the middle of a text, without replaced ones.
fn part_of(text: &str, length: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    let windows: Vec<&[char]> =
        characters.windows(length).filter(|window| !window.contains(&char::REPLACEMENT_CHARACTER)).collect();
    assert!(!windows.is_empty(), "{text:?} has no {length} whole characters in a row");
    windows[windows.len() / 2].iter().collect()
}

/// The same seed draws the same tokens, other seeds others.
pub fn seeds_make_draws_repeatable(subject: &Subject) {
    let instance = subject.load();
    let draw = |seed| {
        let sampling = Sampling {
            temperature: 1.5,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: Some(seed),
            ..Sampling::default()
        };
        ask(&instance, GenerationRequest { sampling, ..greedy(prompt(&instance, 20, 0), 24) }).text
    };
    let first = draw(7);
    assert_eq!(draw(7), first);
    assert!((8..16).any(|seed| draw(seed) != first), "eight other seeds drew the same text");
}

/// A bias of −∞ bans a token, a large one forces it.
pub fn logit_bias_bans_and_forces(subject: &Subject) {
    let instance = subject.load();
    let plain = greedy(prompt(&instance, 20, 0), 6);
    let biased = |bias: Vec<(u32, f32)>| {
        let sampling = Sampling { logit_bias: bias, ..Sampling::greedy() };
        let answer = ask(&instance, GenerationRequest { sampling, ..plain.clone() });
        answer.tokens.iter().map(|token| token.token).collect::<Vec<_>>()
    };
    let answer = ask(&instance, plain.clone());
    let (first, second) = (answer.tokens[0].token, answer.tokens[0].top[1].token);
    assert!(!biased(vec![(first, f32::NEG_INFINITY)]).contains(&first));
    let forced = biased(vec![(second, 1000.0)]);
    assert!(forced.iter().all(|token| *token == second), "{forced:?} instead of {second} only");
}

/// Probabilities are numbers, the best come first, as many as were asked for, with the text's bytes.
pub fn logprobs_are_finite_sorted_and_complete(subject: &Subject) {
    let instance = subject.load();
    let request = greedy(prompt(&instance, 20, 0), 12);
    for count in [0, 1, 5, 20] {
        let answer = ask(&instance, GenerationRequest { logprobs: Some(count), ..request.clone() });
        assert_eq!(answer.tokens.len(), 12, "one for each token");
        for token in &answer.tokens {
            assert_eq!(token.top.len(), count as usize);
            assert!(token.logprob.is_finite() && token.logprob <= 1e-3, "{token:?}");
            assert!(
                token.top.iter().all(|other| other.logprob.is_finite() && other.top.is_empty()),
                "{token:?}"
            );
            assert!(token.top.is_sorted_by(|a, b| a.logprob >= b.logprob), "{token:?}");
            let total: f64 = token.top.iter().map(|other| f64::from(other.logprob).exp()).sum();
            assert!(total < 1.001, "{total}: {token:?}");
            if let Some(best) = token.top.first() {
                assert_eq!(best.token, token.token, "greedy takes the best");
                assert!((best.logprob - token.logprob).abs() < 1e-4, "{token:?}");
            }
        }
        let bytes: Vec<u8> = answer.tokens.iter().flat_map(|token| token.bytes.clone()).collect();
        assert_eq!(String::from_utf8_lossy(&bytes), answer.text);
    }
    let without = ask(&instance, GenerationRequest { logprobs: None, ..request });
    assert!(without.tokens.is_empty());
}
