//! llama-swap's `config.yaml`: models with the command lines of llama-server that start them.
//!
//! ```text
//!   ${env.X} ─► macros ─► models.NAME.cmd ─► words ─► flags ─► [models.NAME]
//!                              ├ aliases, filters        ─► more names
//!                              ├ ttl, globalTTL          ─► keep_alive
//!   hooks.on_startup.preload ──┴─────────────────────────► cache.preload_models
//! ```
//!
//! Nothing is started.

mod groups;
mod macros;

use std::path::Path;

use serde_json::{Map, Value};

use super::entry::{FoundModels, ModelEntry};
use super::{flags, params, yaml};
use crate::place;
use crate::settings::foreign::Variables;
use crate::settings::value::Raw;
use macros::Macros;

/// Whose entries these are, for people.
pub(super) const WHOSE: &str = "llama-swap";
const FILE_MAX_BYTES: u64 = 1 << 20;
const MODELS_MAX: usize = 1_000;
/// Sections of the file that are understood elsewhere, or say only how the other program runs.
const UNDERSTOOD: [&str; 22] = [
    "models",
    "macros",
    "hooks",
    "groups",
    "matrix",
    "routing",
    "globalTTL",
    "healthCheckTimeout",
    "logLevel",
    "logRequests",
    "logTimeFormat",
    "logToStdout",
    "metricsMaxInMemory",
    "captureBuffer",
    "store",
    "ui",
    "performance",
    "startPort",
    "sendLoadingState",
    "includeAliasesInList",
    "unloadTimeout",
    "upstream",
];
/// Sections that have no equal here, and why.
const SECTIONS: [(&str, &str); 4] = [
    ("apiKeys", "keys are this program's own: `samovar key add`"),
    ("peers", "models of other servers are not passed on"),
    ("profiles", "names have one meaning: write [models.NAME] for each"),
    ("selectors", "names have one meaning: write [models.NAME] for each"),
];
/// Settings of a model that say only how it is shown, started or reached there.
const NOTHING: [&str; 16] = [
    "cmd",
    "cmdStop",
    "proxy",
    "checkEndpoint",
    "name",
    "description",
    "metadata",
    "capabilities",
    "timeouts",
    "compat",
    "sendLoadingState",
    "unloadTimeout",
    "healthCheckTimeout",
    "macros",
    "aliases",
    "ttl",
];

/// Reads a configuration file.
///
/// # Errors
/// A clause about the file.
pub(super) fn look(from: &Path, variables: &Variables) -> Result<FoundModels, String> {
    let text = place::text_of(from, FILE_MAX_BYTES)?;
    let text = macros::with_variables(&text, variables)?;
    let Value::Object(config) = yaml::parse(&text)? else {
        return Err("is no configuration of llama-swap: it has no `models`".to_owned());
    };
    let Some(Value::Object(models)) = config.get("models") else {
        return Err("is no configuration of llama-swap: it has no `models`".to_owned());
    };
    if models.len() > MODELS_MAX {
        return Err(format!("has {} models; {MODELS_MAX} is the limit", models.len()));
    }
    let mut found = FoundModels { from: from.to_owned(), ..FoundModels::default() };
    let global = Macros::of(config.get("macros"))?;
    let base = from.parent().unwrap_or(Path::new("/"));
    for (name, model) in models {
        let Value::Object(model) = model else {
            found.cannot(name, "the model", "is no mapping");
            continue;
        };
        let expanded = global.with(name, model.get("macros")).and_then(|macros| macros.expand_all(model));
        match expanded {
            Ok(model) => read(&mut found, name, &model, &config, base),
            Err(why) => found.cannot(name, "its macros", why),
        }
    }
    groups::apply(&mut found, &config);
    preload(&mut found, &config, models);
    for name in config.keys() {
        if let Some((_, why)) = SECTIONS.iter().find(|(known, _)| known == name) {
            found.cannot(name, "the section", *why);
        } else if !UNDERSTOOD.contains(&name.as_str()) {
            found.cannot(name, "the section", "is not known here");
        }
    }
    Ok(found)
}

