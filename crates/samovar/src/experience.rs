//! What loading an artifact in a certain way was measured to cost, kept in the store for later lives.
//!
//! A prediction from the header errs by the allocator's and the engine's overhead; a measurement of the same
//! artifact, options and engine does not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::WeightsId;
use samovar_core::footprint::{Footprint, LoadOptions};
use samovar_store::{KeyDigest, Store};

use crate::bounded::BoundedMap;
use crate::lazy_store::LazyStore;
use crate::weights;

/// Kinds of loads of which is known at a time what the store has; of others it is asked again.
const LOADS_MAX: usize = 1_024;

/// Where the measurement of such a load is kept. Another version of the engine measures anew.
fn memo(key: &KeyDigest, engine: &str, options: &LoadOptions) -> String {
    let LoadOptions { context_tokens, slots, layout, kv_type, threads: _, lock_memory: _, pooling, draft } =
        options;
    let pooling = pooling.map(|pooling| format!("-{}", pooling.as_str())).unwrap_or_default();
    let draft = draft.as_ref().map(|draft| format!("-{}", draft.weights)).unwrap_or_default();
    format!("footprint/{key}/{engine}/{context_tokens}-{slots}-{layout:?}-{kv_type:?}{pooling}{draft}")
}

/// What loads were measured to cost, in this life and in earlier ones.
pub(crate) struct Experience {
    lazy_store: Arc<LazyStore>,
    /// What the store was asked for, or told.
    known: Mutex<BoundedMap<String, Option<Footprint>, LOADS_MAX>>,
}

impl Experience {
    pub(crate) fn new(lazy_store: Arc<LazyStore>) -> Self {
        Self { lazy_store, known: Mutex::default() }
    }

    /// Keeps what a load was measured to hold and map.
    pub(crate) fn remember(
        &self,
        store: &Store,
        key: &KeyDigest,
        engine: &str,
        options: &LoadOptions,
        measured: Footprint,
    ) {
        // An engine that measures nothing is believed in its prediction.
        if measured.total_bytes() == 0 {
            return;
        }
        let memo = memo(key, engine, options);
        if let Ok(json) = serde_json::to_string(&measured) {
            store.remember(&memo, &json);
        }
        self.known().insert(memo, Some(measured));
    }

    /// What such a load was measured to hold and map, if there was one. Blocks for a look into the store the first time.
    pub(crate) fn recall(
        &self,
        weights: &WeightsId,
        engine: &str,
        options: &LoadOptions,
    ) -> Option<Footprint> {
        let memo = memo(&weights::artifact(weights)?, engine, options);
        let known = self.known().get(&memo).copied();
        if let Some(known) = known {
            return known;
        }
        let json = self.lazy_store.store().ok()?.recall(&memo).ok()?;
        let measured = json.and_then(|json| serde_json::from_str::<Footprint>(&json).ok());
        let measured = measured.filter(|measured| measured.total_bytes() > 0);
        // What was measured meanwhile is newer than what the store said.
        *self.known().get_or_insert_with(memo, || measured)
    }

    fn known(&self) -> MutexGuard<'_, BoundedMap<String, Option<Footprint>, LOADS_MAX>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::testing::fake::FakeEngine;
    use samovar_store::StoreConfig;

    use super::*;

    fn lazy_store(home: &tempfile::TempDir) -> Arc<LazyStore> {
        let mut config = StoreConfig::new(home.path().join("cache"), home.path().join("state"));
        config.min_free_bytes = 0;
        Arc::new(LazyStore::new(config))
    }

    #[test]
    fn an_engine_that_measures_nothing_is_not_remembered() {
        let home = tempfile::tempdir().expect("a folder");
        let lazy_store = lazy_store(&home);
        let store = lazy_store.store().expect("opens");
        let experience = Experience::new(Arc::clone(&lazy_store));
        let key = KeyDigest::parse(&"ab".repeat(32)).expect("a digest");
        let (weights, options) = (weights::of_artifact(&key), FakeEngine::options());
        let measured = Footprint { held_bytes: 5, mapped_bytes: 7 };
        experience.remember(&store, &key, "fake", &options, measured);
        experience.remember(&store, &key, "fake", &options, Footprint::default());
        assert_eq!(experience.recall(&weights, "fake", &options), Some(measured));
        // An earlier version kept it.
        let json = serde_json::to_string(&Footprint::default()).expect("is written");
        store.remember(&memo(&key, "fake", &options), &json);
        assert_eq!(Experience::new(lazy_store).recall(&weights, "fake", &options), None);
    }

    #[test]
    fn loads_with_a_draft_model_are_others_than_those_without() {
        let home = tempfile::tempdir().expect("a folder");
        let lazy_store = lazy_store(&home);
        let (store, experience) = (lazy_store.store().expect("opens"), Experience::new(lazy_store));
        let key = KeyDigest::parse(&"ab".repeat(32)).expect("a digest");
        let (weights, alone) = (weights::of_artifact(&key), FakeEngine::options());
        let with = |name: &str| LoadOptions {
            draft: Some(Box::new(FakeEngine::draft(name, 9))),
            ..FakeEngine::options()
        };
        let measured = Footprint { held_bytes: 5, mapped_bytes: 7 };
        experience.remember(&store, &key, "fake", &with("one"), measured);
        assert_eq!(experience.recall(&weights, "fake", &with("one")), Some(measured));
        for other in [alone, with("another")] {
            assert_eq!(experience.recall(&weights, "fake", &other), None);
        }
    }

    #[test]
    fn what_this_life_measures_is_known_although_nothing_was_known_before() {
        let home = tempfile::tempdir().expect("a folder");
        let lazy_store = lazy_store(&home);
        let experience = Experience::new(Arc::clone(&lazy_store));
        let key = KeyDigest::parse(&"ab".repeat(32)).expect("a digest");
        let (weights, options) = (weights::of_artifact(&key), FakeEngine::options());
        assert_eq!(experience.recall(&weights, "fake", &options), None);
        let measured = Footprint { held_bytes: 5, mapped_bytes: 7 };
        experience.remember(&lazy_store.store().expect("opens"), &key, "fake", &options, measured);
        assert_eq!(experience.recall(&weights, "fake", &options), Some(measured));
        assert_eq!(Experience::new(lazy_store).recall(&weights, "fake", &options), Some(measured));
    }
}
