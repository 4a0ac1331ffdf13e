//! What tells Ollama's clients that a server is there, and how new it is.

use axum::Json;
use axum::http::HeaderName;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The version of Ollama whose API this is: clients compare it with the version that they need, digit by digit.
const VERSION: &str = "0.30.0";
/// Ours.
const OWN_VERSION: HeaderName = HeaderName::from_static("x-samovar-version");

/// What `/` says to programs.
pub(crate) const RUNNING: &str = "Ollama is running";

/// `GET /api/version`.
pub(crate) async fn version() -> Response {
    ([(OWN_VERSION, env!("CARGO_PKG_VERSION"))], Json(json!({ "version": VERSION }))).into_response()
}
