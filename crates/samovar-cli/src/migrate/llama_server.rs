//! llama-server's router: presets in a file (`--models-preset`), or a folder of models (`--models-dir`).

use std::path::{Path, PathBuf};

use samovar_core::model::ArtifactRef;

use super::entry::{FoundModels, ModelEntry};
use super::flags;
use super::ini::{self, Section};
use super::{MODEL_ENDING, is_model_file};
use crate::place::{self, ForeignFolder};

/// Whose entries these are, for people.
pub(super) const WHOSE: &str = "llama-server";
const FILE_MAX_BYTES: u64 = 1 << 20;
/// The section whose keys hold for all others.
const ALL: &str = "*";
/// The section of keys that stand before the first one.
const DEFAULT: &str = "default";

/// Reads a file of presets, or looks through a folder of models.
///
/// # Errors
/// A clause about the file or folder.
pub(super) fn look(from: &Path) -> Result<FoundModels, String> {
    if from.is_dir() { folder(from) } else { presets(from) }
}

fn presets(from: &Path) -> Result<FoundModels, String> {
    let sections = ini::parse(&place::text_of(from, FILE_MAX_BYTES)?)?;
    let base = from.parent().unwrap_or(Path::new("/"));
    let mut found = FoundModels { from: from.to_owned(), ..FoundModels::default() };
    let is_all = |section: &&Section| section.name == ALL;
    // As there: the last of several sections of a name counts.
    let global = sections.iter().rfind(is_all).map(|section| section.values.clone()).unwrap_or_default();
    let named: Vec<&Section> =
        sections.iter().filter(|section| !["", ALL, DEFAULT].contains(&section.name.as_str())).collect();
    for (at, section) in named.iter().enumerate() {
        let is_last = named[at + 1..].iter().all(|later| later.name != section.name);
        if is_last {
            preset(&mut found, section, &global, base);
        }
    }
    if named.is_empty() {
        return Err("is no file of presets: it has no [section] of a model".to_owned());
    }
    Ok(found)
}

/// A section is a command line without dashes; what it says counts more than what is said for all.
fn preset(found: &mut FoundModels, section: &Section, global: &[(String, String)], base: &Path) {
    let mut entry = ModelEntry::new(&section.name);
    let own: Vec<String> = section.values.iter().map(|(key, _)| flags::of_key(key)).collect();
    let inherited = global.iter().filter(|(key, _)| !own.contains(&flags::of_key(key)));
    let mut line = Vec::new();
    let mut loads_on_startup = false;
    for (key, value) in inherited.chain(&section.values) {
        match flags::of_key(key).as_str() {
            "version" => {}
            "load-on-startup" => loads_on_startup = matches!(value.as_str(), "true" | "1" | "on" | "enabled"),
            key => line.push((key.to_owned(), Some(value.clone()))),
        }
    }
    let others = flags::apply(&mut entry, &line, base);
    // Without a model, the section is about one of the hub that is in llama.cpp's cache.
    let is_of_hub = matches!(section.name.parse(), Ok(ArtifactRef::Hub(_)));
    let names_model =
        entry.source().is_some() || entry.remarks.iter().any(|remark| remark.what == "its model");
    if is_of_hub && !names_model && entry.set_reference(&format!("hf://{}", section.name)).is_err() {
        entry.cannot("its model", "the section's name is no model of the hub");
    } else if !is_of_hub && !names_model {
        entry.cannot("its model", "neither `model` nor `hf-repo` names one");
    }
    if loads_on_startup && entry.source().is_some() {
        found.preload.push(entry.name.clone());
    }
    let others: Vec<ModelEntry> = others
        .iter()
        .map(|name| ModelEntry { name: name.clone(), remarks: Vec::new(), ..entry.clone() })
        .collect();
    found.add(entry);
    for other in others {
        found.add(other);
    }
}

