//! What loading an artifact in a certain way was measured to cost, kept in the store for later lives.
//!
//! A prediction from the header errs by the allocator's and the engine's overhead; a measurement of the same
//! artifact, options and engine does not.

use samovar_core::footprint::{Footprint, LoadOptions};
use samovar_store::{KeyDigest, Store};

/// Where the measurement of such a load is kept. Another version of the engine measures anew.
fn memo(key: &KeyDigest, engine: &str, options: &LoadOptions) -> String {
    let LoadOptions { context_tokens, slots, layout, kv_type, threads: _, lock_memory: _ } = options;
    format!("footprint/{key}/{engine}/{context_tokens}-{slots}-{layout:?}-{kv_type:?}")
}

/// Keeps what a load was measured to hold and map.
pub(crate) fn remember(
    store: &Store,
    key: &KeyDigest,
    engine: &str,
    options: &LoadOptions,
    measured: Footprint,
) {
    if let Ok(json) = serde_json::to_string(&measured) {
        store.remember(&memo(key, engine, options), &json);
    }
}

/// What such a load was measured to hold and map, if there was one.
pub(crate) fn recall(
    store: &Store,
    key: &KeyDigest,
    engine: &str,
    options: &LoadOptions,
) -> Option<Footprint> {
    let json = store.recall(&memo(key, engine, options)).ok()??;
    serde_json::from_str(&json).ok()
}
