//! What was found, as entries of `samovar.toml`: which are new, which are there already, and which are there with other values and stay.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use samovar_core::{ErrorKind, Failure};
use serde::Serialize;
use toml_edit::{DocumentMut, Item, Table};

use super::entry::ModelEntry;
use crate::settings::file::{self, Contents};
use crate::settings::model_keys;
use crate::settings::value::{Raw, Value};

/// What becomes of a model's entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
pub(crate) enum EntryOutcome {
    /// It is added.
    Added,
    /// It is there, with the same values.
    Same,
    /// A model of this name is there with other values, and stays as it is.
    Kept {
        /// Where they differ.
        differences: Vec<Difference>,
    },
}

/// A setting that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// The key.
    pub(crate) key: &'static str,
    /// Its value in the configuration; `None` when it has none.
    pub(crate) here: Option<String>,
    /// Its value in the other program.
    pub(crate) there: String,
}

/// A configuration file with what was found.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    /// What becomes of each model, in their order.
    pub(crate) outcomes: Vec<EntryOutcome>,
    /// Models that are loaded at the start from now on.
    pub(crate) preload: Vec<String>,
    /// The text; the same as before when nothing is new.
    pub(crate) text: String,
}

/// Adds models and preloads to a configuration file's text. `path` is where it lies; `whose` is named above each new entry.
///
/// # Errors
/// `InvalidRequest` when the file is not valid, or cannot take them.
pub(crate) fn merge(
    path: &Path,
    text: &str,
    models: &[ModelEntry],
    preload: &[String],
    whose: &str,
) -> Result<Merged, Failure> {
    let contents = file::contents_of(path, text)?;
    let outcomes: Vec<EntryOutcome> = models.iter().map(|entry| outcome(entry, &contents, path)).collect();
    let (mut edited, preload) = with_preload(path, text, preload)?;
    for (entry, _) in models.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == EntryOutcome::Added) {
        if !edited.is_empty() && !edited.ends_with('\n') {
            edited.push('\n');
        }
        if !edited.is_empty() {
            edited.push('\n');
        }
        _ = write!(edited, "# Taken over from {whose}.\n{}", section(entry));
    }
    if edited.len() as u64 > file::MAX_BYTES {
        return Err(Failure::new(
            ErrorKind::InvalidRequest,
            format!("{} would have more than {} bytes", path.display(), file::MAX_BYTES),
        )
        .with_hint("nothing was written; take over fewer models with --from"));
    }
    // What is written must be read again.
    file::contents_of(path, &edited)?;
    Ok(Merged { outcomes, preload, text: edited })
}

/// Whether a model is new, and where it differs from the one that is there.
fn outcome(entry: &ModelEntry, contents: &Contents, path: &Path) -> EntryOutcome {
    let Some(known) = contents.models.get(&entry.name) else { return EntryOutcome::Added };
    let base = path.parent().unwrap_or(Path::new("/"));
    let values: BTreeMap<&str, &Value> =
        known.iter().map(|(key, (value, _))| (key.as_str(), value)).collect();
    let differing = entry.settings.iter().filter_map(|(key, raw)| {
        let there = model_keys::find_of_name(key)?.shape.read(raw, base).ok()?;
        let here = values.get(key).copied();
        (here != Some(&there)).then(|| Difference {
            key,
            here: here.map(ToString::to_string),
            there: there.to_string(),
        })
    });
    let differences: Vec<Difference> = differing.collect();
    if differences.is_empty() { EntryOutcome::Same } else { EntryOutcome::Kept { differences } }
}

/// A model's section.
fn section(entry: &ModelEntry) -> String {
    let mut settings = Table::new();
    for (key, raw) in &entry.settings {
        settings.insert(key, Item::Value(value(raw)));
    }
    let mut models = Table::new();
    models.set_implicit(true);
    models.insert(&entry.name, Item::Table(settings));
    let mut document = DocumentMut::new();
    document.as_table_mut().insert("models", Item::Table(models));
    let text = document.to_string();
    format!("{}\n", text.trim())
}

fn value(raw: &Raw) -> toml_edit::Value {
    match raw {
        Raw::Text(text) => text.as_str().into(),
        Raw::Integer(number) => (*number).into(),
        Raw::Float(number) => (*number).into(),
        Raw::Flag(flag) => (*flag).into(),
        Raw::List(items) => items.iter().map(value).collect(),
        Raw::Other(kind) => (*kind).into(),
    }
}

