//! What other programs that serve models have on this machine, as settings of this one.
//!
//! ```text
//!   ollama        manifests and blobs ─┐
//!   lm_studio     folder, presets ─────┼─► FoundModels: entries of [models.NAME], preloads, folders to adopt, remarks
//!   llama_swap    config.yaml ─┐       │                     │
//!   llama_server  models.ini ──┴ flags ┘                     └─► config: the text of samovar.toml with what is new
//! ```
//!
//! Everything foreign is hostile: files are bounded in size and depth, paths stay in their folder, and nothing is run. Writes
//! nothing, and never to the other program.

pub(crate) mod config;
pub(crate) mod entry;
mod flags;
mod ini;
mod llama_server;
mod llama_swap;
mod lm_studio;
mod ollama;
mod params;
pub(crate) mod yaml;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use samovar::store::Skipped;
use samovar_core::{ErrorKind, Failure};
use serde::Serialize;

use crate::edit;
use crate::home;
use crate::settings::foreign::Foreign;
use crate::settings::value::Raw;
use entry::{FoundModels, ModelEntry, Remark};

/// Templates lie in a folder of this name next to the configuration.
const TEMPLATES: &str = "templates";
/// As much as a template may have that is used.
const TEMPLATE_MAX_BYTES: u64 = 1 << 20;
/// How the names of models' files end.
const MODEL_ENDING: &str = ".gguf";

/// A program that serves models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourceProgram {
    /// Its store of models
    Ollama,
    /// Its config.yaml
    LlamaSwap,
    /// A file of presets, or a folder of models, of its router mode
    LlamaServer,
    /// Its folder of models and presets
    #[value(name = "lmstudio", alias = "lm-studio")]
    #[serde(rename = "lmstudio")]
    LmStudio,
}

impl SourceProgram {
    /// As people write it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ollama => ollama::WHOSE,
            Self::LlamaSwap => llama_swap::WHOSE,
            Self::LlamaServer => llama_server::WHOSE,
            Self::LmStudio => lm_studio::WHOSE,
        }
    }

    /// The options of `samovar serve` with which the daemon is where its clients look.
    pub(crate) const fn serve_options(self) -> &'static str {
        match self {
            Self::Ollama => "--as-ollama",
            Self::LlamaSwap | Self::LlamaServer => "--port 8080",
            Self::LmStudio => "--port 1234",
        }
    }

    /// Where it keeps what is taken over.
    ///
    /// # Errors
    /// `InvalidRequest` when there is no usual place, `NotFound` when nothing is there.
    pub(crate) fn place(self, named: Option<&Path>, foreign: &Foreign) -> Result<PathBuf, Failure> {
        let usual = match self {
            Self::Ollama => foreign.places.ollama.clone(),
            Self::LmStudio => foreign.places.lm_studio.clone(),
            Self::LlamaSwap => Some(PathBuf::from("config.yaml")),
            Self::LlamaServer => None,
        };
        let path = named.map(Path::to_owned).or(usual).ok_or_else(|| {
            Failure::new(
                ErrorKind::InvalidRequest,
                format!("the place of {}'s settings is unknown", self.name()),
            )
            .with_hint(format!("name {}", self.what_to_name()))
        })?;
        let path = home::absolute(&path)?;
        if path.exists() {
            return Ok(path);
        }
        Err(Failure::new(ErrorKind::NotFound, format!("there is nothing at {}", path.display()))
            .with_hint(format!("name {}", self.what_to_name())))
    }

    const fn what_to_name(self) -> &'static str {
        match self {
            Self::Ollama => {
                "its folder of models: --from ~/.ollama/models; OLLAMA_MODELS says where it is, too"
            }
            Self::LlamaSwap => "its configuration: --from /path/config.yaml",
            Self::LlamaServer => {
                "what --models-preset or --models-dir of llama-server names: --from /path/models.ini, or --from /path/models"
            }
            Self::LmStudio => "its folder: --from ~/.lmstudio",
        }
    }

    /// Looks at what the program has there.
    ///
    /// # Errors
    /// `InvalidRequest` when it is not what this program writes. Each reason is a clause that follows the path.
    pub(crate) fn look(self, path: &Path, foreign: &Foreign) -> Result<FoundModels, Failure> {
        let found = match self {
            Self::Ollama => ollama::look(path, &foreign.variables),
            Self::LlamaSwap => llama_swap::look(path, &foreign.variables),
            Self::LlamaServer => llama_server::look(path),
            Self::LmStudio => lm_studio::look(path),
        };
        found.map_err(|reason| {
            Failure::new(ErrorKind::InvalidRequest, format!("{} {reason}", path.display()))
                .with_hint(format!("nothing was taken over; name {}", self.what_to_name()))
        })
    }
}

impl FoundModels {
    /// Leaves out models whose files could not be adopted; why that is, becomes a remark.
    pub(crate) fn leave_out(&mut self, skipped: &[Skipped]) {
        for Skipped { path, reason } in skipped.iter().filter(|skipped| !self.told.contains(&skipped.path)) {
            let names = self.models.iter().filter(|entry| entry.files.contains(path));
            let names: Vec<&str> = names.map(|entry| entry.name.as_str()).collect();
            let of = if names.is_empty() { path.display().to_string() } else { names.join(", ") };
            self.remarks.push(Remark::new(&of, "the file", reason.as_str()));
        }
        self.models.retain(|entry| !skipped.iter().any(|skipped| entry.files.contains(&skipped.path)));
        let names: Vec<&str> = self.models.iter().map(|entry| entry.name.as_str()).collect();
        self.preload.retain(|name| names.contains(&name.as_str()));
    }

