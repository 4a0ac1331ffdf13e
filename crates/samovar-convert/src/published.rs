//! A published model as it lies on the disk, for engines that compute it as it is: its configuration, and where its tensors are.
//! It reads within the bounds of conversions, and no weights.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use samovar_core::{ErrorKind, Failure, FileRole, ModelFiles, Pooling};
use serde_json::{Map, Value};

use crate::architecture::{Head, Rope, Sides, pooling};
use crate::config::Config;
use crate::error::Fault;
use crate::source::{Folder, Weights};
use crate::tokenizer::template;

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_SETTINGS: &str = "tokenizer_config.json";
const SETTINGS_BYTES: u64 = 16 << 20;
/// Files that belong to a model besides its weights, where they are.
const OTHERS: [(&str, FileRole); 5] = [
    ("config.json", FileRole::Config),
    ("generation_config.json", FileRole::Config),
    (TOKENIZER, FileRole::Tokenizer),
    (TOKENIZER_SETTINGS, FileRole::Tokenizer),
    ("chat_template.jinja", FileRole::Template),
];

/// A published model.
#[derive(Debug)]
pub struct PublishedModel {
    folder: Folder,
    config: Config,
    weights: Weights,
}

/// Where a tensor of a published model lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedTensor<'a> {
    /// The file.
    pub path: PathBuf,
    /// The name of its element type, such as `BF16`.
    pub kind: &'static str,
    /// Sides, the innermost last.
    pub shape: &'a [u64],
    /// Where its data begins in the file.
    pub begin: u64,
}

impl PublishedModel {
    /// The model in a folder.
    ///
    /// # Errors
    /// `Unsupported` for weights that are quantized or pickles; `InvalidModel` for files that lie, are missing or contradict
    /// each other; `Storage` for files that cannot be read.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let folder = Folder::open(folder)?;
        let config = config_of(&folder)?;
        let weights = Weights::read(&folder)?;
        Ok(Self { folder, config, weights })
    }

    /// The model that consists of these files, which lie in one folder. Nothing else is looked for there.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn of_files(files: &ModelFiles) -> Result<Self, Failure> {
        let folder = Folder::open(files.main().parent().unwrap_or_else(|| Path::new(".")))?;
        let config = config_of(&folder)?;
        let mut weights = Weights::default();
        for path in files.weights() {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.filter(|name| folder.path_of(name) == path).ok_or_else(|| {
                let message = format!("{} is not next to the model's other files", path.display());
                Failure::new(ErrorKind::InvalidModel, message).with_param("model")
            })?;
            weights.add(&folder, name, "")?;
        }
        Ok(Self { folder, config, weights })
    }

    /// Its files, with what they are for.
    pub fn files(&self) -> Option<ModelFiles> {
        let weights = self.weights.shards.iter().map(|shard| (FileRole::Weights, shard.file.as_str()));
        let others = OTHERS.into_iter().filter(|(name, _)| self.folder.has(name));
        let others = others.map(|(name, role)| (role, name));
        ModelFiles::new(weights.chain(others).map(|(role, name)| (role, self.folder.path_of(name))))
    }

    /// The class that its author runs it with, such as `LlamaForCausalLM`.
    ///
    /// # Errors
    /// `InvalidModel` where the configuration names none.
    pub fn class(&self) -> Result<&str, Failure> {
        Ok(self.config.class()?)
    }

    /// The sides that all transformers have.
    ///
    /// # Errors
    /// `InvalidModel` for numbers that are missing or out of their range.
    pub fn sides(&self, head: Head) -> Result<Sides, Failure> {
        Ok(Sides::read(&self.config, head)?)
    }

    /// How its positions become rotations.
    ///
    /// # Errors
    /// `Unsupported` for an unknown kind; `InvalidModel` for numbers that cannot be.
    pub fn rope(&self) -> Result<Rope, Failure> {
        Ok(Rope::read(&self.config)?)
    }

    /// A value of the configuration that is there and is not null.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.config.value(key)
    }

    /// A whole number of the configuration, in a range.
    ///
    /// # Errors
    /// `InvalidModel` for anything else under this key.
    pub fn whole(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Failure> {
        Ok(self.config.whole(key, range)?)
    }

    /// A finite number of the configuration.
    ///
    /// # Errors
    /// `InvalidModel` for anything else under this key.
    pub fn number(&self, key: &str) -> Result<Option<f64>, Failure> {
        Ok(self.config.number(key)?)
    }

    /// A truth value of the configuration.
    ///
    /// # Errors
    /// `InvalidModel` for anything else under this key.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Failure> {
        Ok(self.config.flag(key)?)
    }

    /// Where a tensor lies.
    pub fn tensor(&self, name: &str) -> Option<PublishedTensor<'_>> {
        let found = self.weights.tensors.get(name)?;
        let path = self.folder.path_of(&self.weights.shards[found.shard].file);
        Some(PublishedTensor { path, kind: found.kind, shape: &found.shape, begin: found.begin })
    }

    /// Names, element types and counts of numbers of all tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &'static str, u64)> {
        self.weights.tensors.iter().map(|(name, found)| {
            let elements = found.shape.iter().fold(1_u64, |product, side| product.saturating_mul(*side));
            (name.as_str(), found.kind, elements)
        })
    }

    /// Files with weights, and the bytes of all of them.
    pub fn weight_files(&self) -> (usize, u64) {
        (self.weights.shards.len(), self.weights.bytes())
    }

    /// How one vector is made of all tokens', if the folder says it.
    ///
    /// # Errors
    /// `Unsupported` for an unknown way; `InvalidModel` for files that are not sound.
    pub fn pooling(&self) -> Result<Option<Pooling>, Failure> {
        Ok(pooling::read(&self.folder)?)
    }

    /// The template that conversations go through, if the model has one.
    ///
    /// # Errors
    /// `InvalidModel` for files that are not sound, `Unsupported` for a template that is too long.
    pub fn chat_template(&self) -> Result<Option<String>, Failure> {
        let settings = self.tokenizer_settings()?;
        Ok(template::read(&self.folder, settings.as_ref())?)
    }

    /// `tokenizer_config.json`.
    ///
    /// # Errors
    /// `InvalidModel` when it is not sound.
    pub fn tokenizer_settings(&self) -> Result<Option<Map<String, Value>>, Failure> {
        self.json(TOKENIZER_SETTINGS, SETTINGS_BYTES)
    }

    /// A file of JSON in its folder, of so many bytes at most; `None` where there is none of this name.
    ///
    /// # Errors
    /// `InvalidModel` when it is not sound.
    pub fn json(&self, name: &str, limit_bytes: u64) -> Result<Option<Map<String, Value>>, Failure> {
        Ok(self.folder.json(name, limit_bytes)?)
    }

    /// `tokenizer.json`, of so many bytes at most.
    ///
    /// # Errors
    /// `InvalidModel` where there is none, or it is too large.
    pub fn tokenizer(&self, limit_bytes: u64) -> Result<Vec<u8>, Failure> {
        let found = self.folder.bytes(TOKENIZER, limit_bytes)?;
        Ok(found.ok_or_else(|| Fault::Missing { file: TOKENIZER.to_owned() })?)
    }
}

/// The configuration of a model whose weights can be read.
fn config_of(folder: &Folder) -> Result<Config, Fault> {
    let config = Config::read(folder)?;
    match config.quantization() {
        Some(method) => Err(Fault::Quantized { method }),
        None => Ok(config),
    }
}