/// The text with these models among those that are loaded at the start, and which of them are new there.
fn with_preload(path: &Path, text: &str, wanted: &[String]) -> Result<(String, Vec<String>), Failure> {
    let refuse = |reason: &str| {
        let message = format!("{}: {reason}", path.display());
        Failure::new(ErrorKind::InvalidRequest, message)
            .with_hint("write [cache] with preload_models = [\"…\"] below it; nothing was written")
    };
    let mut document: DocumentMut = text.parse().map_err(|_| refuse("the file is no TOML"))?;
    let known: Vec<String> = document
        .get("cache")
        .and_then(|cache| cache.get("preload_models"))
        .and_then(Item::as_array)
        .map(|names| names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    let mut new: Vec<String> = Vec::new();
    for name in wanted {
        if !known.contains(name) && !new.contains(name) {
            new.push(name.clone());
        }
    }
    if new.is_empty() {
        return Ok((text.to_owned(), new));
    }
    let Some(cache) = document.get_mut("cache") else {
        let names: toml_edit::Value = new.iter().map(String::as_str).collect();
        let gap = if text.is_empty() {
            ""
        } else if text.ends_with('\n') {
            "\n"
        } else {
            "\n\n"
        };
        return Ok((format!("{text}{gap}[cache]\npreload_models = {}\n", names.to_string().trim()), new));
    };
    let cache = cache.as_table_like_mut().ok_or_else(|| refuse("`cache` is a section"))?;
    match cache.get_mut("preload_models") {
        Some(names) => {
            let names = names.as_array_mut().ok_or_else(|| refuse("cache.preload_models is a list"))?;
            for name in &new {
                names.push(name.as_str());
            }
        }
        None => {
            cache.insert("preload_models", Item::Value(new.iter().map(String::as_str).collect()));
        }
    }
    Ok((document.to_string(), new))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/c/samovar.toml";

    fn entry(name: &str, settings: &[(&'static str, Raw)]) -> ModelEntry {
        let mut entry = ModelEntry::new(name);
        entry.set_reference("hf://org/name:Q8_0").expect("a reference");
        for (key, value) in settings {
            entry.set(key, key, value.clone());
        }
        entry
    }

    fn merged(text: &str, models: &[ModelEntry], preload: &[&str]) -> Merged {
        let preload: Vec<String> = preload.iter().map(|name| (*name).to_owned()).collect();
        merge(Path::new(PATH), text, models, &preload, "Ollama").expect("valid")
    }

    #[test]
    fn new_models_are_added_below_what_is_there() {
        let before = "# mine\n[pool]\nbudget_bytes = '1GB' # small\n\n#[server]\n#listen = 1";
        let stop = Raw::List(vec![Raw::Text("\n\n".into()), Raw::Text("\"</s>".into())]);
        let models = [
            entry("llama3.2:1b", &[("temperature", Raw::Float(1.0)), ("stop", stop)]),
            entry(
                "org/name",
                &[("system", Raw::Text("Be \"brief\".\nAnd kind.".into())), ("keep_alive", Raw::Integer(-1))],
            ),
        ];
        let after = merged(before, &models, &[]);
        assert_eq!(after.outcomes, [EntryOutcome::Added, EntryOutcome::Added]);
        assert!(after.text.starts_with(before), "{}", after.text);
        let added = "\n\n# Taken over from Ollama.\n[models.\"llama3.2:1b\"]\nsource = \"hf://org/name:Q8_0\"\ntemperature = 1.0\n";
        assert!(after.text.contains(added), "{}", after.text);
        let contents = file::contents_of(Path::new(PATH), &after.text).expect("valid");
        let texts = Value::Texts(vec!["\n\n".into(), "\"</s>".into()]);
        assert_eq!(contents.models["llama3.2:1b"]["stop"].0, texts);
        assert_eq!(contents.models["org/name"]["system"].0, Value::Text("Be \"brief\".\nAnd kind.".into()));
        let again = merged(&after.text, &models, &[]);
        assert_eq!((again.outcomes, again.text), (vec![EntryOutcome::Same, EntryOutcome::Same], after.text));
    }

    #[test]
    fn an_entry_with_other_values_stays() {
        let before = "[models.m]\nsource = 'hf://org/name:Q8_0'\nkeep_alive = 300\nslots = 2\n";
        let there = entry("m", &[("keep_alive", Raw::Text("1h".into())), ("max_tokens", Raw::Integer(9))]);
        let after = merged(before, &[there], &[]);
        assert_eq!(after.text, before);
        let EntryOutcome::Kept { differences } = &after.outcomes[0] else { panic!("{after:?}") };
        let shown: Vec<(&str, Option<&str>, &str)> = differences
            .iter()
            .map(|difference| (difference.key, difference.here.as_deref(), difference.there.as_str()))
            .collect();
        assert_eq!(shown, [("keep_alive", Some("5m"), "1h"), ("max_tokens", None, "9")]);
        let same = entry("m", &[("keep_alive", Raw::Text("5m".into()))]);
        assert_eq!(merged(before, &[same], &[]).outcomes, [EntryOutcome::Same]);
    }

    #[test]
    fn models_to_load_at_the_start_are_added_to_those_there_are() {
        let after = merged("", &[], &["a", "a"]);
        assert_eq!(after.text, "[cache]\npreload_models = [\"a\"]\n");
        let before = "[cache]\n# those\npreload_models = ['a'] # and no more\nmax_age_days = 1\n";
        let after = merged(before, &[], &["a", "b/c"]);
        assert_eq!(after.text, before.replace("['a']", "['a', \"b/c\"]"));
        assert_eq!(after.preload, ["b/c"]);
        assert_eq!(merged(&after.text, &[], &["a", "b/c"]).text, after.text);
        let before = "cache.max_age_days = 1\n[pool]\nqueue_total = 1\n";
        let after = merged(before, &[], &["a"]);
        assert!(
            after.text.contains("cache.preload_models") && after.text.contains("queue_total"),
            "{}",
            after.text
        );
    }

    #[test]
    fn a_file_that_is_not_valid_is_left_alone() {
        for text in ["[pool\n", "[pool]\nx = 1\n", "models = { m = { source = 'demo' } }\n"] {
            let models = [entry("m", &[])];
            let merged = merge(Path::new(PATH), text, &models, &[], "Ollama");
            match merged {
                Err(failure) => assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{text}"),
                // An inline table can hold the same model, and is not added to.
                Ok(merged) => assert_eq!(merged.text, text),
            }
        }
        let inline = "models = { m = { source = 'demo' } }\n";
        assert!(merge(Path::new(PATH), inline, &[entry("n", &[])], &[], "Ollama").is_err());
    }
}
