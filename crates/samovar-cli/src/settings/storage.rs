//! Settings of the store and its sources in the store's own types, and what is shown of their secrets.

use std::time::Duration;

use samovar::store::{AdoptKind, AdoptRoot, StoreConfig};

use super::Provenance;
use super::entry::Entry;
use super::foreign::Foreign;
use super::value::Value;
use super::values::{Values, count, flag, path, size, text, value};
use crate::home::Home;

/// Settings of the store; what is not set is the store's own default.
pub(super) fn store(values: &Values, home: &Home, foreign: &Foreign) -> StoreConfig {
    let cache_dir = path(values, "cache.cache_dir").expect("invariant: filled above");
    let mut store = StoreConfig::new(cache_dir, &home.state_dir);
    store.max_size_bytes = size(values, "cache.max_size_bytes");
    if let Some(days) = count(values, "cache.max_age_days") {
        store.max_age = Duration::from_secs(u64::from(days) * 24 * 3600);
    }
    store.min_free_bytes = size(values, "cache.min_free_bytes").unwrap_or(store.min_free_bytes);
    store.prefixes.quota_bytes = size(values, "cache.prefix_quota_bytes");
    store.prefixes.min_tokens = count(values, "cache.prefix_min_tokens").unwrap_or(store.prefixes.min_tokens);
    if let Some(Value::Paths(paths)) = value(values, "cache.read_only_dirs") {
        store.read_only_dirs.clone_from(paths);
    }
    if flag(values, "sources.nearby") {
        let places = &foreign.places;
        let hub = places.hub.iter().map(|path| AdoptRoot::new(path, AdoptKind::HuggingFace));
        let ollama = places.ollama.iter().map(|path| AdoptRoot::new(path, AdoptKind::Ollama));
        store.neighbours = hub.chain(ollama).collect();
    }
    let sources = &mut store.sources;
    sources.is_offline = flag(values, "sources.offline");
    sources.hub_endpoint = text(values, "sources.hub_endpoint");
    sources.hub_token = foreign.token.as_ref().map(|(token, _)| token.clone());
    sources.connections = count(values, "sources.connections").unwrap_or(sources.connections);
    if let Some(retries) = count(values, "sources.retries") {
        sources.retry.tries = retries + 1;
    }
    sources.ollama_endpoint = text(values, "sources.ollama_endpoint");
    sources.allows_plain_http = flag(values, "sources.allow_plain_http");
    sources.object_options.clone_from(&foreign.object_options);
    store
}

/// Says that secrets are there and where they came from, and nothing else about them. They have no place in the file.
pub(super) fn add_secrets(entries: &mut Vec<Entry>, foreign: &Foreign) {
    let set = |key: &str, provenance: Provenance| Entry {
        key: key.to_owned(),
        shown: "set".to_owned(),
        json: "set".into(),
        provenance,
    };
    let mut secrets = vec![match &foreign.token {
        Some((_, provenance)) => set("sources.hub_token", provenance.clone()),
        None => Entry {
            key: "sources.hub_token".to_owned(),
            shown: "(none)".to_owned(),
            json: serde_json::Value::Null,
            provenance: Provenance::Default,
        },
    }];
    let variables = foreign.object_variables();
    if !variables.is_empty() {
        let variable = variables.join(", ");
        secrets.push(set("sources.object_stores", Provenance::Environment { variable }));
    }
    let sources = |entry: &Entry| entry.key.starts_with("sources.");
    let after = entries.iter().rposition(sources).map_or(entries.len(), |last| last + 1);
    entries.splice(after..after, secrets);
}
