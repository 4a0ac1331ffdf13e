//! HTTP over the runtime: OpenAI's API, operations, and the owner's admin API.
//!
//! ```text
//!   TCP, anyone ──► guard ─┬─► /v1/…                       OpenAI's API        openai/
//!                          ├─► /healthz /readyz /metrics   operations          health, metrics
//!   Unix socket, owner ────┴─► /admin/…  (owner only)      samovar's own CLI   admin/
//! ```
//!
//! Wire formats live here and nowhere else. Nothing here knows of models, memory or engines: a
//! request becomes a [`samovar::Request`], and the answer's events become bytes.
#![forbid(unsafe_code)]

mod activity;
pub mod admin;
mod app;
mod client;
mod config;
mod connection;
mod error;
mod health;
mod kept;
mod layer;
mod metrics;
mod ndjson;
mod openai;
mod payload;
mod redact;
mod refusal;
mod running;
mod seats;
mod serve;
mod socket;

pub use activity::ServerHandle;
pub use config::{Limits, ServeConfig};
pub use error::Error;
pub use serve::{Server, serve};

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use app::{App, Surface};
use refusal::Refusal;

/// Every route of a door.
fn router(app: &App) -> Router {
    let mut routes = Router::new()
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{*id}", get(openai::models::one))
        .route("/v1/chat/completions", post(openai::chat::complete))
        .route("/v1/completions", post(openai::completions::complete))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::scrape));
    if app.surface == Surface::Local {
        routes = routes
            .route("/admin/stats", get(admin::facts::stats))
            .route("/admin/models", get(admin::facts::models))
            .route("/admin/why", get(admin::facts::why))
            .route("/admin/generate", post(admin::generate::generate))
            .route("/admin/warm", post(admin::warm::warm))
            .route("/admin/pack", post(admin::pack::pack))
            .route("/admin/pin", post(admin::orders::pin))
            .route("/admin/unload", post(admin::orders::unload))
            .route("/admin/reload", post(admin::orders::reload))
            .route("/admin/shutdown", post(admin::orders::shutdown));
    }
    layer::around(routes.fallback(unknown_route).method_not_allowed_fallback(wrong_method), app)
}

async fn unknown_route(method: Method, uri: Uri) -> Response {
    let message = format!("there is no route {method} {}", uri.path());
    refuse(uri.path(), Refusal::new(StatusCode::NOT_FOUND, "unknown_route", message))
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    refuse(uri.path(), Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message))
}

/// A refusal in the form that clients of this path expect.
fn refuse(path: &str, refusal: Refusal) -> Response {
    if path.starts_with("/admin/") {
        admin::Refused(refusal).into_response()
    } else {
        openai::Refused(refusal).into_response()
    }
}