/// Adds a model under its names.
fn read(
    found: &mut FoundModels,
    name: &str,
    model: &Map<String, Value>,
    config: &Map<String, Value>,
    base: &Path,
) {
    let mut entry = ModelEntry::new(name);
    let Some(Value::String(line)) = model.get("cmd") else {
        return found.cannot(name, "cmd", "is missing");
    };
    let mut line = match flags::of_line(line) {
        Ok(line) => line,
        Err(why) => return found.cannot(name, "cmd", why),
    };
    if let Some(Value::Array(variables)) = model.get("env") {
        let pairs = variables.iter().filter_map(|pair| pair.as_str()?.split_once('='));
        let mut of_variables: Vec<flags::Flag> = pairs.filter_map(flags::of_variable).collect();
        // What the line says counts more.
        of_variables.append(&mut line);
        line = of_variables;
    }
    // Its own names are not what clients use: they ask llama-swap.
    flags::apply(&mut entry, &line, base);
    keep_alive(&mut entry, model, config);
    let by_name = filters(&mut entry, model);
    for (key, value) in model {
        match (key.as_str(), value) {
            (key, _) if NOTHING.contains(&key) || ["env", "filters"].contains(&key) => {}
            ("unlisted", Value::Bool(false)) | ("useModelName", Value::String(_)) => {}
            ("unlisted", _) => entry.cannot(key.as_str(), "every name is in the list of models"),
            ("concurrencyLimit", Value::Number(limit)) if limit.as_i64() == Some(0) => {}
            ("concurrencyLimit", _) => {
                entry.cannot(key.as_str(), "requests beyond `slots` wait, up to pool.queue_per_model");
            }
            _ => entry.cannot(key.as_str(), "is not known here"),
        }
    }
    let mut others: Vec<ModelEntry> = aliases(model).map(|alias| same(&entry, alias)).collect();
    for (alias, parameters) in &by_name {
        if alias == name {
            params::apply(&mut entry, "filters.setParamsByID", parameters);
        } else {
            others.retain(|other| other.name != *alias);
            let mut other = same(&entry, alias);
            params::apply(&mut other, "filters.setParamsByID", parameters);
            others.push(other);
        }
    }
    found.add(entry);
    for other in others {
        found.add(other);
    }
}

/// The same model under another name. What cannot be taken over is said of the first.
fn same(entry: &ModelEntry, name: &str) -> ModelEntry {
    ModelEntry { name: name.to_owned(), remarks: Vec::new(), ..entry.clone() }
}

fn aliases(model: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let aliases = model.get("aliases").and_then(Value::as_array).into_iter().flatten();
    aliases.filter_map(Value::as_str)
}

/// How long the model stays ready: there, 0 stands for ever, and that is what holds if nothing is said.
fn keep_alive(entry: &mut ModelEntry, model: &Map<String, Value>, config: &Map<String, Value>) {
    let seconds = |value: Option<&Value>| value.and_then(Value::as_i64).filter(|seconds| *seconds >= 0);
    let own = seconds(model.get("ttl"));
    let ttl = own.or_else(|| seconds(config.get("globalTTL"))).unwrap_or(0);
    let value = if ttl == 0 { Raw::Integer(-1) } else { Raw::Text(format!("{ttl}s")) };
    entry.set("keep_alive", "ttl", value);
}

/// What llama-swap changes in requests; returns what it sets for single names.
fn filters(entry: &mut ModelEntry, model: &Map<String, Value>) -> Vec<(String, Map<String, Value>)> {
    let Some(Value::Object(filters)) = model.get("filters") else { return Vec::new() };
    let mut by_name = Vec::new();
    for (key, value) in filters {
        match (key.as_str(), value) {
            ("setParams", Value::Object(parameters)) => {
                params::apply(entry, "filters.setParams", parameters);
                entry.cannot(
                    "filters.setParams",
                    "holds where a request says nothing, and does not overrule it",
                );
            }
            ("setParamsByID", Value::Object(names)) => {
                let parameters = names
                    .iter()
                    .filter_map(|(name, parameters)| Some((name.clone(), parameters.as_object()?.clone())));
                by_name.extend(parameters);
            }
            ("stripParams" | "strip_params", Value::String(text)) if text.trim().is_empty() => {}
            ("stripParams" | "strip_params", _) => {
                entry.cannot(format!("filters.{key} {value}"), "what a request says counts here");
            }
            _ => entry.cannot(format!("filters.{key}"), "is not known here"),
        }
    }
    by_name
}

/// Models that are loaded at the start. An alias stands for its model.
fn preload(found: &mut FoundModels, config: &Map<String, Value>, models: &Map<String, Value>) {
    let Some(Value::Object(hooks)) = config.get("hooks") else { return };
    for key in hooks.keys().filter(|key| *key != "on_startup") {
        found.cannot("hooks", key.as_str(), "is not known here");
    }
    let names = config["hooks"]["on_startup"]["preload"].as_array().into_iter().flatten();
    for name in names.filter_map(Value::as_str).map(str::trim) {
        let is_alias_of =
            |model: &Value| model.as_object().is_some_and(|model| aliases(model).any(|alias| alias == name));
        let real = models.iter().find(|(known, model)| *known == name || is_alias_of(model));
        match real.filter(|(real, _)| found.models.iter().any(|entry| entry.name == **real)) {
            Some((real, _)) => found.preload.push(real.clone()),
            None => found.cannot("hooks.on_startup.preload", name, "there is no such model to load"),
        }
    }
}

#[cfg(test)]
mod tests;
