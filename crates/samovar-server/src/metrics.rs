//! What Prometheus reads: the pool's numbers as they are now, and this server's own counts.
//!
//! Labels are bounded: routes, kinds and reasons come from fixed lists, models from what the owner named.

use std::fmt;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use samovar::{Summary, Tier};
use samovar_core::ErrorKind;
use samovar_core::generation::FinishReason;

use crate::app::App;
use crate::connection::Doing;
use crate::redact::redact;

mod buffers;
mod packed;
mod pool;
mod store;
mod workers;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// From a loaded model's first token to a large model's load, in seconds.
const LATENCY_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// From a small model's decode step to a large one's, in seconds.
const STEP_BUCKETS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0];
/// Routes that have a label of their own; models of `/v1/models/…` share one.
const ROUTES: [&str; 16] = [
    "/admin/generate",
    "/admin/models",
    "/admin/pack",
    "/admin/pin",
    "/admin/reload",
    "/admin/shutdown",
    "/admin/stats",
    "/admin/unload",
    "/admin/warm",
    "/admin/why",
    "/healthz",
    "/metrics",
    "/readyz",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/models",
];

type Labels<const N: usize> = [(&'static str, String); N];
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// This server's own counts. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: std::sync::Arc<Registry>,
    responses: Family<Labels<2>, Counter>,
    finished: Family<Labels<1>, Counter>,
    errors: Family<Labels<1>, Counter>,
    tokens: Family<Labels<1>, Counter>,
    loads: Histograms<2>,
    first_token: Histograms<1>,
    between_tokens: Histograms<1>,
    in_flight: Gauge,
    connections: Gauge,
    dismissed: Family<Labels<1>, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let latency: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        let step: fn() -> Histogram = || Histogram::new(STEP_BUCKETS);
        let mut metrics = Self {
            registry: std::sync::Arc::default(),
            responses: Family::default(),
            finished: Family::default(),
            errors: Family::default(),
            tokens: Family::default(),
            loads: Family::new_with_constructor(latency),
            first_token: Family::new_with_constructor(latency),
            between_tokens: Family::new_with_constructor(step),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            dismissed: Family::default(),
        };
        metrics.registry = std::sync::Arc::new(metrics.registered());
        metrics
    }

    fn registered(&self) -> Registry {
        let mut registry = Registry::with_prefix("samovar");
        registry.register("http_responses", "Answers by route and status", self.responses.clone());
        registry.register("requests_finished", "Generations by how they ended", self.finished.clone());
        registry.register("request_errors", "Generations that failed, by kind", self.errors.clone());
        registry.register(
            "tokens",
            "Tokens of prompts, of cached prefixes and of answers",
            self.tokens.clone(),
        );
        registry.register(
            "cache_load_duration_seconds",
            "Time that requests waited for a model to be loaded",
            self.loads.clone(),
        );
        registry.register(
            "request_first_token_seconds",
            "From a request's arrival to its first token",
            self.first_token.clone(),
        );
        registry.register(
            "request_inter_token_seconds",
            "Mean time between the tokens of an answer",
            self.between_tokens.clone(),
        );
        registry.register("requests_in_flight", "Generations that run or wait", self.in_flight.clone());
        registry.register("http_connections", "Open connections", self.connections.clone());
        registry.register(
            "http_connections_dismissed",
            "Connections closed for others, by what they were doing",
            self.dismissed.clone(),
        );
        registry
    }

    /// An answer was begun.
    pub(crate) fn answered(&self, path: &str, status: StatusCode) {
        let labels = [("route", route(path).to_owned()), ("status", status.as_u16().to_string())];
        self.responses.get_or_create(&labels).inc();
    }

    /// A generation was granted a slot.
    pub(crate) fn granted(&self, model: &str, tier: Tier, load_ms: f64) {
        if matches!(tier, Tier::Cold | Tier::Fetched | Tier::Joined) {
            let labels = [("tier", "l1".to_owned()), ("model", redact(model))];
            self.loads.get_or_create(&labels).observe(load_ms / 1e3);
        }
    }

    /// A generation ended.
    pub(crate) fn done(&self, model: &str, summary: &Summary) {
        let reason = match summary.finish {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::TimedOut => "timed_out",
        };
        self.finished.get_or_create(&[("reason", reason.to_owned())]).inc();
        let usage = summary.usage;
        for (kind, count) in [
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens),
        ] {
            self.tokens.get_or_create(&[("kind", kind.to_owned())]).inc_by(u64::from(count));
        }
        if usage.completion_tokens == 0 {
            return;
        }
        let model = [("model", redact(model))];
        self.first_token.get_or_create(&model).observe(summary.timings.first_token_ms / 1e3);
        if usage.completion_tokens > 1 {
            let mean_ms = summary.timings.decode_ms / f64::from(usage.completion_tokens - 1);
            self.between_tokens.get_or_create(&model).observe(mean_ms / 1e3);
        }
    }

    /// A generation failed.
    pub(crate) fn failed(&self, kind: ErrorKind) {
        self.errors.get_or_create(&[("kind", kind.surface().code.to_owned())]).inc();
    }

    /// Counts a generation for as long as the result lives.
    pub(crate) fn generation(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// A connection has a place, perhaps that of one that did this.
    pub(crate) fn seated(&self, instead_of: Option<Doing>) {
        if let Some(doing) = instead_of {
            self.dismissed.get_or_create(&[("doing", doing.word().to_owned())]).inc();
        }
    }

    /// Counts a connection for as long as the result lives.
    pub(crate) fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }
}

/// Something that is counted while it lasts.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The label of a path.
fn route(path: &str) -> &'static str {
    if path.starts_with("/v1/models/") {
        return "/v1/models/{id}";
    }
    ROUTES.into_iter().find(|route| *route == path).unwrap_or("other")
}

/// `GET /metrics`.
pub(crate) async fn scrape(State(app): State<App>) -> Response {
    let pool = pool::registry(app.runtime.stats().await, app.runtime.buffers().clone());
    let mut text = String::new();
    let written = encode_registry(&mut text, &app.metrics.registry)
        .and_then(|()| encode_registry(&mut text, &pool))
        .and_then(|()| encode_eof(&mut text));
    match written {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::route;

    #[test]
    fn labels_of_routes_are_bounded() {
        assert_eq!(route("/v1/chat/completions"), "/v1/chat/completions");
        assert_eq!(route("/v1/models/a/b"), "/v1/models/{id}");
        assert_eq!(route("/wp-login.php"), "other");
    }
}
