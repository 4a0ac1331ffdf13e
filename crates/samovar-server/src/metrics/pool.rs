//! The pool's numbers as metrics, read anew at each scrape.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use samovar::{ModelStats, Stats};
use samovar_core::ByteBudget;

use super::buffers::Buffers;
use super::packed::Packed;
use super::store::Store;
use super::workers::Workers;
use crate::redact::redact;

/// The pool is the first level of the cache.
const TIER: (&str, &str) = ("tier", "l1");

/// A registry of the pool's numbers, of packed weights', and of the store's and the workers' if there are any.
pub(super) fn registry(mut stats: Stats, buffers: ByteBudget) -> Registry {
    let mut registry = Registry::with_prefix("samovar");
    if let Some(store) = stats.store.take() {
        registry.register_collector(Box::new(Store(store)));
    }
    if let Some(workers) = stats.workers.take() {
        registry.register_collector(Box::new(Workers(workers)));
    }
    registry.register_collector(Box::new(Buffers(buffers)));
    registry.register_collector(Box::new(Packed(std::mem::take(&mut stats.packed))));
    registry.register_collector(Box::new(Pool(stats)));
    registry
}

#[derive(Debug)]
struct Pool(Stats);

impl Collector for Pool {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.cache(&mut encoder)?;
        self.memory(&mut encoder)?;
        self.work(&mut encoder)?;
        self.threads(&mut encoder)?;
        gauge(&mut encoder, "uptime_seconds", "Since the runtime started", self.0.uptime_ms as f64 / 1e3)
    }
}

impl Pool {
    fn cache(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.models(encoder, "cache_hits", "Requests that found their model ready", |m| m.hits)?;
        self.models(encoder, "cache_misses", "Requests that had their model loaded", |m| m.misses)?;
        self.models(encoder, "cache_coalesced", "Requests that joined a load under way", |m| m.coalesced)?;
        self.models(encoder, "cache_loads", "Loads", |m| m.loads)?;
        self.models(encoder, "cache_load_failures", "Loads that failed", |m| m.load_failures)?;
        let mut family =
            encoder.encode_descriptor("cache_evictions", "Models unloaded", None, MetricType::Counter)?;
        for (reason, count) in &self.0.pool.evictions_by_reason {
            let labels = [TIER, ("reason", reason.as_ref())];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        let mut family =
            encoder.encode_descriptor("cache_size_bytes", "Memory of models", None, MetricType::Gauge)?;
        ConstGauge::new(self.0.pool.resident_bytes).encode(family.encode_family(&[TIER])?)
    }

    fn memory(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let pool = &self.0.pool;
        for (name, help, bytes) in [
            ("pool_budget_bytes", "Memory that models may use together", pool.budget_bytes),
            ("pool_soft_bytes", "Memory above which idle models leave ahead of need", pool.soft_bytes),
            ("pool_resident_bytes", "Memory of models", pool.resident_bytes),
            ("pool_reserved_bytes", "Memory promised to loads under way", pool.reserved_bytes),
        ] {
            gauge(encoder, name, help, bytes as f64)?;
        }
        Ok(())
    }

    fn work(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let pool = &self.0.pool;
        for (name, help, count) in [
            ("pool_requests", "Requests for a slot", pool.requests),
            ("pool_refused", "Requests refused", pool.refused),
            ("pool_cancelled", "Requests whose caller left before a slot was free", pool.cancelled),
            ("pool_parked", "Times that a model gave its working memory back", pool.parked),
            ("pool_resumed", "Times that a parked model was made ready again", pool.resumed),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(metric)?;
        }
        gauge(encoder, "pool_queued", "Requests that wait for a slot", f64::from(pool.queued))?;
        let sum = |count: fn(&ModelStats) -> u32| self.0.models.iter().map(count).sum::<u32>();
        gauge(encoder, "pool_slots", "Slots of models in memory", f64::from(sum(|m| m.slots)))?;
        gauge(encoder, "pool_slots_busy", "Slots in use", f64::from(sum(|m| m.busy_slots)))?;
        gauge(encoder, "pool_queue_wait_p50_seconds", "Median wait for a slot", pool.queue_ms_p50 / 1e3)?;
        gauge(
            encoder,
            "pool_queue_wait_p99_seconds",
            "99th percentile wait for a slot",
            pool.queue_ms_p99 / 1e3,
        )?;
        self.states(encoder)
    }

    fn threads(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "model_threads",
            "Threads of the last step of models that compute, by why they are not more",
            None,
            MetricType::Gauge,
        )?;
        for model in &self.0.models {
            let name = redact(&model.name);
            let mut used = BTreeMap::<&str, u32>::new();
            for threads in model.threads.iter().filter(|threads| threads.used > 0) {
                *used.entry(threads.why.as_str()).or_default() += threads.used;
            }
            for (why, threads) in used {
                let labels = [("model", name.as_str()), ("why", why)];
                ConstGauge::new(u64::from(threads)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "model_threads_most",
            "Threads that steps of models in memory may have",
            None,
            MetricType::Gauge,
        )?;
        for model in self.0.models.iter().filter(|model| !model.threads.is_empty()) {
            let name = redact(&model.name);
            let most: u32 = model.threads.iter().map(|threads| threads.most).sum();
            let labels = [("model", name.as_str())];
            ConstGauge::new(u64::from(most)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn states(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut states = BTreeMap::<String, u64>::new();
        for model in &self.0.models {
            let state = format!("{:?}", model.state).to_ascii_lowercase();
            *states.entry(state).or_default() += 1;
        }
        let mut family =
            encoder.encode_descriptor("pool_models", "Models by state", None, MetricType::Gauge)?;
        for (state, count) in states {
            let labels = [("state", state)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A counter with the labels of the tier and the model.
    fn models(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        count: fn(&ModelStats) -> u64,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for model in &self.0.models {
            let name = redact(&model.name);
            let labels = [TIER, ("model", name.as_str())];
            ConstCounter::new(count(model)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}
