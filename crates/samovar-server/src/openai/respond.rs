//! From checked requests to a response: starts the choices, waits until its status is decided, answers in one of two
//! ways.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use samovar::Request;

use super::options::Wanted;
use super::shape::{Frame, Shape};
use super::{Refused, sse, whole};
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::generation::choices::Choices;
use crate::generation::{event_stream, heading};
use crate::layer::RequestId;
use crate::moment::now_unix_s;
use crate::redact::redact;

/// What tells one response from another.
pub(super) struct Identity<'a> {
    pub(super) prefix: &'static str,
    pub(super) request: &'a RequestId,
}

/// Answers with one choice for each request. What the requests hold is counted with the choices.
pub(super) async fn respond<S: Shape>(
    app: &App,
    wanted: &Wanted,
    (requests, held): (Vec<Request>, BufferCharge),
    shape: S,
    identity: Identity<'_>,
) -> Result<Response, Refused> {
    let count = requests.len();
    let mut choices = Choices::start(app, requests, held)?;
    let opening = if wanted.is_streamed { choices.open_soon().await? } else { choices.open().await? };
    let headers = heading::of(&opening);
    let frame = Frame {
        id: format!("{}-{}", identity.prefix, identity.request.0),
        created: now_unix_s(),
        model: opening.granted.as_ref().map(|granted| redact(&granted.model)).unwrap_or_default(),
        fingerprint: app.fingerprint.clone(),
        answers: wanted.answers,
    };
    if wanted.is_streamed {
        let writer = sse::Writer::new(frame, shape, count, wanted.includes_usage);
        return Ok((headers, event_stream::response(choices, opening, writer)).into_response());
    }
    let object = whole::collect(choices, opening.events, &frame, &shape, count).await?;
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], Body::from(object)).into_response())
}
