//! From a checked request to a response: starts the answer, waits for its first token, writes it in one of two ways.

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use samovar::{AnswerEvent, Input, ModelInfo, Request, Work};
use samovar_core::Failure;

use super::context::Conversation;
use super::shape::{Frame, Part, Shape, call, logprob};
use super::terms::Wanted;
use super::{Refused, lines};
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::generation::choices::Choices;
use crate::generation::collected::{self, Collected};
use crate::generation::running::without_summary;
use crate::generation::{copies, heading, long_list};
use crate::refusal::{Refusal, shown};

/// Answers a request.
pub(super) async fn respond(app: &App, wanted: Wanted, shape: Shape) -> Result<Response, Refused> {
    respond_after(app, wanted, shape, None).await
}

/// The same, and the last object holds the conversation so far if it is given.
pub(super) async fn respond_after(
    app: &App,
    wanted: Wanted,
    shape: Shape,
    said: Option<Conversation>,
) -> Result<Response, Refused> {
    let Wanted { asked, info, common, generate, is_streamed } = wanted;
    let (work, verb) = match generate.input {
        Input::Infill(_) => ("infill", "insert"),
        _ => ("generate", shape.verb()),
    };
    // A model that is not here yet may be anything.
    let can = |info: &ModelInfo| info.capabilities.iter().any(|own| own == work);
    if info.as_ref().is_some_and(|info| !can(info)) {
        let message = format!("{:?} does not support {verb}", shown(&asked));
        return Err(Refusal::invalid("model", message).with_hint("/api/show tells what it can do").into());
    }
    let mut held = BufferCharge::new(app, &common.client);
    held.add(copies::value_bytes(&generate))?;
    held.add(said.as_ref().map_or(0, Conversation::bytes))?;
    let request = Request::of(common, Work::Generate(generate));
    let mut choices = Choices::start(app, vec![request], held)?;
    let opening = choices.open().await?;
    let headers = heading::of(&opening);
    let frame = Frame::new(&asked, shape).after(said);
    if is_streamed {
        return Ok((headers, lines::response(choices, opening.events, frame)).into_response());
    }
    let object = collect(choices, opening.events, &frame).await?;
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], Body::from(object)).into_response())
}

/// Waits for the whole answer, which is counted until its reader has it.
async fn collect(
    choices: Choices,
    said: VecDeque<(usize, AnswerEvent)>,
    frame: &Frame,
) -> Result<Bytes, Failure> {
    let (collected, held) = collected::collect(choices, said, 1).await?;
    let Collected { text, thinking, calls, logprobs, summary } =
        collected.into_iter().next().unwrap_or_default();
    let answer = if frame.remembers() { text.clone() } else { String::new() };
    let mut whole = Part { text, thinking, ..Part::default() };
    for one in &calls {
        whole.calls.extend(call(whole.calls.len(), one));
    }
    let object = frame.last(whole, &summary.ok_or_else(without_summary)?, &answer);
    let mut bytes = serde_json::to_vec(&object).expect("invariant: answers are plain data");
    long_list::append(&mut bytes, "logprobs", logprobs.iter().map(logprob));
    held.becomes(bytes)
}
