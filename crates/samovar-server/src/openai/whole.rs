//! A response in one piece.

use std::collections::VecDeque;

use axum::body::Bytes;
use samovar::AnswerEvent;
use samovar_core::Failure;

use super::shape::{Extra, Frame, Shape, UsageObject};
use crate::generation::choices::Choices;
use crate::generation::collected::{self, Collected};

/// Waits for all choices and puts them into one object of JSON, which is counted until its reader has it.
///
/// # Errors
/// Whatever failed in one of them; the others are cancelled. `Busy` when no memory is left for what is collected.
pub(super) async fn collect<S: Shape>(
    choices: Choices,
    said: VecDeque<(usize, AnswerEvent)>,
    frame: &Frame,
    shape: &S,
    count: usize,
) -> Result<Bytes, Failure> {
    let (collected, held) = collected::collect(choices, said, count).await?;
    held.becomes(object(&collected, frame, shape)?)
}

fn object<S: Shape>(collected: &[Collected], frame: &Frame, shape: &S) -> Result<Vec<u8>, Failure> {
    let mut usage = UsageObject::default();
    let mut objects = Vec::with_capacity(collected.len());
    for (index, choice) in collected.iter().enumerate() {
        let summary = choice.end()?;
        usage.add(index, frame.answers, summary.usage);
        objects.push(shape.whole(index, choice, summary.finish));
    }
    let mut envelope = frame.envelope(S::WHOLE_OBJECT, &objects);
    envelope.usage = Some(usage);
    envelope.samovar = Extra::of_all(collected.iter().filter_map(|choice| choice.summary.as_ref()));
    Ok(serde_json::to_vec(&envelope).expect("invariant: responses are plain data"))
}
