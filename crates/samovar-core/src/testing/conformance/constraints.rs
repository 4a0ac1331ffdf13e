//! Constraints: an answer obeys one, or the request is refused.

use super::subject::{Subject, greedy, prompt, try_ask};
use crate::constraint::Constraint;
use crate::error::ErrorKind;
use crate::generation::{FinishReason, GenerationRequest, Sampling};

/// However it is drawn, an answer that must be a JSON object is one, or the beginning of one where it was cut; an engine that
/// cannot see to that refuses the request. It never writes free text.
pub fn an_answer_obeys_its_constraint_or_is_refused(subject: &Subject) {
    let instance = subject.load();
    for seed in 0..4 {
        let request = GenerationRequest {
            sampling: Sampling { temperature: 2.0, seed: Some(seed), ..Sampling::default() },
            constraint: Some(Constraint::JsonObject),
            ignore_eos: false,
            ..greedy(prompt(&instance, 20, seed), 48)
        };
        match try_ask(&instance, request) {
            Err(failure) => {
                let kinds = [ErrorKind::InvalidRequest, ErrorKind::Unsupported];
                assert!(kinds.contains(&failure.kind), "{failure:?}");
            }
            Ok(answer) => {
                let read = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&answer.text);
                if let Err(error) = read {
                    let is_cut = answer.completion.finish == FinishReason::Length && error.is_eof();
                    assert!(is_cut, "seed {seed}: {error} in {answer:?}");
                }
            }
        }
    }
}
