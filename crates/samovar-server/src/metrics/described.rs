//! Every family of metrics by name, type, labels and meaning: what is registered, encoded and told in the reference is
//! read from this table; no number is here.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Metric, Registry};

/// What the name of every family begins with.
pub(super) const PREFIX: &str = "samovar";

/// A family of metrics.
#[derive(Clone, Copy, Debug)]
pub struct MetricFamily {
    /// Without the prefix, and without what a scrape adds to counters.
    name: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    help: &'static str,
}

impl MetricFamily {
    /// The name as a scrape has it. Histograms have `_bucket`, `_sum` and `_count` after it.
    pub fn name(&self) -> String {
        let end = if matches!(self.kind, MetricType::Counter) { "_total" } else { "" };
        format!("{PREFIX}_{}{end}", self.name)
    }

    /// `counter`, `gauge` or `histogram`.
    pub fn kind(&self) -> &str {
        self.kind.as_str()
    }

    /// What its numbers are told apart by.
    pub fn labels(&self) -> &'static [&'static str] {
        self.labels
    }

    /// What it tells.
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// Registers a metric that counts by itself.
    pub(super) fn register(&self, registry: &mut Registry, metric: impl Metric) {
        registry.register(self.name, self.help, metric);
    }

    /// Begins a family whose numbers are read now.
    pub(super) fn begin<'e>(
        &self,
        encoder: &'e mut DescriptorEncoder<'_>,
    ) -> Result<MetricEncoder<'e>, fmt::Error> {
        encoder.encode_descriptor(self.name, self.help, None, self.kind)
    }

    /// A counter without labels.
    pub(super) fn counter(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        value: impl EncodeCounterValue,
    ) -> fmt::Result {
        ConstCounter::new(value).encode(self.begin(encoder)?)
    }

    /// A gauge without labels.
    pub(super) fn gauge(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        ConstGauge::new(value).encode(self.begin(encoder)?)
    }

    /// The labels with their values, in the same order.
    pub(super) fn labelled<T, const N: usize>(&self, values: [T; N]) -> [(&'static str, T); N] {
        assert_eq!(self.labels.len(), N, "invariant: {} has a value for each label", self.name);
        let mut names = self.labels.iter().copied();
        values.map(|value| (names.next().unwrap_or_default(), value))
    }
}

macro_rules! families {
    ($($constant:ident: $kind:ident, $name:literal, $labels:expr, $help:literal;)+) => {
        $(pub(super) const $constant: MetricFamily =
            MetricFamily { name: $name, kind: MetricType::$kind, labels: &$labels, help: $help };)+

        /// Every family that `GET /metrics` may tell, by what it belongs to.
        pub const METRICS: &[MetricFamily] = &[$($constant),+];
    };
}

