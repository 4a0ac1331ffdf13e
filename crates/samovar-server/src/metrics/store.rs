//! The store's numbers as metrics: what lies on the disk, and what came from sources.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use samovar::store::StoreStats;

use super::described;

/// What the store counted, over all lives and processes.
#[derive(Debug)]
pub(super) struct Store(pub(super) StoreStats);

impl Collector for Store {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let store = &self.0;
        for (family, count) in [
            (described::STORE_HITS, store.hits),
            (described::STORE_MISSES, store.misses),
            (described::STORE_COLLECTED, store.collected_artifacts),
            (described::STORE_QUARANTINED, store.quarantined),
            (described::PREFIXES_SAVED, store.prefixes_saved),
            (described::PREFIXES_RESTORED, store.prefixes_restored),
            (described::PREFIX_TOKENS_RESTORED, store.prefix_tokens_restored),
            (described::PREFIXES_DAMAGED, store.prefixes_damaged),
            (described::STORE_PACKED_OPENED, store.packed_opened),
            (described::STORE_PACKED_DAMAGED, store.packed_damaged),
            (described::STORE_PREPARED_MADE, store.prepared_made),
            (described::STORE_PREPARED_DAMAGED, store.prepared_damaged),
            (described::SOURCE_FETCHES, store.fetched_artifacts),
            (described::SOURCE_FETCH_FAILURES, store.fetch_failures),
            (described::SOURCE_FETCHED_BYTES, store.fetched_bytes),
        ] {
            family.counter(&mut encoder, count)?;
        }
        for (family, value) in [
            (described::STORE_ARTIFACTS, store.artifacts),
            (described::STORE_BYTES, store.bytes),
            (described::STORE_PACKED, store.packed),
            (described::STORE_PACKED_BYTES, store.packed_bytes),
            (described::STORE_PREPARED, store.prepared),
            (described::STORE_PREPARED_BYTES, store.prepared_bytes),
            (described::PREFIXES, store.prefixes),
            (described::PREFIX_BYTES, store.prefix_bytes),
        ] {
            family.gauge(&mut encoder, value)?;
        }
        Ok(())
    }
}
