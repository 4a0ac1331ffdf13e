//! The pool's numbers as metrics, read anew at each scrape.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use samovar::{ModelStats, Stats};
use samovar_core::ByteBudget;

use super::buffers::Buffers;
use super::described::{
    self, CACHE_EVICTIONS, CACHE_SIZE_BYTES, MODEL_THREADS, MODEL_THREADS_MOST, MetricFamily, POOL_MODELS,
};
use super::packed::Packed;
use super::store::Store;
use super::workers::Workers;
use crate::redact::redact;

/// The pool is the first level of the cache.
const TIER: &str = "l1";

/// A registry of the pool's numbers, of packed weights', and of the store's and the workers' if there are any.
pub(super) fn registry(mut stats: Stats, buffers: ByteBudget) -> Registry {
    let mut registry = Registry::with_prefix(described::PREFIX);
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
        described::UPTIME.gauge(&mut encoder, self.0.uptime_ms as f64 / 1e3)
    }
}

impl Pool {
    fn cache(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.models(encoder, &described::CACHE_HITS, |m| m.hits)?;
        self.models(encoder, &described::CACHE_MISSES, |m| m.misses)?;
        self.models(encoder, &described::CACHE_COALESCED, |m| m.coalesced)?;
        self.models(encoder, &described::CACHE_LOADS, |m| m.loads)?;
        self.models(encoder, &described::CACHE_LOAD_FAILURES, |m| m.load_failures)?;
        let mut family = CACHE_EVICTIONS.begin(encoder)?;
        for (reason, count) in &self.0.pool.evictions_by_reason {
            let labels = CACHE_EVICTIONS.labelled([TIER, reason.as_ref()]);
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        let mut family = CACHE_SIZE_BYTES.begin(encoder)?;
        let labels = CACHE_SIZE_BYTES.labelled([TIER]);
        ConstGauge::new(self.0.pool.resident_bytes).encode(family.encode_family(&labels)?)
    }

    fn memory(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let pool = &self.0.pool;
        for (family, bytes) in [
            (described::POOL_BUDGET_BYTES, pool.budget_bytes),
            (described::POOL_SOFT_BYTES, pool.soft_bytes),
            (described::POOL_RESIDENT_BYTES, pool.resident_bytes),
            (described::POOL_RESERVED_BYTES, pool.reserved_bytes),
        ] {
            family.gauge(encoder, bytes as f64)?;
        }
        Ok(())
    }

    fn work(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let pool = &self.0.pool;
        for (family, count) in [
            (described::POOL_REQUESTS, pool.requests),
            (described::POOL_REFUSED, pool.refused),
            (described::POOL_CANCELLED, pool.cancelled),
            (described::POOL_PARKED, pool.parked),
            (described::POOL_RESUMED, pool.resumed),
        ] {
            family.counter(encoder, count)?;
        }
        described::POOL_QUEUED.gauge(encoder, f64::from(pool.queued))?;
        let sum = |count: fn(&ModelStats) -> u32| self.0.models.iter().map(count).sum::<u32>();
        described::POOL_SLOTS.gauge(encoder, f64::from(sum(|m| m.slots)))?;
        described::POOL_SLOTS_BUSY.gauge(encoder, f64::from(sum(|m| m.busy_slots)))?;
        described::POOL_QUEUE_WAIT_P50.gauge(encoder, pool.queue_ms_p50 / 1e3)?;
        described::POOL_QUEUE_WAIT_P99.gauge(encoder, pool.queue_ms_p99 / 1e3)?;
        self.states(encoder)
    }

    fn threads(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = MODEL_THREADS.begin(encoder)?;
        for model in &self.0.models {
            let name = redact(&model.name);
            let mut used = BTreeMap::<&str, u32>::new();
            for threads in model.threads.iter().filter(|threads| threads.used > 0) {
                *used.entry(threads.why.as_str()).or_default() += threads.used;
            }
            for (why, threads) in used {
                let labels = MODEL_THREADS.labelled([name.as_str(), why]);
                ConstGauge::new(u64::from(threads)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = MODEL_THREADS_MOST.begin(encoder)?;
        for model in self.0.models.iter().filter(|model| !model.threads.is_empty()) {
            let name = redact(&model.name);
            let most: u32 = model.threads.iter().map(|threads| threads.most).sum();
            let labels = MODEL_THREADS_MOST.labelled([name.as_str()]);
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
        let mut family = POOL_MODELS.begin(encoder)?;
        for (state, count) in states {
            let labels = POOL_MODELS.labelled([state]);
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A counter with the labels of the tier and the model.
    fn models(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        family: &MetricFamily,
        count: fn(&ModelStats) -> u64,
    ) -> fmt::Result {
        let mut counters = family.begin(encoder)?;
        for model in &self.0.models {
            let name = redact(&model.name);
            let labels = family.labelled([TIER, name.as_str()]);
            ConstCounter::new(count(model)).encode(counters.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
