//! How the store was used: counters over all processes and restarts, and what there is now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::derived::file::{DerivedKind, entries};
use crate::derived::prefix::quota;
use crate::error::Error;
use crate::store::Store;

/// How the store was used, and what it has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreStats {
    /// Times an artifact was there when it was asked for.
    pub hits: u64,
    /// Times it had to be fetched.
    pub misses: u64,
    /// Times a caller joined a fetch that was under way rather than begin one.
    pub coalesced: u64,
    /// Artifacts that were fetched from sources.
    pub fetched_artifacts: u64,
    /// Bytes of them that came over the wire.
    pub fetched_bytes: u64,
    /// Fetches that ended in an error.
    pub fetch_failures: u64,
    /// Artifacts that left to make room, by age, or because a user said so.
    pub collected_artifacts: u64,
    /// Bytes that this freed, leftovers included.
    pub collected_bytes: u64,
    /// Blobs that were found damaged and set aside.
    pub quarantined: u64,
    /// Artifacts that are here.
    pub artifacts: u64,
    /// Pinned ones among them.
    pub pinned: u64,
    /// Bytes of their files; what several have in common counts once.
    pub bytes: u64,
    /// Prompts whose state was saved.
    #[serde(default)]
    pub prefixes_saved: u64,
    /// Times that a saved state was taken in again.
    #[serde(default)]
    pub prefixes_restored: u64,
    /// Tokens that were not computed for it.
    #[serde(default)]
    pub prefix_tokens_restored: u64,
    /// Saved states that were found damaged, and removed.
    #[serde(default)]
    pub prefixes_damaged: u64,
    /// Saved states that are here.
    #[serde(default)]
    pub prefixes: u64,
    /// Their bytes.
    #[serde(default)]
    pub prefix_bytes: u64,
    /// Packed files that were made.
    #[serde(default)]
    pub packed_made: u64,
    /// Times that one was opened.
    #[serde(default)]
    pub packed_opened: u64,
    /// Packed files that were found damaged, and removed.
    #[serde(default)]
    pub packed_damaged: u64,
    /// Packed files that an engine did not take, and that were removed.
    #[serde(default)]
    pub packed_refused: u64,
    /// Packed files that are here.
    #[serde(default)]
    pub packed: u64,
    /// Their bytes.
    #[serde(default)]
    pub packed_bytes: u64,
    /// Models that were prepared.
    #[serde(default)]
    pub prepared_made: u64,
    /// Prepared models that were found damaged, and removed.
    #[serde(default)]
    pub prepared_damaged: u64,
    /// Prepared models that are here.
    #[serde(default)]
    pub prepared: u64,
    /// Their bytes.
    #[serde(default)]
    pub prepared_bytes: u64,
    /// All counters by name, these and others.
    pub counters: BTreeMap<String, u64>,
}

impl Store {
    /// How the store was used, and what it has. Blocks for microseconds to milliseconds; looks at no file but the saved
    /// prefixes, packed and prepared files.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn stats(&self) -> Result<StoreStats, Error> {
        let cache = &self.0.local.cache;
        let index = &cache.index;
        let counters = index.counters()?;
        let artifacts = index.artifacts()?;
        let sizes: BTreeMap<_, u64> = artifacts
            .iter()
            .flat_map(|artifact| &artifact.files)
            .map(|file| (file.digest, file.size))
            .collect();
        let kept = quota::kept(&cache.layout).unwrap_or_default();
        let (packed, packed_bytes) = entries::total(&cache.layout, DerivedKind::Packed);
        let (prepared, prepared_bytes) = entries::total(&cache.layout, DerivedKind::Prepared);
        let count = |name: &str| counters.get(name).copied().unwrap_or(0);
        Ok(StoreStats {
            hits: count("hits"),
            misses: count("misses"),
            fetched_artifacts: count("fetched_artifacts"),
            coalesced: count("coalesced"),
            fetched_bytes: count("fetched_bytes"),
            fetch_failures: count("fetch_failures"),
            collected_artifacts: count("collected_artifacts"),
            collected_bytes: count("collected_bytes"),
            quarantined: count("quarantined"),
            prefixes_saved: count("prefixes_saved"),
            prefixes_restored: count("prefixes_restored"),
            prefix_tokens_restored: count("prefix_tokens_restored"),
            prefixes_damaged: count("prefixes_damaged"),
            prefixes: kept.len() as u64,
            prefix_bytes: kept.iter().map(|kept| kept.bytes).sum(),
            packed_made: count("packed_made"),
            packed_opened: count("packed_opened"),
            packed_damaged: count("packed_damaged"),
            packed_refused: count("packed_refused"),
            packed,
            packed_bytes,
            prepared_made: count("prepared_made"),
            prepared_damaged: count("prepared_damaged"),
            prepared,
            prepared_bytes,
            artifacts: artifacts.len() as u64,
            pinned: artifacts.iter().filter(|artifact| artifact.is_pinned).count() as u64,
            bytes: sizes.values().sum(),
            counters,
        })
    }
}
