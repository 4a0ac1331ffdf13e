//! LM Studio's folder of models: `<publisher>/<repository>/<file>.gguf`.
//!
//! The folder keeps the hub's names and forgets the commit. So what is found there is reachable by the
//! hub's reference, but filed as LM Studio's: it is unknown whether it is what the hub has now. A `pull`
//! asks the hub, and finds the bytes here if they are still the same.

use std::path::Path;

use samovar_core::{ArtifactRef, Digest};

use super::group::{self, Group, Loose};
use super::{Found, FoundFile, folder};
use crate::artifact::key::ArtifactKey;
use crate::artifact::name::{Commit, ModelId};
use crate::source::commit_of;
use crate::source::folder::{Bounds, Skipped, names};
use crate::source::select;

/// All artifacts in the folder.
pub(super) fn scan(bounds: &Bounds, skipped: &mut Vec<Skipped>) -> Vec<Found> {
    let mut found = Vec::new();
    for (publisher, folder) in folders(bounds.root(), skipped) {
        for (repository, folder) in folders(&folder, skipped) {
            match model_of(&publisher, &repository) {
                Some(model) => found.extend(artifacts(bounds, &model, &folder, skipped)),
                None => skipped.push(Skipped::new(&folder, "its name is not organisation/name")),
            }
        }
    }
    found
}

/// Whether a folder lies where LM Studio keeps its own; by what lies in it, it is like any other.
pub(super) fn is_one(root: &Path) -> bool {
    let of_lm_studio = [".lmstudio", "lm-studio"];
    root.components().any(|part| part.as_os_str().to_str().is_some_and(|name| of_lm_studio.contains(&name)))
}

/// The folders in a folder, without hidden ones and links.
fn folders(folder: &Path, skipped: &mut Vec<Skipped>) -> Vec<(String, std::path::PathBuf)> {
    let is_folder = |path: &Path| fs_err::symlink_metadata(path).is_ok_and(|facts| facts.is_dir());
    let mut folders = names(folder, skipped);
    folders.retain(|(name, path)| !name.starts_with('.') && is_folder(path));
    folders
}

fn model_of(publisher: &str, repository: &str) -> Option<ModelId> {
    let reference = format!("hf://{publisher}/{repository}");
    let is_sound = reference.parse::<ArtifactRef>().is_ok_and(|it| it.to_string() == reference);
    if is_sound { format!("{publisher}/{repository}").parse().ok() } else { None }
}

fn artifacts(bounds: &Bounds, model: &ModelId, folder: &Path, skipped: &mut Vec<Skipped>) -> Vec<Found> {
    let files = bounds.files(folder, skipped).into_iter();
    let files = files.filter(|entry| entry.name.to_ascii_lowercase().ends_with(".gguf"));
    let files = files.map(|entry| Loose { entry, claim: None }).collect();
    let groups = group::of(folder, files, None, skipped);
    let preferred = select::preferred(groups.iter().map(|group| group.quant.as_str())).map(str::to_owned);
    let is_preferred = |group: &Group| preferred.as_ref() == Some(&group.quant);
    groups.into_iter().map(|group| artifact(model, folder, is_preferred(&group), group)).collect()
}

/// What the store shall call a group of files; the preferred one by the model's name alone, too.
fn artifact(model: &ModelId, path: &Path, is_preferred: bool, group: Group) -> Found {
    let reference = match (&group.named_by, group.quant.as_str()) {
        (Some(file), _) => format!("hf://{model}/{file}"),
        (None, "") => format!("hf://{model}"),
        (None, quant) => format!("hf://{model}:{quant}"),
    };
    let alone = (is_preferred && group.named_by.is_none()).then(|| format!("hf://{model}"));
    let first = group.files.first().and_then(|file| folder::reference(&path.join(file.path.as_str())).ok());
    Found {
        key: ArtifactKey {
            source: "lm-studio".parse().expect("invariant: a plain word is a source"),
            model: model.clone(),
            commit: commit(&group),
            quant: group.quant,
            modality: group.modality,
        },
        revision: None,
        reference,
        also: alone.into_iter().chain(first).collect(),
        folder: path.to_owned(),
        bounds: None,
        files: group.files,
    }
}

/// What fixes the content, as far as the file system tells without reading it.
fn commit(group: &Group) -> Commit {
    let line = |file: &FoundFile| format!("{} {} {}\n", file.path, file.stamp.size, file.stamp.mtime_ns);
    let lines: String = group.files.iter().map(line).collect();
    commit_of(Digest::of_bytes(format!("samovar lm-studio 1\n{lines}").as_bytes()))
}