    /// Gives each template a file next to the configuration, and returns those that are to be written, by the models' names.
    /// Models whose names lead to one file share it if their templates are the same.
    pub(crate) fn place_templates(&mut self, config_file: &Path) -> Vec<TemplateFile> {
        let folder = config_file.parent().unwrap_or(Path::new("/"));
        let mut files: Vec<TemplateFile> = Vec::new();
        for entry in &mut self.models {
            let Some(text) = entry.template.take() else { continue };
            if text.len() as u64 > TEMPLATE_MAX_BYTES {
                entry.cannot("its template", format!("has more than {TEMPLATE_MAX_BYTES} bytes"));
                continue;
            }
            let name = format!("{TEMPLATES}/{}.jinja", entry.name.replace(['/', ':'], "-"));
            let path = folder.join(&name);
            let is_free = files.iter().all(|file| file.path != path || file.text == text);
            match edit::text_before(&path, TEMPLATE_MAX_BYTES) {
                Ok(None) if is_free => files.push(TemplateFile { model: entry.name.clone(), path, text }),
                Ok(Some(before)) if before == text => {}
                _ => {
                    entry.cannot("its template", format!("{} is there with another text", path.display()));
                    continue;
                }
            }
            entry.set("chat_template", "its template", Raw::Text(name));
        }
        files
    }

    /// What could not be taken over, of the program first and then of each model.
    pub(crate) fn all_remarks(&self) -> Vec<Remark> {
        self.remarks.iter().chain(self.models.iter().flat_map(|entry| &entry.remarks)).cloned().collect()
    }
}

/// Whether a file is a model, or the first part of one (`…-00001-of-00006.gguf`), by its name.
fn is_model_file(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let part = name.rsplit_once("-of-").and_then(|(before, _)| before.rsplit_once('-'));
    let is_later = part.and_then(|(_, number)| number.parse::<u32>().ok()).is_some_and(|number| number > 1);
    name.ends_with(MODEL_ENDING) && !name.starts_with("mmproj") && !is_later
}

/// A chat template that becomes a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateFile {
    /// The model that needs it.
    pub(crate) model: String,
    /// Where it will lie.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) text: String,
}

impl ModelEntry {
    /// Its settings for machines.
    pub(crate) fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        self.settings.iter().map(|(key, raw)| ((*key).to_owned(), json_of(raw))).collect()
    }
}

fn json_of(raw: &Raw) -> serde_json::Value {
    match raw {
        Raw::Text(text) => text.as_str().into(),
        Raw::Integer(number) => (*number).into(),
        Raw::Float(number) => (*number).into(),
        Raw::Flag(flag) => (*flag).into(),
        Raw::List(items) => items.iter().map(json_of).collect(),
        Raw::Other(kind) => (*kind).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gets_a_file_that_nothing_else_has() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("samovar.toml");
        let found = || {
            let mut found = FoundModels::default();
            let mut entry = ModelEntry::new("org/name:1b");
            entry.set_reference("hf://org/name").expect("a reference");
            entry.template = Some("{{ messages }}".to_owned());
            found.add(entry);
            found
        };
        let mut first = found();
        let files = first.place_templates(&config);
        let path = folder.path().join("templates/org-name-1b.jinja");
        assert_eq!((&files[0].path, files.len()), (&path, 1));
        assert_eq!(
            first.models[0].get("chat_template"),
            Some(&Raw::Text("templates/org-name-1b.jinja".into()))
        );
        fs_err::create_dir(folder.path().join("templates")).expect("folder");
        fs_err::write(&path, "{{ messages }}").expect("written");
        let mut again = found();
        assert!(again.place_templates(&config).is_empty());
        assert!(again.models[0].get("chat_template").is_some());
        fs_err::write(&path, "mine").expect("written");
        let mut other = found();
        assert!(other.place_templates(&config).is_empty());
        assert!(other.models[0].get("chat_template").is_none());
        assert!(other.models[0].remarks[0].why.contains("is there with another text"));
    }

    #[test]
    fn models_share_the_file_of_one_template() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut found = FoundModels::default();
        for (name, text) in [("a:b", "{{ messages }}"), ("a-b", "{{ messages }}"), ("a/b", "{{ tools }}")] {
            let mut entry = ModelEntry::new(name);
            entry.set_reference("hf://org/name").expect("a reference");
            entry.template = Some(text.to_owned());
            found.add(entry);
        }
        let files = found.place_templates(&folder.path().join("samovar.toml"));
        let models: Vec<&str> = files.iter().map(|file| file.model.as_str()).collect();
        assert_eq!(
            (models, &files[0]),
            (vec!["a:b", "a-b"], &TemplateFile { model: "a:b".into(), ..files[1].clone() })
        );
        assert!(found.models[2].get("chat_template").is_none(), "{:?}", found.models[2]);
    }
}
