//! Settings as people see them: what is in force, where it came from, and what was meant as one and is none.

use std::collections::BTreeMap;

use samovar::Budget;
use samovar_core::units::ByteSize;
use serde_json::json;

use super::keys::KEYS;
use super::model_keys::MODEL_KEYS;
use super::values::Values;
use super::{Environment, Provenance, Settings, variables};

/// One setting as people see it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// `section.name`.
    pub(crate) key: String,
    /// For people.
    pub(crate) shown: String,
    /// For machines; null when nothing is set.
    pub(crate) json: serde_json::Value,
    /// Where it came from.
    pub(crate) provenance: Provenance,
}

/// Settings as `samovar config --json` lists them. Secrets are among them as `set`.
pub(crate) fn entries_as_json(entries: &[Entry]) -> serde_json::Value {
    let object = |entry: &Entry| json!({ "key": entry.key, "value": entry.json, "from": entry.provenance.to_string() });
    entries.iter().map(object).collect()
}

/// Everything that is in force, as `samovar config --json` prints it.
pub(crate) fn settings_as_json(settings: &Settings) -> serde_json::Value {
    json!({
        "config_file": settings.config_file,
        "home": {
            "config_file": settings.home.config_file,
            "cache_dir": settings.home.cache_dir,
            "state_dir": settings.home.state_dir,
            "run_dir": settings.home.run_dir,
        },
        "values": entries_as_json(&settings.entries),
        "unknown_variables": settings.unknown_variables,
        "remarks": settings.foreign.remarks,
    })
}

/// Each setting, in the order of the table.
pub(super) fn entries(values: &Values, models: &BTreeMap<String, Values>, budget: &Budget) -> Vec<Entry> {
    let entry = |key: String, otherwise: &str, values: &Values, at: &str| match values.get(at) {
        Some((value, provenance)) => {
            Entry { key, shown: value.to_string(), json: value.to_json(), provenance: provenance.clone() }
        }
        None => Entry {
            key,
            shown: format!("({otherwise})"),
            json: serde_json::Value::Null,
            provenance: Provenance::Default,
        },
    };
    let mut entries: Vec<Entry> = KEYS
        .iter()
        .map(|key| match key.path {
            "pool.budget_bytes" if !values.contains_key(key.path) => Entry {
                key: key.path.to_owned(),
                shown: format!("{} ({})", ByteSize::from_bytes(budget.bytes), budget.source),
                json: budget.bytes.into(),
                provenance: Provenance::Default,
            },
            path => entry(path.to_owned(), key.otherwise, values, path),
        })
        .collect();
    for key in MODEL_KEYS {
        let path = format!("defaults.{}", key.path);
        entries.push(entry(path.clone(), key.otherwise, values, &path));
    }
    for (name, values) in models {
        for at in values.keys() {
            entries.push(entry(format!("models.{name}.{at}"), "", values, at));
        }
    }
    entries
}

/// `SAMOVAR_*` variables that mean nothing.
pub(super) fn unknown_variables(environment: &Environment) -> Vec<String> {
    let is_known = |name: &String| {
        variables::VARIABLES.iter().any(|(known, _)| known == name)
            || KEYS.iter().any(|key| key.variable() == *name)
            || MODEL_KEYS.iter().any(|key| variables::variable_of(&format!("defaults.{}", key.path)) == *name)
    };
    // What our own tests are told of the machine is not a setting of the user's.
    let is_of_tests = |name: &String| name.starts_with("SAMOVAR_TEST_");
    environment.names("SAMOVAR_").into_iter().filter(|name| !is_known(name) && !is_of_tests(name)).collect()
}
