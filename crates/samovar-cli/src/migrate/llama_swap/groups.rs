//! Which models llama-swap lets be in memory together. Here that is the memory budget's to say, so that a group has no equal
//! but this: what others cannot unload stays until its memory is needed.

use serde_json::{Map, Value};

use super::super::entry::FoundModels;
use crate::settings::value::Raw;

const BUDGET: &str =
    "as many models are in memory here as pool.budget_bytes allows, and the least useful one leaves first";

/// Takes the groups over, wherever the file has them.
pub(super) fn apply(found: &mut FoundModels, config: &Map<String, Value>) {
    let router = config.get("routing").and_then(|routing| routing.get("router"));
    let settings = router.and_then(|router| router.get("settings"));
    let of_settings = |name: &str| settings.and_then(|settings| settings.get(name));
    if let Some(Value::Object(groups)) = config.get("groups").or_else(|| of_settings("groups")) {
        groups.iter().for_each(|(name, group)| one(found, name, group));
    }
    if config.get("matrix").or_else(|| of_settings("matrix")).is_some_and(|matrix| !matrix.is_null()) {
        found.cannot("matrix", "which models run together", BUDGET);
    }
    let scheduler = config.get("routing").and_then(|routing| routing.get("scheduler"));
    let priority = scheduler.and_then(|scheduler| scheduler.pointer("/settings/fifo/priority"));
    if priority.and_then(Value::as_object).is_some_and(|models| !models.is_empty()) {
        found.cannot(
            "routing.scheduler",
            "priority of models",
            "clients take turns; a request has a `priority` of its own",
        );
    }
}

fn one(found: &mut FoundModels, name: &str, group: &Value) {
    let of = format!("group {name}");
    let is = |key: &str, otherwise: bool| group.get(key).and_then(Value::as_bool).unwrap_or(otherwise);
    let members: Vec<&str> = group
        .get("members")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for member in &members {
        if !found.models.iter().any(|entry| entry.name == *member) {
            found.cannot(&of, *member, "there is no such model");
        }
    }
    if is("persistent", false) {
        for entry in found.models.iter_mut().filter(|entry| members.contains(&entry.name.as_str())) {
            entry.set("keep_alive", "persistent", Raw::Integer(-1));
        }
        found.cannot(&of, "persistent", "keep_alive = -1 is taken instead: they leave only when memory is needed; `samovar pin` keeps one always");
    }
    if is("swap", true) {
        found.cannot(&of, "swap", BUDGET);
    }
    if is("exclusive", true) {
        found.cannot(&of, "exclusive", BUDGET);
    }
}
