//! The pages of `samovar.toml` and of the environment, and the file to begin with.

use std::fmt::Write;
use std::path::PathBuf;

use samovar_core::cores::CoreWatch;

use super::{code, head, row};
use crate::home::Home;
use crate::settings::examples::EXAMPLES;
use crate::settings::keys::{KEYS, Key};
use crate::settings::model_keys::{MODEL_KEYS, NAME_KEYS};
use crate::settings::value::Shape;
use crate::settings::variables::{self, ECOSYSTEM, VARIABLES};

pub(super) fn config_page() -> String {
    let mut page = String::from(
        "# Configuration\n\nFlags win over the environment, the environment over `samovar.toml`, the file over the defaults. \
         An unknown key is an error. `samovar config` shows the values in effect, `samovar config --template` prints a file to start from.\n",
    );
    for section in sections() {
        let title = if section.is_empty() { "At the top".to_owned() } else { format!("[{section}]") };
        write!(page, "\n## {title}\n\n").expect("invariant: writing to a String succeeds");
        page.push_str(&table(KEYS.iter().filter(|key| section_of(key) == section)));
    }
    page.push_str("\n## [models.NAME]\n\nA name for a model, and its settings. Settings that it does not have come from `[defaults]`.\n\n");
    page.push_str(&table(NAME_KEYS.iter().chain(MODEL_KEYS)));
    let of_names: Vec<String> = NAME_KEYS.iter().map(|key| code(key.path)).collect();
    write!(
        page,
        "\n## [defaults]\n\nSettings of every model that does not set them itself: all of the above but {}.\n",
        of_names.join(", ")
    )
    .expect("invariant: writing to a String succeeds");
    page
}

pub(super) fn environment_page() -> String {
    let mut page = String::from("# Environment\n\n");
    page.push_str(&head(&["variable", "means"]));
    for (name, about) in VARIABLES {
        page.push_str(&row([format!("`{name}`").as_str(), about]));
    }
    page.push_str("\nEvery setting of the file has a variable:\n\n");
    page.push_str(&head(&["variable", "sets"]));
    for key in KEYS {
        page.push_str(&row([format!("`{}`", key.variable()).as_str(), &format!("`{}`", key.path)]));
    }
    for key in MODEL_KEYS {
        let path = format!("defaults.{}", key.path);
        page.push_str(&row([format!("`{}`", variables::variable_of(&path)).as_str(), &format!("`{path}`")]));
    }
    page.push_str("\nLists are written with commas. An empty variable counts as not set.\n");
    page.push_str("\nVariables of other programs. `SAMOVAR_*` takes precedence over these, and these over the file.\n\n");
    page.push_str(&head(&["variable", "means"]));
    for (name, about) in ECOSYSTEM {
        page.push_str(&row([format!("`{name}`").as_str(), about]));
    }
    page
}

/// A `samovar.toml` with every setting, commented out. What is a place or a number of this machine is that.
pub(in crate::command) fn template(home: &Home) -> String {
    let mut file = String::from("# samovar.toml: remove the # before what you want to change.\n");
    for section in sections() {
        if !section.is_empty() {
            write!(file, "\n[{section}]\n").expect("invariant: writing to a String succeeds");
        }
        for key in KEYS.iter().filter(|key| section_of(key) == section) {
            entry(&mut file, home, key, name_of(key));
        }
    }
    file.push_str("\n# For every model that does not say otherwise.\n[defaults]\n");
    for key in MODEL_KEYS {
        entry(&mut file, home, key, key.path);
    }
    file.push_str("\n# A name for a model; all settings of [defaults] may follow.\n# [models.tiny]\n# source = \"./tiny.gguf\"\n");
    file
}

fn entry(file: &mut String, home: &Home, key: &Key, name: &str) {
    let value = match key.default {
        Some(default) => toml_text(key.shape, default),
        None => example(home, key),
    };
    let default = if key.default.is_some() { String::new() } else { format!(" Default: {}.", key.otherwise) };
    write!(file, "# {}{default}\n#{name} = {value}\n", key.about)
        .expect("invariant: writing to a String succeeds");
}

