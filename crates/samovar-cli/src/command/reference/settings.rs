//! The pages of `samovar.toml` and of the environment, and the file to begin with.

use std::fmt::Write;

use super::{head, row};
use crate::settings::keys::{self, ECOSYSTEM, KEYS, Key, MODEL_KEYS, NAME_KEYS, VARIABLES};
use crate::settings::value::Shape;

pub(super) fn config_page() -> String {
    let mut page = String::from(
        "# Configuration\n\nFlags win over the environment, the environment over `samovar.toml`, the file over the defaults. \
         An unknown key is an error. `samovar config` shows what is in force, `samovar config --template` prints a file to begin with.\n",
    );
    for section in sections() {
        let title = if section.is_empty() { "At the top".to_owned() } else { format!("[{section}]") };
        write!(page, "\n## {title}\n\n").expect("invariant: writing to a String succeeds");
        page.push_str(&table(KEYS.iter().filter(|key| section_of(key) == section)));
    }
    page.push_str("\n## [models.NAME]\n\nA name for a model, and its settings. What it does not set comes from `[defaults]`.\n\n");
    page.push_str(&table(NAME_KEYS.iter().chain(MODEL_KEYS)));
    page.push_str("\n## [defaults]\n\nSettings of every model that does not set them itself: all of the above but `source`, `adapters` and `needs`.\n");
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
        page.push_str(&row([format!("`{}`", keys::variable_of(&path)).as_str(), &format!("`{path}`")]));
    }
    page.push_str("\nLists are written with commas. An empty variable counts as not set.\n");
    page.push_str("\nVariables that other programs know as well. Where two say different things, `SAMOVAR_*` wins over these, and these over the file.\n\n");
    page.push_str(&head(&["variable", "means"]));
    for (name, about) in ECOSYSTEM {
        page.push_str(&row([format!("`{name}`").as_str(), about]));
    }
    page
}

/// A `samovar.toml` with every setting, commented out.
pub(in crate::command) fn template() -> String {
    let mut file = String::from("# samovar.toml: remove the # before what you want to change.\n");
    for section in sections() {
        if !section.is_empty() {
            write!(file, "\n[{section}]\n").expect("invariant: writing to a String succeeds");
        }
        for key in KEYS.iter().filter(|key| section_of(key) == section) {
            entry(&mut file, key, name_of(key));
        }
    }
    file.push_str("\n# For every model that does not say otherwise.\n[defaults]\n");
    for key in MODEL_KEYS {
        entry(&mut file, key, key.path);
    }
    file.push_str("\n# A name for a model; all settings of [defaults] may follow.\n# [models.tiny]\n# source = \"./tiny.gguf\"\n");
    file
}

fn entry(file: &mut String, key: &Key, name: &str) {
    let value = match key.default {
        Some(default) => toml_text(key.shape, default),
        None => example(key.shape),
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

/// A value of this shape, where the default is found on the machine.
fn example(shape: Shape) -> String {
    let text = match shape {
        Shape::Text => "\"text\"",
        Shape::Path => "\"/path\"",
        Shape::Template => "\"chatml\"",
        Shape::Size => "\"4GB\"",
        Shape::Span => "\"30s\"",
        Shape::KeepAlive => "\"5m\"",
        Shape::Count { .. } => "8",
        Shape::Ratio => "0.5",
        Shape::Flag => "false",
        Shape::Names | Shape::Paths | Shape::Adapters => "[]",
        Shape::Url => "\"https://hub.example.org\"",
        Shape::OneOf(words) => return format!("\"{}\"", words.first().copied().unwrap_or_default()),
        Shape::Address => "\"127.0.0.1:7266\"",
    };
    text.to_owned()
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
        let text = template();
        let text: Vec<&str> =
            text.lines().filter(is_setting).map(|line| line.trim_start_matches('#').trim()).collect();
        fs_err::write(folder.path().join("samovar.toml"), text.join("\n")).expect("file");
        let flags = Flags { home: Some(folder.path().to_owned()), ..Flags::default() };
        let settings = settle(&flags, &Environment::default()).expect("settles");
        let from_file =
            settings.entries.iter().filter(|entry| entry.provenance.to_string().contains("samovar.toml"));
        assert_eq!(from_file.count(), KEYS.len() + MODEL_KEYS.len() + 1);
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