/// Each file, and each folder with one model in it, is a model named after it.
fn folder(from: &Path) -> Result<FoundModels, String> {
    let place = ForeignFolder::of(from)?;
    let mut found = FoundModels { from: place.root().to_owned(), ..FoundModels::default() };
    let files: Vec<(String, PathBuf)> = place.files(Path::new(""), 1)?;
    for (name, at) in &files {
        let file = name.rsplit('/').next().unwrap_or(name);
        if !is_model_file(file) {
            continue;
        }
        let stem = &file[..file.len() - MODEL_ENDING.len()];
        let mut entry = ModelEntry::new(name.split_once('/').map_or(stem, |(folder, _)| folder));
        match entry.set_file(at) {
            Ok(()) => found.add(entry),
            Err(why) => found.cannot(name, "the file", why),
        }
    }
    if found.models.is_empty() && found.remarks.is_empty() {
        return Err("has no GGUF files in it".to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::value::Raw;

    #[test]
    fn presets_become_models() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("models.ini");
        fs_err::write(dir.path().join("x.gguf"), "GGUF").expect("written");
        let text = "version = 1\n\n[*]\nc = 8192\nn-gpu-layers = 8\ntemp = 0.5\n\n[ggml-org/MY-MODEL-GGUF:Q8_0]\nchat-template = chatml\n\
                    ; a comment\njinja = true\nctx-size = 4096\nLLAMA_ARG_CACHE_RAM = 0\n\n[custom_model]\nmodel = x.gguf\nload-on-startup = true\n\
                    mlock = false\nalias = mine\n\n[lost]\nmodel = none.gguf\n\n[nothing]\nc = 1\n";
        fs_err::write(&path, text).expect("written");
        let found = look(&path).expect("valid");
        let names: Vec<&str> = found.models.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["ggml-org/MY-MODEL-GGUF:Q8_0", "custom_model", "mine"]);
        let expected = [
            ("temperature", Raw::Float(0.5)),
            ("chat_template", Raw::Text("chatml".into())),
            ("context_tokens", Raw::Integer(4096)),
            ("source", Raw::Text("hf://ggml-org/MY-MODEL-GGUF:Q8_0".into())),
        ];
        assert_eq!(found.models[0].settings, expected);
        assert_eq!(found.models[1].get("context_tokens"), Some(&Raw::Integer(8192)));
        assert_eq!(found.models[1].get("lock_memory"), None);
        assert_eq!(found.preload, ["custom_model"]);
        let of_lost: Vec<&str> = found.remarks.iter().map(|remark| remark.of.as_str()).collect();
        assert!(of_lost.contains(&"lost") && of_lost.contains(&"nothing"), "{:?}", found.remarks);
        let whats: Vec<&str> = found.models[0].remarks.iter().map(|remark| remark.what.as_str()).collect();
        assert_eq!(whats, ["--n-gpu-layers 8"]);
    }

    #[test]
    fn a_folder_of_models_is_taken_as_the_router_does() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in [
            "a.gguf",
            "big/b-00001-of-00002.gguf",
            "big/b-00002-of-00002.gguf",
            "eyes/mmproj-F16.gguf",
            "eyes/e.gguf",
            "x.txt",
        ] {
            let path = dir.path().join(name);
            fs_err::create_dir_all(path.parent().expect("a parent")).expect("folder");
            fs_err::write(path, "GGUF").expect("written");
        }
        let found = look(dir.path()).expect("valid");
        let names: Vec<&str> = found.models.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a", "big", "eyes"]);
        assert!(found.models[1].source().is_some_and(|source| source.ends_with("big/b-00001-of-00002.gguf")));
    }

    #[test]
    fn what_is_neither_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(look(dir.path()).expect_err("empty").contains("no GGUF files"));
        let path = dir.path().join("models.ini");
        assert!(look(&path).expect_err("absent").contains("not there"));
        fs_err::write(&path, "c = 1\n").expect("written");
        assert!(look(&path).expect_err("no section").contains("no [section]"));
    }
}
