//! LM Studio's home: models, what it calls them, the defaults of each, and presets.
//!
//! ```text
//!   models/<publisher>/<repository>/<file>.gguf                                          adopted
//!   .internal/model-index-cache.json                                                     the names that clients use
//!   .internal/user-concrete-model-default-config/<publisher>/<repository>/<file>.json    settings of a model
//!   config-presets/*.preset.json                                                         settings that those may refer to
//!   settings.json                                                                        how long a model stays
//! ```

mod fields;

use std::collections::BTreeMap;
use std::path::Path;

use samovar::store::{AdoptKind, AdoptRoot};
use samovar_core::model::{ArtifactRef, RemoteRef};
use serde_json::Value;

use super::entry::{FoundModels, ModelEntry};
use super::is_model_file;
use crate::place::ForeignFolder;
use crate::settings::value::Raw;

/// Whose entries these are, for people.
pub(super) const WHOSE: &str = "LM Studio";
/// One file of settings.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// The index of all models.
const INDEX_MAX_BYTES: u64 = 64 << 20;
const INDEX: &str = ".internal/model-index-cache.json";
const DEFAULTS: &str = ".internal/user-concrete-model-default-config";
const PRESETS: &str = "config-presets";

/// Looks through a home, or the folder of models in one.
///
/// # Errors
/// A clause about the folder.
pub(super) fn look(from: &Path) -> Result<FoundModels, String> {
    let named = ForeignFolder::of(from)?;
    let is_home = named.root().join("models").is_dir();
    let home = match named.root().parent() {
        Some(parent) if !is_home => ForeignFolder::of(parent)?,
        _ => named.clone(),
    };
    let models = if is_home { ForeignFolder::of(&named.root().join("models"))? } else { named };
    let mut found = FoundModels { from: home.root().to_owned(), ..FoundModels::default() };
    found.roots.push(AdoptRoot::new(models.root(), AdoptKind::LmStudio));
    let names = names(&home, &mut found);
    let presets = presets(&home, &mut found);
    let keep_alive = keep_alive(&home);
    let mut used = Vec::new();
    for (file, at) in models.files(Path::new(""), 4)? {
        if !is_model(&file) {
            continue;
        }
        let name = names.get(&file).cloned().unwrap_or_else(|| usual_name(&file));
        let mut entry = ModelEntry::new(name);
        if let Err(why) = reference(&at).and_then(|reference| entry.set_reference(&reference)) {
            found.cannot(&file, "the file", why);
            continue;
        }
        entry.files.push(at);
        if let Some(value) = &keep_alive {
            entry.set("keep_alive", "developer.jitModelTTL", value.clone());
        }
        let defaults = Path::new(DEFAULTS).join(format!("{file}.json"));
        if home.root().join(&defaults).exists() {
            match json(&home, &defaults, FILE_MAX_BYTES) {
                Ok(defaults) => {
                    if let Some(preset) = defaults["preset"].as_str().filter(|preset| !preset.is_empty()) {
                        match presets.get(preset) {
                            Some((_, preset)) => fields::apply(&mut entry, preset),
                            None => entry.cannot(format!("preset {preset}"), "there is no such preset"),
                        }
                        used.push(preset.to_owned());
                    }
                    fields::apply(&mut entry, &defaults);
                }
                Err(why) => entry.cannot("its settings", why),
            }
        }
        found.add(entry);
    }
    for (identifier, (name, _)) in presets.iter().filter(|(identifier, _)| !used.contains(identifier)) {
        let why = "is no model's default: copy what you need of it into [models.NAME]";
        found.cannot("presets", format!("{name} ({identifier})"), why);
    }
    Ok(found)
}

/// Whether a file lies where LM Studio looks for models, and is one.
fn is_model(file: &str) -> bool {
    matches!(file.split('/').collect::<Vec<_>>()[..], [_, _, name] if is_model_file(name))
}

/// The reference by which the store knows the adopted file.
///
/// # Errors
/// A clause about the path.
fn reference(at: &Path) -> Result<String, String> {
    let path = at.to_str().ok_or("its path is no text")?;
    let reference = RemoteRef::of_path(path).map_err(|error| error.to_string())?;
    Ok(ArtifactRef::Remote(reference).to_string())
}

/// The name of a model that the index does not know: that of its repository, as LM Studio writes it.
fn usual_name(file: &str) -> String {
    let repository = file.split('/').nth(1).unwrap_or(file).to_ascii_lowercase();
    repository.strip_suffix("-gguf").unwrap_or(&repository).to_owned()
}

/// The names that clients use, by the places of files below the folder of models.
fn names(home: &ForeignFolder, found: &mut FoundModels) -> BTreeMap<String, String> {
    if !home.root().join(INDEX).exists() {
        return BTreeMap::new();
    }
    let index = match json(home, Path::new(INDEX), INDEX_MAX_BYTES) {
        Ok(index) => index,
        Err(why) => {
            found.cannot(INDEX, "names of models", why);
            return BTreeMap::new();
        }
    };
    let models = index["models"].as_array().into_iter().flatten();
    let pairs = models.filter_map(|model| {
        let name = model["defaultIdentifier"].as_str()?;
        Some((model["indexedModelIdentifier"].as_str()?.to_owned(), name.to_owned()))
    });
    pairs.collect()
}

/// Presets by their identifiers, each with its name.
fn presets(home: &ForeignFolder, found: &mut FoundModels) -> BTreeMap<String, (String, Value)> {
    let mut presets = BTreeMap::new();
    let files = match home.files(Path::new(PRESETS), 2) {
        Ok(files) => files,
        Err(why) => {
            found.cannot(PRESETS, "presets", why);
            return presets;
        }
    };
    for (file, at) in
        files.into_iter().filter(|(_, at)| at.extension().is_some_and(|ending| ending == "json"))
    {
        match json(home, &at, FILE_MAX_BYTES) {
            Ok(preset) => {
                let identifier = preset["identifier"].as_str().unwrap_or(&file).to_owned();
                let name = preset["name"].as_str().unwrap_or(&file).to_owned();
                presets.insert(identifier, (name, preset));
            }
            Err(why) => found.cannot("presets", file, why),
        }
    }
    presets
}

/// How long a model stays that a request loaded.
fn keep_alive(home: &ForeignFolder) -> Option<Raw> {
    let settings = json(home, Path::new("settings.json"), FILE_MAX_BYTES).ok()?;
    let ttl = &settings["developer"]["jitModelTTL"];
    match (ttl["enabled"].as_bool()?, ttl["ttlSeconds"].as_u64()?) {
        (true, seconds) => Some(Raw::Text(format!("{seconds}s"))),
        (false, _) => Some(Raw::Integer(-1)),
    }
}

fn json(home: &ForeignFolder, path: &Path, most_bytes: u64) -> Result<Value, String> {
    let text = home.text(path, most_bytes)?;
    // Some of them begin with a mark of the byte order.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))
}

#[cfg(test)]
mod tests;
