//! Asking for vectors, and comparing them.

use std::sync::Arc;

use samovar_core::embedding::{EmbedInput, EmbedOutput, EmbedRequest, Embedded, Truncate, Urgency};
use samovar_core::generation::Generation;
use samovar_core::port::{Instance, Unconfined};
use samovar_core::{Completion, Failure, TokenEvent};

/// For vectors of length 1.
pub(crate) fn request(inputs: Vec<EmbedInput>) -> EmbedRequest {
    EmbedRequest {
        inputs,
        output: EmbedOutput::Vector { dimensions: None, normalize: true },
        truncate: Truncate::Refuse,
        urgency: Urgency::Interactive,
    }
}

/// What each input became, in their order, and the end.
pub(crate) fn told(mut generation: Generation) -> Result<(Vec<Embedded>, Completion), Failure> {
    let mut all = Vec::new();
    while let Some(event) = generation.blocking_next() {
        match event {
            TokenEvent::Embedded(embedded) => all.push(embedded),
            TokenEvent::Done(completion) => {
                all.sort_by_key(|embedded| embedded.index);
                return Ok((all, completion));
            }
            TokenEvent::Failed(failure) => return Err(failure),
            TokenEvent::Prefilling { .. } | TokenEvent::Prefilled { .. } => {}
            TokenEvent::Token { .. } | TokenEvent::Deltas { .. } => panic!("a token instead of a vector"),
        }
    }
    panic!("the answer has no end")
}

pub(crate) fn embed(
    instance: &Arc<dyn Instance>,
    request: EmbedRequest,
) -> Result<(Vec<Embedded>, Completion), Failure> {
    told(instance.embed(request, &Unconfined)?)
}

/// The vector of one input.
pub(crate) fn vector(instance: &Arc<dyn Instance>, input: EmbedInput) -> Vec<f32> {
    let (embedded, _) = embed(instance, request(vec![input])).expect("it is answered");
    embedded.into_iter().next().expect("one input").values
}

/// Why a request is not even taken.
pub(crate) fn refused(instance: &Arc<dyn Instance>, request: EmbedRequest) -> Failure {
    instance.embed(request, &Unconfined).map(|_| ()).expect_err("it is refused")
}

/// Why a request is not answered.
pub(crate) fn first_failure(instance: &Arc<dyn Instance>, request: EmbedRequest) -> Failure {
    embed(instance, request).map(|_| ()).expect_err("it fails")
}

pub(crate) fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let product = |left: &[f32], right: &[f32]| -> f64 {
        left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
    };
    assert_eq!(left.len(), right.len());
    product(left, right) / (product(left, left) * product(right, right)).sqrt()
}
