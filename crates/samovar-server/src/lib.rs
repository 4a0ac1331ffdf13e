//! HTTP over the runtime: the APIs of OpenAI, Anthropic, Ollama, llama-server and text-embeddings-inference (TEI), operations, and the
//! owner's admin API.
//!
//! ```text
//!   TCP ──► guard, keys ───┬─► /v1/…                       OpenAI's API        openai/ ─┐
//!                          ├─► /v1/responses               the same, in items  responses┤
//!                          ├─► /v1/messages                Anthropic's API     messages ┤
//!                          ├─► /api/…                      Ollama's API        ollama/ ─┤
//!                          ├─► /rerank /embed /tokenize …  that of TEI         rerank, tei/ ─► embedding/ ─► runtime
//!                          ├─► /completion /props /slots   llama-server's      llama_server/ ─► generation/ ─► runtime
//!                          ├─► /chat …                     kept conversations  chat/ ───┼─► samovar-chat, generation/
//!                          ├─► /healthz /readyz /metrics   operations          health, metrics
//!                          ├─► / /page/…                   the page for people page/
//!   Unix socket, owner ────┼─► /admin/…  (owner, or a key) samovar's own CLI   admin/ ──┼─► generation/ ─► runtime
//!                          └─► /rpc, or without HTTP       JSON-RPC 2.0        rpc/ ────┘
//! ```
//!
//! Wire formats live here and nowhere else. Nothing here knows of models, memory or engines: a
//! request becomes a [`samovar::Request`], and the answer's events become bytes.
#![forbid(unsafe_code)]

mod acceptor;
mod activity;
pub mod admin;
mod app;
mod audit;
mod buffer_charge;
mod chat;
mod client;
mod config;
mod connection;
mod connection_table;
mod embedding;
mod error;
mod events;
mod field;
mod file_stamp;
mod generation;
mod health;
mod held_body;
mod keys;
mod layer;
mod ledger;
mod llama_server;
mod messages;
mod metrics;
mod moment;
mod ndjson;
mod ollama;
mod openai;
mod openapi;
mod page;
mod payload;
mod port_holder;
mod pulls;
mod redact;
mod refusal;
mod request_record;
mod request_table;
mod rerank;
mod responses;
mod route;
mod routes;
mod rpc;
mod serve;
mod socket;
mod task;
mod tei;
mod tls;
mod usage;

pub use activity::ServerHandle;
pub use config::{Limits, ServeConfig, SettingsSource};
pub use error::Error;
pub use field::{ANSWER_HEADERS, Field, FieldValue, REQUEST_HEADERS};
pub use keys::{KeyFile, KeyFileError, KeyRecord, KeyTerms, ParseScopeError, Scope, Secret};
pub use metrics::{METRICS, MetricFamily};
pub use openai::{error_type as openai_error_type, refused_fields};
pub use openapi::{Answers, Api, document as openapi};
pub use port_holder::PortHolder;
pub use route::Route;
pub use routes::ROUTES;
pub use serve::{Server, serve};
pub use socket::others_write;
pub use tls::{TlsError, TlsFiles};
pub use usage::read_usage;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;

use app::App;
use refusal::Refusal;
use routes::refuse;

/// Every route of a listener. Those of the owner are there on every listener, and answer over TCP only with a key.
fn router(app: &App) -> Router {
    let routes = ROUTES.iter().fold(Router::new(), |routes, route| {
        routes.route(&route.pattern(), layer::keyed((route.handler)(), route, app))
    });
    layer::around(routes.fallback(unknown_route).method_not_allowed_fallback(wrong_method), app)
}

async fn unknown_route(method: Method, uri: Uri) -> Response {
    no_route(&method, &uri)
}

/// What is answered where no route is, or where it is not to be known that one is.
fn no_route(method: &Method, uri: &Uri) -> Response {
    let message = format!("there is no route {method} {}", shortened(uri.path()));
    let refusal = Refusal::new(StatusCode::NOT_FOUND, refusal::UNKNOWN_ROUTE, message);
    refuse(uri.path(), refusal.with_hint(meant_by(uri.path())))
}

async fn wrong_method(State(app): State<App>, method: Method, uri: Uri) -> Response {
    if ROUTES.iter().filter(|route| route.is_of(uri.path())).all(|route| route.is_hidden(&app)) {
        return no_route(&method, &uri);
    }
    let message = format!("{} does not take {method}", shortened(uri.path()));
    let methods: Vec<&str> =
        ROUTES.iter().filter(|route| route.is_of(uri.path())).map(|route| route.method).collect();
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, refusal::WRONG_METHOD, message);
    refuse(uri.path(), refusal.with_hint(format!("send it by {}", methods.join(" or "))))
}

/// Which route a client meant that asked for one that is not there.
fn meant_by(path: &str) -> String {
    const ROUTES: [&str; 7] = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/embeddings",
        "/v1/models",
        "/v1/rerank",
    ];
    let path = path.trim_end_matches('/');
    // A base URL without /v1, with it twice, or with the prefix of another server.
    match ROUTES.into_iter().find(|route| path.ends_with(route.trim_start_matches("/v1"))) {
        Some(route) => format!("did you mean {route}?"),
        None if path.starts_with("/api/") => {
            "Ollama's routes that are served begin with /api/chat and /api/generate".to_owned()
        }
        None => format!("routes that are served: {}", ROUTES.join(", ")),
    }
}

/// As much of a path as an answer repeats.
fn shortened(path: &str) -> &str {
    const MOST_BYTES: usize = 200;
    let is_end = |at: &usize| path.is_char_boundary(*at);
    let end = (0..=path.len().min(MOST_BYTES)).rev().find(is_end).unwrap_or(0);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_repeated_up_to_a_whole_character() {
        assert_eq!(shortened("/v1/models"), "/v1/models");
        let long = format!("/{}", "é".repeat(300));
        assert_eq!(shortened(&long), format!("/{}", "é".repeat(99)));
    }
}