families! {
    HTTP_RESPONSES: Counter, "http_responses", ["route", "status"], "Answers by route and status";
    HTTP_CONNECTIONS: Gauge, "http_connections", [], "Open connections";
    TLS_HANDSHAKES: Counter, "tls_handshakes", ["outcome"],
        "Beginnings of TLS connections: done, failed, dropped for their time or for others, or plain HTTP";
    HTTP_CONNECTIONS_DISMISSED: Counter, "http_connections_dismissed", ["doing"],
        "Connections closed for others, by what they were doing";
    SERVER_BUFFER_BYTES: Gauge, "server_buffer_bytes", [], "Memory of request bodies and unread answers";
    SERVER_BUFFER_BUDGET_BYTES: Gauge, "server_buffer_budget_bytes", [], "Memory that those may take together";
    SERVER_BUFFER_REFUSALS: Counter, "server_buffer_refusals", [],
        "Requests and answers that found no memory left for them";

    KEY_REQUESTS: Counter, "key_requests", ["key"],
        "Requests that were sent with a key, by its name; the first 200 keys have names";
    KEY_TOKENS: Counter, "key_tokens", ["key"],
        "Tokens of prompts and answers, by the name of the key";
    KEY_REFUSALS: Counter, "key_refusals", ["kind"],
        "Requests over TCP that were refused for want of a key, for its scope or for its limits, by kind";

    REQUESTS_IN_FLIGHT: Gauge, "requests_in_flight", [], "Generations that run or wait";
    REQUESTS_FINISHED: Counter, "requests_finished", ["reason"], "Generations by how they ended";
    REQUEST_ERRORS: Counter, "request_errors", ["kind"], "Generations that failed, by kind";
    TOKENS: Counter, "tokens", ["kind"], "Tokens of prompts, of cached prefixes, of answers, and of the thoughts in these";
    EMBEDDED_INPUTS: Counter, "embedded_inputs", [], "Inputs that became vectors or scores";
    EMBEDDED_TOKENS: Counter, "embedded_tokens", [], "Tokens of those inputs";
    REQUEST_FIRST_TOKEN: Histogram, "request_first_token_seconds", ["model"],
        "From a request's arrival to its first token";
    REQUEST_INTER_TOKEN: Histogram, "request_inter_token_seconds", ["model"],
        "Mean time between the tokens of an answer";

    CACHE_HITS: Counter, "cache_hits", ["tier", "model"], "Requests that found their model in memory, ready or parked";
    CACHE_MISSES: Counter, "cache_misses", ["tier", "model"], "Requests that had their model loaded";
    CACHE_COALESCED: Counter, "cache_coalesced", ["tier", "model"], "Requests that joined a load under way";
    CACHE_LOADS: Counter, "cache_loads", ["tier", "model"], "Loads";
    CACHE_LOAD_FAILURES: Counter, "cache_load_failures", ["tier", "model"], "Loads that failed";
    CACHE_LOAD_DURATION: Histogram, "cache_load_duration_seconds", ["tier", "model"],
        "Time that requests waited for a model to be loaded";
    CACHE_EVICTIONS: Counter, "cache_evictions", ["tier", "reason"], "Models unloaded";
    CACHE_SIZE_BYTES: Gauge, "cache_size_bytes", ["tier"], "Memory of models";

    POOL_BUDGET_BYTES: Gauge, "pool_budget_bytes", [], "Memory that models may use together";
    POOL_SOFT_BYTES: Gauge, "pool_soft_bytes", [], "Memory above which idle models leave ahead of need";
    POOL_RESIDENT_BYTES: Gauge, "pool_resident_bytes", [], "Memory of models";
    POOL_RESERVED_BYTES: Gauge, "pool_reserved_bytes", [], "Memory promised to loads under way";
    POOL_REQUESTS: Counter, "pool_requests", [], "Requests for a slot";
    POOL_REFUSED: Counter, "pool_refused", [], "Requests refused";
    POOL_CANCELLED: Counter, "pool_cancelled", [], "Requests whose caller left before a slot was free";
    POOL_PARKED: Counter, "pool_parked", [], "Times that a model gave its working memory back";
    POOL_RESUMED: Counter, "pool_resumed", [], "Times that a parked model was made ready again";
    POOL_QUEUED: Gauge, "pool_queued", [], "Requests that wait for a slot";
    POOL_SLOTS: Gauge, "pool_slots", [], "Slots of models in memory";
    POOL_SLOTS_BUSY: Gauge, "pool_slots_busy", [], "Slots in use";
    POOL_QUEUE_WAIT_P50: Gauge, "pool_queue_wait_p50_seconds", [], "Median wait for a slot";
    POOL_QUEUE_WAIT_P99: Gauge, "pool_queue_wait_p99_seconds", [], "99th percentile wait for a slot";
    POOL_MODELS: Gauge, "pool_models", ["state"], "Models by state";
    MODEL_THREADS: Gauge, "model_threads", ["model", "why"],
        "Threads of the last step of models that compute, by why they are not more";
    MODEL_THREADS_MOST: Gauge, "model_threads_most", ["model"],
        "Threads that steps of models in memory may have";
    UPTIME: Gauge, "uptime_seconds", [], "Since the runtime started";

    STORE_HITS: Counter, "store_hits", [], "Times that an artifact was on the disk when it was wanted";
    STORE_MISSES: Counter, "store_misses", [], "Times that it was not";
    STORE_COLLECTED: Counter, "store_collected", [], "Artifacts that left the disk";
    STORE_QUARANTINED: Counter, "store_quarantined", [], "Blobs found damaged and set aside";
    STORE_PACKED_OPENED: Counter, "store_packed_opened", [],
        "Times that a packed file was there when it was wanted";
    STORE_PACKED_DAMAGED: Counter, "store_packed_damaged", [], "Packed files found damaged and removed";
    STORE_PREPARED_MADE: Counter, "store_prepared_made", [], "Published models converted for the engine";
    STORE_PREPARED_DAMAGED: Counter, "store_prepared_damaged", [],
        "Prepared models found damaged and removed";
    STORE_ARTIFACTS: Gauge, "store_artifacts", [], "Artifacts on the disk";
    STORE_BYTES: Gauge, "store_bytes", [], "Bytes of artifacts on the disk";
    STORE_PACKED: Gauge, "store_packed", [], "Packed files on the disk";
    STORE_PACKED_BYTES: Gauge, "store_packed_bytes", [], "Bytes that they take";
    STORE_PREPARED: Gauge, "store_prepared", [], "Prepared models on the disk";
    STORE_PREPARED_BYTES: Gauge, "store_prepared_bytes", [], "Bytes that they take";
    PREFIXES_SAVED: Counter, "prefixes_saved", [], "Prompts whose state was saved to the disk";
    PREFIXES_RESTORED: Counter, "prefixes_restored", [], "Times that saved state was taken in again";
    PREFIX_TOKENS_RESTORED: Counter, "prefix_tokens_restored", [], "Prompt tokens not computed for it";
    PREFIXES_DAMAGED: Counter, "prefixes_damaged", [], "Saved states found damaged and removed";
    PREFIXES: Gauge, "prefixes", [], "Prompts whose state is on the disk";
    PREFIX_BYTES: Gauge, "prefix_bytes", [], "Bytes of that state";
    SOURCE_FETCHES: Counter, "source_fetches", [], "Artifacts fetched from their sources";
    SOURCE_FETCH_FAILURES: Counter, "source_fetch_failures", [], "Fetches that failed";
    SOURCE_FETCHED_BYTES: Counter, "source_fetched_bytes", [], "Bytes fetched from sources";

    PACKED_LOADS: Counter, "packed_loads", ["layout"], "Loads, by the layout that the weights came to have";
    PACKED_REFUSED: Counter, "packed_refused", ["reason"],
        "Packed files that a load could not use, by reason";
    PACKED_MADE: Counter, "packed_made", [], "Packed files made";
    PACKED_MADE_BYTES: Counter, "packed_made_bytes", [], "Bytes of packed files made";
    PACKED_MADE_SECONDS: Counter, "packed_made_seconds", [], "Seconds spent on making packed files";
    PACKED_FAILED: Counter, "packed_failed", [], "Packed files that could not be made or measured";
    PACKED_INTERRUPTED: Counter, "packed_interrupted", [], "Times that making one gave way to a request";
    PACKED_CALIBRATIONS: Counter, "packed_calibrations", [],
        "Times that the speeds of a model's layouts were measured";

    WORKERS: Gauge, "workers", [], "Processes that models run in";
    WORKER_OWN_BYTES: Gauge, "worker_own_bytes", [], "Memory of their own, without mapped weights";
    WORKER_STARTS: Counter, "worker_starts", [], "Workers started";
    WORKER_FAILURES: Counter, "worker_failures", ["reason"],
        "Workers that died or had to be ended, by reason";
    WORKER_SANDBOX: Gauge, "worker_sandbox", ["part"],
        "Whether this part of the workers' sandbox is in force";
    WORKER_SANDBOX_LEVEL: Gauge, "worker_sandbox_level", ["level"],
        "How much of the workers' sandbox is in force: 1 at one of none, partial and full";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_there_once_and_says_what_a_scrape_says() {
        let mut names: Vec<String> = METRICS.iter().map(MetricFamily::name).collect();
        assert!(names.contains(&"samovar_cache_hits_total".to_owned()), "{names:?}");
        assert!(names.contains(&"samovar_pool_slots".to_owned()), "{names:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }
}
