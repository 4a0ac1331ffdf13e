//! A model as another program has it, on its way to `[models.NAME]`; and what cannot be taken over, each with its reason.

use std::path::{Path, PathBuf};

use samovar::store::AdoptRoot;
use samovar_core::ModelRef;
use serde::Serialize;

use crate::settings::file;
use crate::settings::model_keys::{self, SOURCE};
use crate::settings::value::Raw;

/// Something that has no equal here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Remark {
    /// The model or the part of the file that it belongs to.
    pub(crate) of: String,
    /// What it is, as the other program writes it.
    pub(crate) what: String,
    /// Why it is not taken over, as a clause.
    pub(crate) why: String,
}

impl Remark {
    pub(crate) fn new(of: &str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { of: of.to_owned(), what: what.into(), why: why.into() }
    }
}

/// The settings of a model that is being read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ModelEntry {
    /// The name that clients of the other program use.
    pub(crate) name: String,
    /// Its settings, `source` among them once it is known.
    pub(crate) settings: Vec<(&'static str, Raw)>,
    /// What has no equal here.
    pub(crate) remarks: Vec<Remark>,
    /// Files of the other program that must be adopted, or the entry would lead nowhere.
    pub(crate) files: Vec<PathBuf>,
    /// A chat template that must lie in a file of its own.
    pub(crate) template: Option<String>,
}

impl ModelEntry {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Sets a key of `[models.NAME]`; `what` is how the other program calls it. A value that the key cannot have becomes a remark.
    pub(crate) fn set(&mut self, key: &'static str, what: &str, value: Raw) {
        let known = model_keys::find_of_name(key).expect("invariant: only keys of the table are set");
        // Paths are absolute already.
        match known.shape.read(&value, Path::new("/")) {
            Ok(_) => {
                self.settings.retain(|(other, _)| *other != key);
                self.settings.push((key, value));
            }
            Err(reason) => self.cannot(what, reason),
        }
    }

    /// Sets the number format of the KV cache by those of its keys and of its values; `whats` is how the other program calls them.
    pub(crate) fn set_kv_type(&mut self, whats: [&str; 2], types: [Option<String>; 2]) {
        if types.iter().all(Option::is_none) {
            return;
        }
        let [keys, values] = types.map(|kind| kind.unwrap_or_else(|| "f16".to_owned()));
        let [of_keys, of_values] = whats;
        if keys == values {
            self.set("kv_type", of_keys, Raw::Text(keys));
        } else {
            let what = format!("{of_keys} {keys} {of_values} {values}");
            self.cannot(what, "keys and values have one type here: set kv_type");
        }
    }

