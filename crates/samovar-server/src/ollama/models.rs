//! `/api/tags` and `/api/ps`: the models that requests may name, and those in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use samovar::{ModelInfo, ModelStats};
use serde_json::{Value, json};

use super::details::{details, digest};
use super::names;
use crate::app::App;
use crate::moment;

/// How long a model stays that stays until its memory is needed: clients count down to a moment.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// `GET /api/tags`: the one that changed last comes first.
pub(crate) async fn tags(State(app): State<App>) -> Json<Value> {
    let mut models = app.models().await;
    // A created name comes before the model of the store that goes by the same.
    let mut seen = HashSet::new();
    models.retain(|model| seen.insert(names::of(model)));
    models.sort_by_key(|model| Reverse(model.modified_unix_s));
    Json(json!({ "models": models.iter().map(row).collect::<Vec<_>>() }))
}

fn row(model: &ModelInfo) -> Value {
    let name = names::of(model);
    json!({
        "name": name,
        "model": name,
        "modified_at": moment::written(Duration::from_secs(model.modified_unix_s)),
        "size": model.size_bytes,
        "digest": digest(model),
        "details": details(model),
    })
}

/// `GET /api/ps`.
pub(crate) async fn ps(State(app): State<App>) -> Json<Value> {
    let known = app.models().await.into_iter().map(|model| (model.name.clone(), model));
    let known: BTreeMap<String, ModelInfo> = known.collect();
    let stats = app.runtime.stats().await.models;
    let loaded = stats.iter().filter(|model| model.instances > 0);
    let rows = loaded.filter_map(|stats| Some(loaded_row(stats, known.get(&stats.name)?)));
    Json(json!({ "models": rows.collect::<Vec<_>>() }))
}

fn loaded_row(stats: &ModelStats, model: &ModelInfo) -> Value {
    let name = names::of(model);
    let on_devices_bytes: u64 = stats.device_bytes.values().sum();
    let stays = stats.expires_in_ms.map_or(FOREVER, Duration::from_millis);
    let context_tokens =
        stats.options.as_ref().map_or(model.context_tokens, |options| options.context_tokens);
    json!({
        "name": name,
        "model": name,
        "size": stats.held_bytes + stats.mapped_bytes + on_devices_bytes,
        "digest": digest(model),
        "details": details(model),
        "expires_at": moment::written(moment::since_1970().saturating_add(stays)),
        "size_vram": on_devices_bytes,
        "context_length": context_tokens,
    })
}