fn toml_text(shape: Shape, text: &str) -> String {
    match shape {
        Shape::Count { .. } | Shape::Ratio | Shape::Flag => text.to_owned(),
        Shape::Names | Shape::Paths | Shape::Adapters if text.is_empty() => "[]".to_owned(),
        _ => format!("\"{text}\""),
    }
}

/// What is written where the default is found on the machine.
fn example(home: &Home, key: &Key) -> String {
    let path = |path: PathBuf| format!("{:?}", path.to_string_lossy());
    match key.path {
        "cache.cache_dir" => path(home.cache_dir.clone()),
        "server.socket" => path(home.socket()),
        "server.request_log" => path(home.state_dir.join("requests.log")),
        "threads" => CoreWatch::new().cores().to_string(),
        other => {
            let example =
                EXAMPLES.iter().find(|(path, _)| *path == other).map(|(_, text)| (*text).to_owned());
            example.expect("invariant: a test looks for every key")
        }
    }
}

fn table<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    keys.into_iter().fold(head(&["key", "value", "default", "does"]), |mut table, key| {
        let default = match key.default {
            Some("") => "(none)".to_owned(),
            Some(default) => format!("`{default}`"),
            None => key.otherwise.to_owned(),
        };
        let name = format!("`{}`", name_of(key));
        table.push_str(&row([name.as_str(), &key.shape.expected(), &default, key.about]));
        table
    })
}

fn name_of(key: &Key) -> &'static str {
    key.path.split_once('.').map_or(key.path, |(_, name)| name)
}

fn section_of(key: &Key) -> &'static str {
    key.path.split_once('.').map_or("", |(section, _)| section)
}

fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = KEYS.iter().map(section_of).collect();
    sections.dedup();
    sections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Environment, Flags, settle};

    #[test]
    fn the_template_with_everything_uncommented_is_valid() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let is_setting =
            |line: &&str| !line.starts_with("# ") || line.starts_with("# source") || line.starts_with("# [");
        let before = settle(
            &Flags { home: Some(folder.path().to_owned()), ..Flags::default() },
            &Environment::default(),
        );
        let before = before.expect("settles");
        let text = template(&before.home);
        let text: Vec<&str> =
            text.lines().filter(is_setting).map(|line| line.trim_start_matches('#').trim()).collect();
        fs_err::write(folder.path().join("samovar.toml"), text.join("\n")).expect("file");
        let flags = Flags { home: Some(folder.path().to_owned()), ..Flags::default() };
        let settings = settle(&flags, &Environment::default()).expect("settles");
        let from_file =
            settings.entries.iter().filter(|entry| entry.provenance.to_string().contains("samovar.toml"));
        assert_eq!(from_file.count(), KEYS.len() + MODEL_KEYS.len() + 1);
        // It changes nothing for the user: places, budget, context and threads are what they were, and nothing leaves soon.
        assert_eq!((&settings.home.cache_dir, &settings.socket), (&before.home.cache_dir, &before.socket));
        assert_eq!(settings.runtime.store.cache_dir, before.runtime.store.cache_dir);
        let (budget, budget_before) = (settings.runtime.pool.budget.bytes, before.runtime.pool.budget.bytes);
        assert!(budget.abs_diff(budget_before) < budget_before / 4, "{budget} and {budget_before}");
        let defaults = &settings.runtime.defaults;
        assert_eq!((defaults.context_tokens, defaults.slots), (Some(4096), Some(4)));
        assert_eq!(defaults.threads, Some(CoreWatch::new().cores()));
        assert_eq!(settings.idle_exit, Some(std::time::Duration::from_secs(30 * 60)));
        assert!(settings.runtime.default_deadline.is_some_and(|limit| limit.as_secs() >= 600));
        assert!(!settings.is_insecure && settings.listen.is_some_and(|address| address.ip().is_loopback()));
    }

    #[test]
    fn every_setting_is_on_its_page() {
        let (config, environment) = (config_page(), environment_page());
        for key in KEYS {
            assert!(config.contains(&format!("| `{}` |", name_of(key))), "{}", key.path);
            assert!(environment.contains(&format!("| `{}` |", key.variable())), "{}", key.path);
        }
    }
}