    /// Notes what has no equal here.
    pub(crate) fn cannot(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.remarks.push(Remark::new(&self.name, what, why));
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Raw> {
        self.settings.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Where its bytes come from.
    pub(crate) fn source(&self) -> Option<&str> {
        match self.get(SOURCE.path) {
            Some(Raw::Text(source)) => Some(source),
            _ => None,
        }
    }

    /// Takes a file of this machine as its source.
    ///
    /// # Errors
    /// A clause about the path.
    pub(crate) fn set_file(&mut self, path: &Path) -> Result<(), String> {
        let facts = fs_err::metadata(path);
        if !facts.is_ok_and(|facts| facts.is_file()) {
            return Err(format!("there is no file {}", path.display()));
        }
        let text = path.to_str().ok_or("its path is no text")?;
        match text.parse() {
            Ok(ModelRef::File(_)) => {
                self.set(SOURCE.path, "path", Raw::Text(text.to_owned()));
                Ok(())
            }
            _ => Err(format!("{text:?} cannot be written as a path here")),
        }
    }

    /// Takes what a store can fetch as its source.
    ///
    /// # Errors
    /// A clause about the reference.
    pub(crate) fn set_reference(&mut self, reference: &str) -> Result<(), String> {
        match reference.parse() {
            Ok(ModelRef::Hub(_) | ModelRef::Remote(_)) => {
                self.set(SOURCE.path, "source", Raw::Text(reference.to_owned()));
                Ok(())
            }
            Ok(_) => Err(format!("{reference:?} is nothing that can be fetched")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Why no request can use its name, if none can.
    pub(crate) fn unusable_name(&self) -> Option<String> {
        let is_usable = file::is_name(&self.name);
        (!is_usable).then(|| {
            "a name here has letters, digits, . _ - : and at most one /, and does not end in .gguf".to_owned()
        })
    }
}

/// Everything that was found of another program.
#[derive(Clone, Debug, Default)]
pub(crate) struct FoundModels {
    /// Where it was looked.
    pub(crate) from: PathBuf,
    /// Its models.
    pub(crate) models: Vec<ModelEntry>,
    /// Models that it loads when it starts.
    pub(crate) preload: Vec<String>,
    /// Folders whose files are adopted.
    pub(crate) roots: Vec<AdoptRoot>,
    /// Files that the store need not say anything of when it passes them over: what becomes of them is known already.
    pub(crate) told: Vec<PathBuf>,
    /// What belongs to no model and has no equal here.
    pub(crate) remarks: Vec<Remark>,
}

impl FoundModels {
    /// Adds a model, or says why it cannot be one here.
    pub(crate) fn add(&mut self, mut entry: ModelEntry) {
        if let Some(why) = entry.unusable_name() {
            self.remarks.push(Remark::new(&entry.name, "its name", why));
        } else if entry.source().is_none() {
            self.remarks.append(&mut entry.remarks);
        } else if self.models.iter().any(|known| known.name == entry.name) {
            self.remarks.push(Remark::new(&entry.name, "its name", "another model has it as well"));
        } else {
            self.models.push(entry);
        }
    }

    /// Adds what has no equal here.
    pub(crate) fn cannot(&mut self, of: &str, what: impl Into<String>, why: impl Into<String>) {
        self.remarks.push(Remark::new(of, what, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_a_key_cannot_have_is_a_remark() {
        let mut entry = ModelEntry::new("m");
        entry.set("temperature", "--temp", Raw::Float(9.0));
        entry.set("slots", "-np", Raw::Integer(2));
        entry.set("slots", "-np", Raw::Integer(4));
        assert_eq!(entry.settings, [("slots", Raw::Integer(4))]);
        assert_eq!(entry.remarks, [Remark::new("m", "--temp", "9 is not a number from 0 to 2")]);
    }

    #[test]
    fn a_source_is_a_file_that_is_there_or_can_be_fetched() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.gguf");
        let mut entry = ModelEntry::new("m");
        assert!(entry.set_file(&path).expect_err("absent").contains("there is no file"));
        fs_err::write(&path, "GGUF").expect("written");
        entry.set_file(&path).expect("a file");
        assert_eq!(entry.source(), path.to_str());
        entry.set_reference("hf://org/name:Q8_0").expect("a reference");
        assert_eq!(entry.source(), Some("hf://org/name:Q8_0"));
        for wrong in ["demo", "./x.gguf", "ftp://x/y", "hf://x"] {
            assert!(entry.set_reference(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn models_without_a_usable_name_or_a_source_are_remarks() {
        let mut found = FoundModels::default();
        let named = |name: &str| {
            let mut entry = ModelEntry::new(name);
            entry.set_reference("hf://org/name").expect("a reference");
            entry
        };
        let mut lost = ModelEntry::new("lost");
        lost.cannot("-m", "there is no file /x");
        for entry in [named("a"), named("a"), named("a b"), named("org/name"), lost] {
            found.add(entry);
        }
        let names: Vec<&str> = found.models.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a", "org/name"]);
        let of: Vec<&str> = found.remarks.iter().map(|remark| remark.of.as_str()).collect();
        assert_eq!(of, ["a", "a b", "lost"]);
    }
}
