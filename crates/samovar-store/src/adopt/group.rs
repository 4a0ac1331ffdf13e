//! Sorts the loose files of one folder into artifacts: one for each quantization that is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use samovar_core::{ArtifactRef, Digest};

use super::FoundFile;
use crate::artifact::manifest::Role;
use crate::artifact::name::FilePath;
use crate::error::Error;
use crate::index::Stamp;
use crate::source::folder::{Entry, Skipped};
use crate::source::select::{self, Choice, Want};

/// A file without a role yet.
#[derive(Clone, Debug)]
pub(super) struct Loose {
    pub(super) entry: Entry,
    /// The SHA-256 that its name claims.
    pub(super) claim: Option<Digest>,
}

/// Files that belong together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) quant: String,
    pub(super) modality: String,
    /// The file that names it, where its quantization would name others too.
    pub(super) named_by: Option<String>,
    pub(super) files: Vec<FoundFile>,
}

/// The artifacts among these files. `whole` names all files that the place they came from has, where that
/// is known: an artifact that lacks some of its own is half a download.
pub(super) fn of(
    folder: &Path,
    loose: Vec<Loose>,
    whole: Option<&BTreeSet<String>>,
    skipped: &mut Vec<Skipped>,
) -> Vec<Group> {
    let files = named(loose, skipped);
    let here: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    let mut groups = Vec::new();
    for quant in quants(&here) {
        let chosen = choose(&here, whole, quant.as_deref());
        match chosen {
            Ok(choice) => groups.push(group(&files, choice, None)),
            Err(reason) => {
                let by_file = by_file(&here, quant.as_deref());
                if by_file.is_empty() {
                    skipped.push(Skipped::new(folder, reason));
                }
                groups.extend(by_file.into_iter().map(|(name, choice)| group(&files, choice, Some(name))));
            }
        }
    }
    groups
}

/// The models of a quantization that several have, each by its file.
fn by_file(here: &[&str], quant: Option<&str>) -> Vec<(String, Named)> {
    let is_meant = |name: &&&str| {
        select::is_first_of_model(name)
            && select::quant_of(name) == quant.unwrap_or_default()
            && format!("hf://organisation/name/{name}").parse::<ArtifactRef>().is_ok()
    };
    let choose = |name: &&str| {
        let want = Want { quant: None, file: Some(name) };
        let choice = select::choose("it", here, &want).ok()?;
        Some(((*name).to_owned(), Named::of(here, choice)))
    };
    here.iter().filter(is_meant).filter_map(choose).collect()
}

/// The files whose names may be names of ours; a name that leads elsewhere is worth a word.
fn named(loose: Vec<Loose>, skipped: &mut Vec<Skipped>) -> Vec<(FilePath, Loose)> {
    let mut files = Vec::new();
    for file in loose {
        match file.entry.name.parse::<FilePath>() {
            Ok(path) => files.push((path, file)),
            Err(error) => skipped.push(Skipped::new(&file.entry.at, error.to_string())),
        }
    }
    files
}

/// The quantizations to ask for, one by one; `None` = what there is, without asking.
fn quants(names: &[&str]) -> Vec<Option<String>> {
    let quants = select::quants(names);
    if quants.is_empty() && names.iter().any(|name| name.ends_with(".safetensors")) {
        return vec![None];
    }
    quants.into_iter().map(|quant| (!quant.is_empty()).then_some(quant)).collect()
}

/// Names and roles of the artifact of a quantization. An error is a clause about the folder.
fn choose(here: &[&str], whole: Option<&BTreeSet<String>>, quant: Option<&str>) -> Result<Named, String> {
    let want = Want { quant, file: None };
    let is_here: BTreeSet<&str> = here.iter().copied().collect();
    if let Some(whole) = whole {
        let all: Vec<&str> = whole.iter().map(String::as_str).collect();
        let choice = select::choose("it", &all, &want).map_err(clause)?;
        let named = Named::of(&all, choice);
        let missing = named.files.iter().filter(|(name, _)| !is_here.contains(name.as_str()));
        let missing: Vec<&str> = missing.map(|(name, _)| name.as_str()).collect();
        if missing.is_empty() {
            return Ok(named);
        }
        // A GGUF is whole without what may lie beside it; safetensors are not.
        if named.files.iter().any(|(name, role)| *role == Role::Weights && select::quants(&[name]).is_empty())
        {
            return Err(format!("is half a download: it lacks {}", missing.join(", ")));
        }
    }
    select::choose("it", here, &want).map(|choice| Named::of(here, choice)).map_err(clause)
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn clause(error: Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}

/// A choice by names instead of places.
struct Named {
    quant: String,
    modality: &'static str,
    files: Vec<(String, Role)>,
}

impl Named {
    fn of(names: &[&str], choice: Choice) -> Self {
        let files = choice.files.into_iter().map(|(place, role)| (names[place].to_owned(), role)).collect();
        Self { quant: choice.quant, modality: choice.modality, files }
    }
}

fn group(files: &[(FilePath, Loose)], named: Named, named_by: Option<String>) -> Group {
    let places: BTreeMap<&str, &(FilePath, Loose)> =
        files.iter().map(|file| (file.0.as_str(), file)).collect();
    let found = named.files.iter().filter_map(|(name, role)| {
        let (path, loose) = places.get(name.as_str())?;
        Some(FoundFile {
            path: path.clone(),
            role: *role,
            at: loose.entry.at.clone(),
            stamp: Stamp::of(&loose.entry.metadata),
            claim: loose.claim,
        })
    });
    Group { quant: named.quant, modality: named.modality.to_owned(), named_by, files: found.collect() }
}
