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
use samovar::{CacheStatus, Summary};
use samovar_core::ErrorKind;

use crate::app::App;
use crate::connection::Doing;
use crate::keys::{Account, Reserved};
use crate::redact::redact;
use crate::request_record::{EndedWork, finish_word};
use crate::route::Route;

mod buffers;
mod described;
mod packed;
mod pool;
mod store;
mod workers;

pub use described::{METRICS, MetricFamily};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// From a loaded model's first token to a large model's load, in seconds.
const LATENCY_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// From a small model's decode step to a large one's, in seconds.
const STEP_BUCKETS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0];
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
    embedded_inputs: Counter,
    embedded_tokens: Counter,
    loads: Histograms<2>,
    first_token: Histograms<1>,
    between_tokens: Histograms<1>,
    in_flight: Gauge,
    connections: Gauge,
    dismissed: Family<Labels<1>, Counter>,
    key_requests: Family<Labels<1>, Counter>,
    key_tokens: Family<Labels<1>, Counter>,
    key_refusals: Family<Labels<1>, Counter>,
    tls_handshakes: Family<Labels<1>, Counter>,
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
            embedded_inputs: Counter::default(),
            embedded_tokens: Counter::default(),
            loads: Family::new_with_constructor(latency),
            first_token: Family::new_with_constructor(latency),
            between_tokens: Family::new_with_constructor(step),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            dismissed: Family::default(),
            key_requests: Family::default(),
            key_tokens: Family::default(),
            key_refusals: Family::default(),
            tls_handshakes: Family::default(),
        };
        metrics.registry = std::sync::Arc::new(metrics.registered());
        metrics
    }

    fn registered(&self) -> Registry {
        let mut registry = Registry::with_prefix(described::PREFIX);
        described::HTTP_RESPONSES.register(&mut registry, self.responses.clone());
        described::REQUESTS_FINISHED.register(&mut registry, self.finished.clone());
        described::REQUEST_ERRORS.register(&mut registry, self.errors.clone());
        described::TOKENS.register(&mut registry, self.tokens.clone());
        described::EMBEDDED_INPUTS.register(&mut registry, self.embedded_inputs.clone());
        described::EMBEDDED_TOKENS.register(&mut registry, self.embedded_tokens.clone());
        described::CACHE_LOAD_DURATION.register(&mut registry, self.loads.clone());
        described::REQUEST_FIRST_TOKEN.register(&mut registry, self.first_token.clone());
        described::REQUEST_INTER_TOKEN.register(&mut registry, self.between_tokens.clone());
        described::REQUESTS_IN_FLIGHT.register(&mut registry, self.in_flight.clone());
        described::HTTP_CONNECTIONS.register(&mut registry, self.connections.clone());
        described::HTTP_CONNECTIONS_DISMISSED.register(&mut registry, self.dismissed.clone());
        described::KEY_REQUESTS.register(&mut registry, self.key_requests.clone());
        described::KEY_TOKENS.register(&mut registry, self.key_tokens.clone());
        described::KEY_REFUSALS.register(&mut registry, self.key_refusals.clone());
        described::TLS_HANDSHAKES.register(&mut registry, self.tls_handshakes.clone());
        registry
    }

    /// An answer of this route was begun.
    pub(crate) fn answered(&self, route: &'static str, status: StatusCode) {
        let labels = described::HTTP_RESPONSES.labelled([route.to_owned(), status.as_u16().to_string()]);
        self.responses.get_or_create(&labels).inc();
    }

    /// A generation was granted a slot.
    pub(crate) fn granted(&self, model: &str, tier: CacheStatus, load_ms: f64) {
        if matches!(tier, CacheStatus::Cold | CacheStatus::Fetched | CacheStatus::Joined) {
            let labels = described::CACHE_LOAD_DURATION.labelled(["l1".to_owned(), redact(model)]);
            self.loads.get_or_create(&labels).observe(load_ms / 1e3);
        }
    }

    /// An input of so many tokens became a vector or scores.
    pub(crate) fn embedded(&self, tokens: u32) {
        self.embedded_inputs.inc();
        self.embedded_tokens.inc_by(u64::from(tokens));
    }

    /// A generation ended, or failed.
    pub(crate) fn ended(&self, work: &EndedWork<'_>) {
        match work.outcome {
            Ok(summary) => self.done(work.model.unwrap_or_default(), summary),
            Err(kind) => self.failed(kind),
        }
    }

    fn done(&self, model: &str, summary: &Summary) {
        let reason = finish_word(summary.finish);
        self.finished.get_or_create(&described::REQUESTS_FINISHED.labelled([reason.to_owned()])).inc();
        let usage = summary.usage;
        for (kind, count) in [
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens),
            ("thinking", usage.thinking_tokens),
        ] {
            let labels = described::TOKENS.labelled([kind.to_owned()]);
            self.tokens.get_or_create(&labels).inc_by(u64::from(count));
        }
        if usage.completion_tokens == 0 {
            return;
        }
        let model = redact(model);
        let labels = described::REQUEST_FIRST_TOKEN.labelled([model.clone()]);
        self.first_token.get_or_create(&labels).observe(summary.timings.first_token_ms / 1e3);
        if usage.completion_tokens > 1 {
            let mean_ms = summary.timings.decode_ms / f64::from(usage.completion_tokens - 1);
            let labels = described::REQUEST_INTER_TOKEN.labelled([model]);
            self.between_tokens.get_or_create(&labels).observe(mean_ms / 1e3);
        }
    }

    fn failed(&self, kind: ErrorKind) {
        let labels = described::REQUEST_ERRORS.labelled([kind.surface().code.to_owned()]);
        self.errors.get_or_create(&labels).inc();
    }

    /// A request was sent with this key.
    pub(crate) fn asked(&self, account: &Account) {
        let labels = described::KEY_REQUESTS.labelled([account.label().to_owned()]);
        self.key_requests.get_or_create(&labels).inc();
    }

    /// A generation has ended that used tokens of its key.
    pub(crate) fn used(&self, reserved: &Reserved) {
        let labels = described::KEY_TOKENS.labelled([reserved.account().label().to_owned()]);
        self.key_tokens.get_or_create(&labels).inc_by(reserved.used());
    }

    /// A request was refused for want of a key, or for what its key may do.
    pub(crate) fn kept_out(&self, kind: ErrorKind) {
        let labels = described::KEY_REFUSALS.labelled([kind.surface().code.to_owned()]);
        self.key_refusals.get_or_create(&labels).inc();
    }

    /// Counts a generation for as long as the result lives.
    pub(crate) fn generation(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// A connection is admitted, perhaps instead of one that did this.
    pub(crate) fn admitted(&self, instead_of: Option<Doing>) {
        if let Some(doing) = instead_of {
            let labels = described::HTTP_CONNECTIONS_DISMISSED.labelled([doing.word().to_owned()]);
            self.dismissed.get_or_create(&labels).inc();
        }
    }

    /// A TLS connection was begun, or not.
    pub(crate) fn tls_handshake(&self, outcome: &'static str) {
        let labels = described::TLS_HANDSHAKES.labelled([outcome.to_owned()]);
        self.tls_handshakes.get_or_create(&labels).inc();
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

/// The label of a path: its route's.
pub(crate) fn label(route: Option<&'static Route>) -> &'static str {
    route.map_or("other", |route| route.path)
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
    use super::label;
    use crate::routes;

    #[test]
    fn labels_of_routes_are_bounded() {
        let route = |path: &str| label(routes::of(path));
        assert_eq!(route("/v1/chat/completions"), "/v1/chat/completions");
        assert_eq!(route("/v1/models/a/b"), "/v1/models/{id}");
        assert_eq!(route("/wp-login.php"), "other");
    }
}
