//! Counts every answer, and turns a panic into one.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;

use super::RequestId;
use crate::app::App;
use crate::refusal::Refusal;

pub(super) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let response = match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(path, id, "a handler panicked");
            let message = format!("a fault of the server; request {id}");
            crate::refuse(&path, Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message))
        }
    };
    tracing::debug!(path, id, status = response.status().as_u16(), "answered");
    app.metrics.answered(&path, response.status());
    response
}
