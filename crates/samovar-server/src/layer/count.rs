//! Counts every answer, keeps the record of its request until its last byte, and turns a panic into one.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;

use super::RequestId;
use crate::app::App;
use crate::client::Peer;
use crate::metrics;
use crate::refusal::Refusal;
use crate::request_record::RequestRecord;
use crate::routes::{self, refuse};

pub(super) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let (route, method) = (routes::of(&path), request.method().clone());
    let address = request.extensions().get::<Peer>().map(|peer| Arc::clone(peer.name()));
    let record = RequestRecord::begin(&app.ledger, &id, address.as_deref().unwrap_or_default(), method);
    record.came_to(metrics::label(route), false);
    if route.is_some_and(|route| route.is_owners) {
        record.changes_daemon();
    }
    let outcome = AssertUnwindSafe(record.during(next.run(request))).catch_unwind().await;
    let response = outcome.unwrap_or_else(|_| {
        tracing::error!(path, id, "a handler panicked");
        let message = format!("a fault of the server; request {id}");
        refuse(&path, Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message))
    });
    tracing::debug!(path, id, status = response.status().as_u16(), "answered");
    app.metrics.answered(metrics::label(route), response.status());
    record.answered(response.status());
    response.map(|body| record.until_end_of(body))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use samovar_core::testing::FakeEngine;
    use tower::ServiceExt;

    use super::*;
    use crate::app::Surface;
    use crate::config::ServeConfig;
    use crate::serve::Server;

    #[tokio::test]
    async fn a_panic_is_a_500_in_json_and_counted() {
        let home = tempfile::tempdir().expect("tempdir");
        let engine = Arc::new(FakeEngine::new());
        let runtime =
            samovar::Runtime::builder().cache_dir(home.path()).engine(engine).build().expect("builds");
        let config = ServeConfig { socket: Some(home.path().join("run/s")), ..ServeConfig::default() };
        let server = Server::bind(runtime, config).await.expect("binds");
        let app = server.app(Surface::Local);
        let broken = get(async || -> &'static str { panic!("on purpose") });
        let routes = super::super::around(Router::new().route("/v1/models", broken), &app);
        let request = axum::http::Request::get("/v1/models").body(Body::empty()).expect("builds");
        let response = routes.oneshot(request).await.expect("answers");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().contains_key("x-request-id"));
        let body = response.into_body().collect().await.expect("reads").to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["error"]["type"], "server_error");
        assert!(!body.to_string().contains("on purpose"), "{body}");
    }
}
