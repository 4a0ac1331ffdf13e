//! The store's numbers as metrics: what lies on the disk, and what came from sources.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use samovar::store::StoreStats;

/// What the store counted, over all lives and processes.
#[derive(Debug)]
pub(super) struct Store(pub(super) StoreStats);

impl Collector for Store {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let store = &self.0;
        for (name, help, count) in [
            ("store_hits", "Times that an artifact was on the disk when it was wanted", store.hits),
            ("store_misses", "Times that it was not", store.misses),
            ("store_collected", "Artifacts that left the disk", store.collected_artifacts),
            ("store_quarantined", "Blobs found damaged and set aside", store.quarantined),
            ("prefixes_saved", "Prompts whose state was saved to the disk", store.prefixes_saved),
            ("prefixes_restored", "Times that saved state was taken in again", store.prefixes_restored),
            ("prefix_tokens_restored", "Prompt tokens not computed for it", store.prefix_tokens_restored),
            ("prefixes_damaged", "Saved states found damaged and removed", store.prefixes_damaged),
            (
                "store_packed_opened",
                "Times that a packed file was there when it was wanted",
                store.packed_opened,
            ),
            ("store_packed_damaged", "Packed files found damaged and removed", store.packed_damaged),
            ("source_fetches", "Artifacts fetched from their sources", store.fetched_artifacts),
            ("source_fetch_failures", "Fetches that failed", store.fetch_failures),
            ("source_fetched_bytes", "Bytes fetched from sources", store.fetched_bytes),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(metric)?;
        }
        for (name, help, value) in [
            ("store_artifacts", "Artifacts on the disk", store.artifacts),
            ("store_bytes", "Bytes of artifacts on the disk", store.bytes),
            ("store_packed", "Packed files on the disk", store.packed),
            ("store_packed_bytes", "Bytes that they take", store.packed_bytes),
            ("prefixes", "Prompts whose state is on the disk", store.prefixes),
            ("prefix_bytes", "Bytes of that state", store.prefix_bytes),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}
