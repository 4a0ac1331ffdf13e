//! Models in safetensors: their weights, the index of a split one, and the small files beside them.

use std::collections::BTreeMap;

use super::{Choice, PARTS, file_name, folder, has_extension, list, part};
use crate::artifact::manifest::Role;
use crate::error::Error;

/// The stem of a model's weights where nothing else is said.
const USUAL: &str = "model";
/// Small files that are fetched beside the weights, and nothing else is.
const COMPANIONS: [(&str, Role); 22] = [
    ("config.json", Role::Config),
    ("generation_config.json", Role::Config),
    ("preprocessor_config.json", Role::Config),
    // What an adapter (LoRA) is, by PEFT.
    ("adapter_config.json", Role::Config),
    ("tokenizer.json", Role::Tokenizer),
    ("tokenizer_config.json", Role::Tokenizer),
    ("special_tokens_map.json", Role::Tokenizer),
    ("added_tokens.json", Role::Tokenizer),
    ("vocab.json", Role::Tokenizer),
    ("vocab.txt", Role::Tokenizer),
    ("merges.txt", Role::Tokenizer),
    ("tokenizer.model", Role::Tokenizer),
    ("chat_template.jinja", Role::Template),
    ("chat_template.json", Role::Template),
    // How vectors are made of a text, by sentence-transformers.
    ("modules.json", Role::Config),
    ("sentence_bert_config.json", Role::Config),
    ("config_sentence_transformers.json", Role::Config),
    ("1_Pooling/config.json", Role::Config),
    ("2_Dense/config.json", Role::Config),
    ("2_Dense/model.safetensors", Role::Other),
    ("3_Dense/config.json", Role::Config),
    ("3_Dense/model.safetensors", Role::Other),
];

struct Model<'a> {
    folder: &'a str,
    stem: &'a str,
    parts: u32,
    places: BTreeMap<u32, usize>,
}

fn models<'a>(names: &[&'a str]) -> Vec<Model<'a>> {
    let mut models: BTreeMap<(&str, &str, u32), Model<'a>> = BTreeMap::new();
    for (place, &name) in names.iter().enumerate() {
        let Some((stem, number, parts)) = has_extension(name, "safetensors").then(|| split(name)) else {
            continue;
        };
        if parts > PARTS {
            continue;
        }
        let folder = folder(name);
        let new = || Model { folder, stem, parts: parts.max(1), places: BTreeMap::new() };
        models.entry((folder, stem, parts)).or_insert_with(new).places.entry(number).or_insert(place);
    }
    models.into_values().collect()
}

/// Stem, number and how many; none of them = 0.
fn split(name: &str) -> (&str, u32, u32) {
    let stem = file_name(name).rsplit_once('.').map_or(name, |(stem, _)| stem);
    part(stem).unwrap_or((stem, 1, 0))
}

/// The model of a repository without GGUFs.
pub(super) fn choose(subject: &str, names: &[&str], quant: Option<&str>) -> Result<Choice, Error> {
    let mut models = models(names);
    if models.is_empty() {
        return Err(Error::Missing {
            subject: format!("{subject}: a model file"),
            where_: "",
            hint: format!(
                "only .gguf and .safetensors are fetched; there are: {}",
                list(names.iter().copied())
            ),
        });
    }
    if let Some(quant) = quant {
        return Err(Error::Choice {
            message: format!("{subject}: no file has the quantization {quant}; there is safetensors only"),
            hint: format!(
                "leave it out, and convert the model with `--quantize {quant}`; or look for a repository with GGUF files"
            ),
        });
    }
    if models.iter().any(Model::is_usual) {
        models.retain(Model::is_usual);
        let fewest = models.iter().map(|model| model.parts).min().unwrap_or_default();
        models.retain(|model| model.parts == fewest);
    }
    match models.as_slice() {
        [model] => model.choice(subject, names),
        _ => Err(Error::Choice {
            message: format!("{subject}: several models are there"),
            hint: format!(
                "name the file, as hf://organisation/name/FILE; there are: {}",
                list(models.iter().filter_map(|model| Some(names[*model.places.values().next()?])))
            ),
        }),
    }
}

/// Exactly this file, with its other parts and what lies beside it.
pub(super) fn with_parts(subject: &str, names: &[&str], place: usize) -> Result<Choice, Error> {
    let of_place = |model: &&Model<'_>| model.places.values().any(|&other| other == place);
    match models(names).iter().find(of_place) {
        Some(model) => model.choice(subject, names),
        None => Err(Error::Unsupported {
            message: format!("{subject} is one of more than {PARTS} parts"),
            hint: "name another file".to_owned(),
        }),
    }
}

impl Model<'_> {
    fn is_usual(&self) -> bool {
        self.folder.is_empty() && self.stem == USUAL
    }

    fn choice(&self, subject: &str, names: &[&str]) -> Result<Choice, Error> {
        let place = |name: &str| names.iter().position(|other| *other == name);
        let mut files = Vec::new();
        for number in 1..=self.parts {
            let place = self.places.get(&number).ok_or_else(|| Error::Missing {
                subject: format!(
                    "{subject}: part {number} of {} of {}{}",
                    self.parts, self.folder, self.stem
                ),
                where_: "",
                hint: "the publisher must complete it".to_owned(),
            })?;
            files.push((*place, Role::Weights));
        }
        let index = format!("{}{}.safetensors.index.json", self.folder, self.stem);
        match place(&index) {
            Some(index) if self.parts > 1 => files.push((index, Role::Config)),
            None if self.parts > 1 => {
                return Err(Error::Missing {
                    subject: format!("{subject}: {index}, which says what the parts hold,"),
                    where_: "",
                    hint: "the publisher must complete it".to_owned(),
                });
            }
            _ => (),
        }
        for (name, role) in COMPANIONS {
            files.extend(place(&format!("{}{name}", self.folder)).map(|place| (place, role)));
        }
        Ok(Choice { quant: String::new(), modality: "text", files })
    }
}
