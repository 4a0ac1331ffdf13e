//! Any folder with GGUF files in it: each model is reachable by its path, as `file:///…` names it.

use std::path::Path;

use samovar_core::ArtifactRef;

use super::{Found, FoundFile};
use crate::index::Stamp;
use crate::source::folder::{Bounds, Chosen, Skipped, chosen};
use crate::source::select;

/// All models in the folder.
pub(super) fn scan(bounds: &Bounds, skipped: &mut Vec<Skipped>) -> Vec<Found> {
    let mut found = Vec::new();
    for entry in bounds.files(bounds.root(), skipped) {
        if !select::is_first_of_model(&entry.name) {
            continue;
        }
        let path = bounds.root().join(&entry.name);
        match artifact(&path) {
            Ok(artifact) => found.push(artifact),
            Err(reason) => skipped.push(Skipped::new(&path, reason)),
        }
    }
    found
}

fn artifact(path: &Path) -> Result<Found, String> {
    let reference = reference(path)?;
    let chosen = chosen(&reference, path).map_err(|error| error.to_string())?;
    let key = chosen.key(path).map_err(|error| error.to_string())?;
    Ok(Found {
        key,
        revision: None,
        reference,
        also: Vec::new(),
        folder: path.to_owned(),
        bounds: None,
        files: files(chosen),
    })
}

/// The reference that means this path.
pub(super) fn reference(path: &Path) -> Result<String, String> {
    let text = path.to_str().ok_or("its name is no text")?;
    let reference: ArtifactRef = samovar_core::model::reference::RemoteRef::of_path(text)
        .map(ArtifactRef::Remote)
        .map_err(|error| error.to_string())?;
    Ok(reference.to_string())
}

/// The files of a choice, as they were found.
pub(super) fn files(chosen: Chosen) -> Vec<FoundFile> {
    let files = chosen.files.into_iter();
    files
        .map(|file| FoundFile {
            path: file.path,
            role: file.role,
            stamp: Stamp::of(&file.entry.metadata),
            at: file.entry.at,
            claim: None,
        })
        .collect()
}
