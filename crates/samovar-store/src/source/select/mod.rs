//! Which files of a listing make an artifact.
//!
//! ```text
//!   model-Q4_K_M.gguf                    ─┐ same quantization, complete: weights
//!   Q8_0/model-Q8_0-00001-of-00002.gguf   │
//!   mmproj-F16.gguf                       ├─► beside them: projector
//!   model.safetensors tokenizer.json …    │   only where there is no GGUF
//!   pytorch_model.bin convert.py …       ─┘   never
//! ```
//!
//! What is not on the list of names and endings here is never fetched: no pickle, no code, no archive.
//! It looks at names alone.

mod gguf;
mod quant;
mod safetensors;
#[cfg(test)]
mod tests;

use crate::artifact::manifest::Role;
use crate::error::Error;

pub(crate) use gguf::with_name;
pub(crate) use quant::normal as normal_quant;

/// Quantizations in the order in which they are taken when none is named.
pub(crate) const PREFERRED: [&str; 2] = ["Q4_K_M", "Q8_0"];
/// What stands before a usual name in those of Unsloth's own mixtures.
const MIXTURE: &str = "UD-";
/// Parts of one model.
const PARTS: u32 = 1_024;
/// Names that an error lists.
const SHOWN: usize = 24;

/// What of a model is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Want<'a> {
    /// A quantization, in any case.
    pub(crate) quant: Option<&'a str>,
    /// One file, with the other parts if it is split.
    pub(crate) file: Option<&'a str>,
}

/// The files of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The quantization in its usual spelling; empty where the names do not say.
    pub(crate) quant: String,
    /// `text`, or `vision` when there is a projector.
    pub(crate) modality: &'static str,
    /// Places in the listing with their roles; weights first, in the order of their parts.
    pub(crate) files: Vec<(usize, Role)>,
}

/// Chooses among names. `subject` is what was asked for, in words for an error.
///
/// # Errors
/// When nothing fits, when several do, and when parts of what fits are missing.
pub(crate) fn choose(subject: &str, names: &[&str], want: &Want<'_>) -> Result<Choice, Error> {
    if let Some(file) = want.file {
        return one_file(subject, names, file);
    }
    let models = gguf::models(names);
    if !models.is_empty() {
        return gguf::choose(subject, names, &models, want.quant);
    }
    safetensors::choose(subject, names, want.quant)
}

/// A choice that a user has among the files of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedChoice {
    /// The files.
    pub(crate) choice: Choice,
    /// The file that names it, where its quantization alone would name others or none.
    pub(crate) file: Option<String>,
}

/// All that a user may choose among these names. What is incomplete is left out, and so is what could not be told apart.
pub(crate) fn variants(names: &[&str]) -> Vec<NamedChoice> {
    let models = gguf::models(names);
    if !models.is_empty() {
        return gguf::variants(names, &models);
    }
    let published = safetensors::choose("", names, None).ok();
    published.into_iter().map(|choice| NamedChoice { choice, file: None }).collect()
}

/// What the files of one model in several quantizations have in common: the name of one without folder, part and quantization,
/// in lower case.
pub(crate) fn family_of(name: &str) -> String {
    let stem = file_name(name).rsplit_once('.').map_or(name, |(stem, _)| stem);
    quant::rest_of_stem(part(stem).map_or(stem, |(stem, _, _)| stem))
}

/// The quantizations of the GGUF models among these names, each once; one whose name does not say is empty.
pub(crate) fn quants(names: &[&str]) -> Vec<String> {
    let mut quants = gguf::quants(names);
    quants.sort_unstable();
    quants.dedup();
    quants
}

/// The quantization that a file's name says; empty where it does not.
pub(crate) fn quant_of(name: &str) -> String {
    quants(&[name]).pop().unwrap_or_default()
}

/// All parts of the model that this file is one of, by its name, in their order.
pub(crate) fn parts_of(name: &str) -> Vec<String> {
    let numbered = name.rsplit_once('.').and_then(|(stem, end)| Some((part(stem)?, end)));
    match numbered {
        Some(((stem, _, total), end)) if total <= PARTS => {
            (1..=total).map(|number| format!("{stem}-{number:05}-of-{total:05}.{end}")).collect()
        }
        _ => vec![name.to_owned()],
    }
}

/// Whether this file is a GGUF model, or the first part of one: what a user would name.
pub(crate) fn is_first_of_model(name: &str) -> bool {
    !gguf::quants(&[name]).is_empty() && parts_of(name).first().is_some_and(|first| first == name)
}

/// Which of these quantizations is taken when none is named: the preferred ones, else the only one.
pub(crate) fn preferred<'a>(quants: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut quants: Vec<_> = quants.into_iter().collect();
    quants.sort_unstable();
    quants.dedup();
    let is_there = |wanted: &&str| quants.binary_search(wanted).is_ok();
    PREFERRED.into_iter().find(is_there).or(match quants.as_slice() {
        [only] => Some(only),
        _ => None,
    })
}

fn one_file(subject: &str, names: &[&str], file: &str) -> Result<Choice, Error> {
    let missing = || {
        let there = names.iter().copied().filter(|name| is_weights(name));
        Error::Missing {
            subject: subject.to_owned(),
            where_: "",
            hint: format!("there are: {}", list(there)),
        }
    };
    let place = names.iter().position(|name| *name == file).ok_or_else(missing)?;
    if has_extension(file, "gguf") {
        gguf::with_parts(subject, names, place)
    } else if has_extension(file, "safetensors") {
        safetensors::with_parts(subject, names, place)
    } else {
        Err(Error::Unsupported {
            message: format!("{subject} is no model file"),
            hint: "model files end in .gguf or .safetensors".to_owned(),
        })
    }
}

fn is_weights(name: &str) -> bool {
    has_extension(name, "gguf") || has_extension(name, "safetensors")
}

fn has_extension(name: &str, extension: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, end)| {
        !stem.is_empty() && !stem.ends_with('/') && end.eq_ignore_ascii_case(extension)
    })
}

/// The folder of a name, with its `/`; empty at the top.
fn folder(name: &str) -> &str {
    name.rfind('/').map_or("", |end| &name[..=end])
}

fn file_name(name: &str) -> &str {
    &name[folder(name).len()..]
}

/// A stem and which of how many parts it is: `model-00002-of-00003`.
fn part(stem: &str) -> Option<(&str, u32, u32)> {
    let (rest, total) = stem.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| {
        let is_number = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten()
    };
    let (number, total) = (digits(number)?, digits(total)?);
    (1 <= number && number <= total).then_some((stem, number, total))
}

/// Names for an error, so many that it stays readable.
fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (_, 0) => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}
