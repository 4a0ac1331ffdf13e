//! All tensors of a published model, over all its shards. Weights themselves are not read here, and pickles nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use samovar_core::format::gguf::limits;
use serde_json::{Map, Value};

use super::folder::{Folder, is_plain};
use super::header;
use crate::adapter::WEIGHTS_FILE;
use crate::error::Fault;

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
const ENDING: &str = ".safetensors";
const INDEX_BYTES: u64 = 16 << 20;
/// Files that a model may be split into.
const SHARDS: usize = 4096;

/// A file of weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// Its name in the folder.
    pub(crate) file: String,
    pub(crate) bytes: u64,
    /// When it was written to last, where the system says so.
    pub(crate) changed: Option<SystemTime>,
}

/// A tensor of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// Which shard.
    pub(crate) shard: usize,
    /// The name of its element type.
    pub(crate) kind: &'static str,
    pub(crate) shape: Vec<u64>,
    /// Where its data begins in the shard.
    pub(crate) begin: u64,
}

/// The weights of a model, by the names of their tensors.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    pub(crate) shards: Vec<Shard>,
    pub(crate) tensors: BTreeMap<String, Published>,
}

impl Weights {
    /// Those of the model in `folder`.
    pub(crate) fn read(folder: &Folder) -> Result<Self, Fault> {
        let mut weights = Self::default();
        let Some(index) = folder.json::<Map<String, Value>>(INDEX, INDEX_BYTES)? else {
            for file in unindexed(folder)? {
                weights.add(folder, &file, "")?;
            }
            return Ok(weights);
        };
        let places = places(&index)?;
        let files: BTreeSet<&str> = places.values().copied().collect();
        if files.len() > SHARDS {
            return Err(Fault::unsound(INDEX, format!("it names more than {SHARDS} files")));
        }
        for file in files {
            weights.add(folder, file, "")?;
        }
        weights.compare(&places)?;
        Ok(weights)
    }

    /// Adds the tensors of a file, with `prefix` before each name. The old words of layer norms become today's.
    pub(crate) fn add(&mut self, folder: &Folder, file: &str, prefix: &str) -> Result<(), Fault> {
        let missing = || Fault::Missing { file: file.to_owned() };
        let (opened, bytes) = folder.file(file)?.ok_or_else(missing)?;
        let facts = opened.metadata().map_err(|source| Fault::Read { path: folder.path_of(file), source })?;
        let shard = self.shards.len();
        for (name, stored) in header::read(opened, bytes, file)? {
            let name = format!("{prefix}{}", today(&name));
            let header::Stored { kind, shape, begin } = stored;
            if self.tensors.insert(name.clone(), Published { shard, kind, shape, begin }).is_some() {
                return Err(Fault::unsound(file, format!("the tensor {name:?} stands in two places")));
            }
        }
        if self.tensors.len() as u64 > limits::TENSORS {
            let what = format!("the model has more than {} tensors", limits::TENSORS);
            return Err(Fault::unsound(file, what));
        }
        self.shards.push(Shard { file: file.to_owned(), bytes, changed: facts.modified().ok() });
        Ok(())
    }

    /// Bytes of all files of weights.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// Compares what the index says of each tensor with where it is.
    fn compare(&self, places: &BTreeMap<String, &str>) -> Result<(), Fault> {
        for (name, file) in places {
            let Some(published) = self.tensors.get(name) else {
                let what = format!("{file} has no tensor {name:?}, which the index places there");
                return Err(Fault::unsound(INDEX, what));
            };
            let found = &self.shards[published.shard].file;
            if found != file {
                let what =
                    format!("the tensor {name:?} should be in {file} and is in {found}: files are swapped");
                return Err(Fault::unsound(INDEX, what));
            }
        }
        match self.tensors.iter().find(|(name, _)| !places.contains_key(*name)) {
            None => Ok(()),
            Some((name, published)) => {
                let file = &self.shards[published.shard].file;
                Err(Fault::unsound(
                    INDEX,
                    format!("{file} has the tensor {name:?}, which the index does not know"),
                ))
            }
        }
    }
}

/// The file of each tensor, as the index says.
fn places(index: &Map<String, Value>) -> Result<BTreeMap<String, &str>, Fault> {
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Fault::unsound(INDEX, "it has no weight_map"))?;
    if map.is_empty() {
        return Err(Fault::unsound(INDEX, "its weight_map is empty"));
    }
    let mut places = BTreeMap::new();
    for (name, file) in map {
        let file = file.as_str().unwrap_or_default();
        if is_pickle(file) {
            return Err(Fault::Pickle { file: file.to_owned() });
        }
        if !is_plain(file) || !file.ends_with(ENDING) {
            let what = format!("{file:?} is no name of a safetensors file in this folder");
            return Err(Fault::unsound(INDEX, what));
        }
        places.insert(today(name), file);
    }
    Ok(places)
}

/// The files of weights of a folder without an index.
fn unindexed(folder: &Folder) -> Result<Vec<String>, Fault> {
    if folder.has(SINGLE) {
        return Ok(vec![SINGLE.to_owned()]);
    }
    let names = folder.names()?;
    let shards: Vec<String> =
        names.iter().filter(|name| name.starts_with("model-") && name.ends_with(ENDING)).cloned().collect();
    if !shards.is_empty() {
        check_count(&shards)?;
        return Ok(shards);
    }
    Err(none(&names))
}

/// That shards such as `model-00001-of-00003.safetensors` are all there.
fn check_count(shards: &[String]) -> Result<(), Fault> {
    for (place, shard) in shards.iter().enumerate() {
        let numbers = shard.strip_prefix("model-").and_then(|rest| rest.strip_suffix(ENDING));
        let numbers = numbers.and_then(|numbers| numbers.split_once("-of-"));
        let numbers = numbers.and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        let Some((number, count)): Option<(usize, usize)> = numbers else {
            return Err(Fault::unsound(shard, "its name does not say which part of the model it is"));
        };
        if number != place + 1 || count != shards.len() || count > SHARDS {
            let file = format!("file {} of {count}", place + 1);
            return Err(Fault::Missing { file });
        }
    }
    Ok(())
}

/// What a folder without safetensors has instead.
fn none(names: &[String]) -> Fault {
    let found = |is: &dyn Fn(&str) -> bool| names.iter().find(|name| is(name)).cloned();
    if let Some(file) = found(&|name| name == WEIGHTS_FILE) {
        return Fault::IsAdapter { file };
    }
    if let Some(file) = found(&|name| name.starts_with("consolidated") && name.ends_with(ENDING)) {
        return Fault::Unsupported { what: format!("Mistral's own format ({file})") };
    }
    if let Some(file) = found(&is_pickle) {
        return Fault::Pickle { file };
    }
    Fault::Missing { file: SINGLE.to_owned() }
}

fn is_pickle(name: &str) -> bool {
    [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"].iter().any(|ending| name.ends_with(ending))
}

/// The name of a tensor in today's words.
fn today(name: &str) -> String {
    for (old, new) in [(".gamma", ".weight"), (".beta", ".bias")] {
        if let Some(stem) = name.strip_suffix(old) {
            return format!("{stem}{new}");
        }
    }
    name.to_owned()
}
