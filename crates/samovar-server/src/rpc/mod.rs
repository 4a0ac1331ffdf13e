//! JSON-RPC 2.0 for programs on the owner's machine: on the Unix socket, by messages as they are or by `POST /rpc`.
//!
//! ```text
//!   Unix socket ─► first byte ─┬─ of HTTP ─► routes ─► POST /rpc ───────────────────────────┐
//!                              └─ else ────► connection ─► framing (lines │ Content-Length) ┴─► session ─► methods
//!
//!   session: one client; its calls run at the same time       wire: what messages look like
//!   methods: the table ─► cache, generate                     discover: the table as OpenRPC
//! ```
//!
//! Everything is done by the functions of the other routes: warming and statistics by `admin/`, answers and vectors by `openai/`,
//! `generation/` and `embedding/`.

mod cache;
mod connection;
mod discover;
mod framing;
mod generate;
mod methods;
mod session;
#[cfg(test)]
mod specification;
mod wire;

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use samovar_core::{ErrorKind, Failure};
use tokio::sync::mpsc;

pub(crate) use connection::serve;
pub(crate) use framing::begins_with;

use methods::METHODS;
use session::{Session, UNSENT};
use wire::{Fault, Id};

use crate::app::{App, Surface};
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::payload::Payload;
use crate::refusal::Refusal;

/// The type of answers whose client also takes what happens on the way to them.
const LINES: &str = "application/x-ndjson";

/// `POST /rpc`: one message. Notifications are told to clients that accept lines.
pub(crate) async fn post(
    State(app): State<App>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    if app.surface != Surface::Local {
        // Its methods do what the owner may do, whatever the table of routes lets in.
        let failure = Failure::new(ErrorKind::Forbidden, "JSON-RPC is served on the owner's socket alone");
        return Err(failure.with_hint("`samovar rpc` on that machine speaks it").into());
    }
    let bytes = Payload::read(body, &app.limits).await?.into_bytes();
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    let takes_lines = accepted.is_some_and(|accepted| accepted.contains(LINES));
    let (queue, unsent) = mpsc::channel(UNSENT);
    // The body itself is counted by its connection.
    let held = BufferCharge::new(&app, &asker.client(None));
    let mut session = Session::new(app, asker, METHODS, queue, takes_lines);
    session.take(&bytes, held);
    drop(bytes);
    let mut exchange = Exchange { session, unsent };
    if takes_lines {
        let said = stream::unfold(exchange, |mut exchange| async move {
            let said = exchange.next().await?;
            Some((said, exchange))
        });
        let end = Bytes::from_static(b"\n");
        let lines = said.flat_map(move |said| stream::iter([said, end.clone()].map(Ok::<_, Infallible>)));
        return Ok(([(header::CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response());
    }
    Ok(match exchange.next().await {
        Some(answer) => ([(header::CONTENT_TYPE, "application/json")], Body::from(answer)).into_response(),
        // There were only notifications, and they are done.
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// A message on its way to its answer. Dropping it cancels its calls.
struct Exchange {
    session: Session,
    unsent: mpsc::Receiver<Bytes>,
}

impl Exchange {
    /// What is said next; `None` when all was.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                biased;
                said = self.unsent.recv() => return said,
                answered = self.session.answered() => answered?,
            }
        }
    }
}

/// A refusal of HTTP as clients of JSON-RPC read it.
#[derive(Debug)]
pub(crate) struct Refused(Refusal);

impl<T: Into<Refusal>> From<T> for Refused {
    fn from(refusal: T) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(refusal) = self;
        let (status, headers) = (refusal.status, refusal.headers());
        let fault = match refusal.code {
            "invalid_json" => Fault::parse(refusal.failure.message),
            _ => Fault::from(refusal),
        };
        let body = wire::error(&Id::NULL, &fault);
        (status, headers, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// Writes a refusal as clients of JSON-RPC read it.
pub(crate) fn refuse(refusal: Refusal) -> Response {
    Refused(refusal).into_response()
}
