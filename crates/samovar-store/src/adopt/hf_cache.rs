//! The cache of the hub's own Python package, in both ways that it was ever laid out.
//!
//! ```text
//!   models--org--name/refs/main                       text: a commit
//!   models--org--name/snapshots/<commit>/x.gguf    ─► ../../blobs/<etag>
//!   models--org--name/blobs/<etag>                    the bytes, or (since 2.x, shared by repositories)
//!                                                  ─► ../../blobs/<ab>/<xet hash>
//!   models--org--name/trees/<commit>.json             since 2.x: what the whole commit holds
//! ```
//!
//! An etag of 64 digits is the file's SHA-256, one of 40 is git's name for it; a xet hash is neither.
//! Where links cannot be made, the snapshot holds the files themselves. Nothing of this is believed: an
//! etag is a claim until the bytes were hashed. Never writes to the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use samovar_core::Digest;
use serde::Deserialize;

use super::Found;
use super::group::{self, Group, Loose};
use crate::artifact::key::ArtifactKey;
use crate::artifact::name::{Commit, ModelId};
use crate::source::folder::{Bounds, Skipped, names};

/// Bytes of a file that names a commit.
const REF_BYTES: u64 = 1 << 10;
/// Bytes of a commit's listing.
const TREE_BYTES: u64 = 16 << 20;
const REPOSITORY: &str = "models--";
const DEFAULT_BRANCH: &str = "main";

/// All artifacts in the cache.
pub(super) fn scan(bounds: &Bounds, skipped: &mut Vec<Skipped>) -> Vec<Found> {
    let mut found = Vec::new();
    for (name, folder) in names(bounds.root(), skipped) {
        // Datasets and spaces are no models, and the other entries are the cache's own.
        let Some(repository) = name.strip_prefix(REPOSITORY) else { continue };
        match model_of(repository) {
            Some(model) => found.extend(repository_at(bounds, &model, &folder, skipped)),
            None => skipped.push(Skipped::new(&folder, "its name is not models--organisation--name")),
        }
    }
    found
}

/// The artifacts of one model of the hub.
pub(super) fn scan_model(bounds: &Bounds, model: &ModelId, skipped: &mut Vec<Skipped>) -> Vec<Found> {
    let name = format!("{REPOSITORY}{}", model.as_str().replace('/', "--"));
    let folder = bounds.root().join(name);
    if !folder.is_dir() || model_of(&model.as_str().replace('/', "--")).as_ref() != Some(model) {
        return Vec::new();
    }
    repository_at(bounds, model, &folder, skipped)
}

/// What a repository has, also where it was moved to another disk and left a link: its files then lie below the place
/// that the link leads to.
fn repository_at(bounds: &Bounds, model: &ModelId, folder: &Path, skipped: &mut Vec<Skipped>) -> Vec<Found> {
    if !folder.is_symlink() {
        return repository_artifacts(bounds, model, folder, skipped);
    }
    match Bounds::behind(folder) {
        Ok(behind) => {
            let mut found = repository_artifacts(&behind, model, behind.root(), skipped);
            for artifact in &mut found {
                artifact.bounds = Some(behind.clone());
            }
            found
        }
        Err(reason) => {
            skipped.push(Skipped::new(folder, reason));
            Vec::new()
        }
    }
}

/// Whether a folder looks like such a cache.
pub(super) fn is_one(root: &Path) -> bool {
    let Ok(entries) = fs_err::read_dir(root) else { return false };
    entries.flatten().any(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(REPOSITORY))
            && entry.path().join("snapshots").is_dir()
    })
}

fn model_of(repository: &str) -> Option<ModelId> {
    // The hub has no name with `--` in it.
    let (org, name) = repository.split_once("--").filter(|(_, name)| !name.contains("--"))?;
    // What a user can write is what the reference's grammar lets through.
    let reference = format!("hf://{org}/{name}");
    let is_sound = reference.parse::<samovar_core::ArtifactRef>().is_ok_and(|it| it.to_string() == reference);
    if is_sound { format!("{org}/{name}").parse().ok() } else { None }
}

fn repository_artifacts(
    bounds: &Bounds,
    model: &ModelId,
    folder: &Path,
    skipped: &mut Vec<Skipped>,
) -> Vec<Found> {
    let snapshots = folder.join("snapshots");
    if !snapshots.is_dir() {
        // A download that did not get that far.
        return Vec::new();
    }
    let revisions = revisions(bounds, &folder.join("refs"), skipped);
    let mut found = Vec::new();
    for (name, snapshot) in names(&snapshots, skipped) {
        let Ok(commit) = name.parse::<Commit>() else {
            skipped.push(Skipped::new(&snapshot, "its name is no commit"));
            continue;
        };
        let tree = tree(bounds, folder, &commit, skipped);
        let files = loose_files(bounds, &snapshot, tree.as_ref(), skipped);
        let whole = tree.map(|tree| tree.files.into_keys().collect::<BTreeSet<_>>());
        let revisions = revisions.get(&commit).map_or(&[][..], Vec::as_slice);
        let groups = group::of(&snapshot, files, whole.as_ref(), skipped);
        found.extend(groups.into_iter().map(|group| artifact(model, &commit, revisions, &snapshot, group)));
    }
    found
}

/// What the store shall call a group of files: by the branch that leads to its commit, else by the commit.
fn artifact(model: &ModelId, commit: &Commit, revisions: &[String], folder: &Path, group: Group) -> Found {
    let text = |at: &str| match (&group.named_by, group.quant.as_str()) {
        (Some(file), _) => format!("hf://{model}{at}/{file}"),
        (None, "") => format!("hf://{model}{at}"),
        (None, quant) => format!("hf://{model}{at}:{quant}"),
    };
    let mut references: Vec<String> = revisions
        .iter()
        .map(|name| if name == DEFAULT_BRANCH { text("") } else { text(&format!("@{name}")) })
        .collect();
    references.push(text(&format!("@{commit}")));
    let reference = references.remove(0);
    Found {
        key: ArtifactKey {
            source: "hub".parse().expect("invariant: a plain word is a source"),
            model: match &group.named_by {
                // As the hub's source files it.
                Some(file) => format!("{model}/{file}").parse().unwrap_or_else(|_| model.clone()),
                None => model.clone(),
            },
            commit: commit.clone(),
            quant: group.quant,
            modality: group.modality,
        },
        revision: revisions.first().cloned(),
        reference,
        also: references,
        folder: folder.to_owned(),
        bounds: None,
        files: group.files,
    }
}

/// The names that lead to each commit; the default branch first.
fn revisions(bounds: &Bounds, refs: &Path, skipped: &mut Vec<Skipped>) -> BTreeMap<Commit, Vec<String>> {
    let mut revisions: BTreeMap<Commit, Vec<String>> = BTreeMap::new();
    if !refs.is_dir() {
        return revisions;
    }
    for entry in bounds.files(refs, skipped) {
        let commit = bounds.text(&entry.at, REF_BYTES).map(|text| text.trim().parse::<Commit>());
        match commit {
            Ok(Ok(commit)) => revisions.entry(commit).or_default().push(entry.name),
            Ok(Err(error)) => skipped.push(Skipped::new(&entry.at, error.to_string())),
            Err(reason) => skipped.push(Skipped::new(&entry.at, reason)),
        }
    }
    for names in revisions.values_mut() {
        names.sort_by_key(|name| (name != DEFAULT_BRANCH, name.clone()));
    }
    revisions
}

/// What the package wrote down of a commit's files.
#[derive(Deserialize)]
struct Tree {
    files: BTreeMap<String, Listed>,
}

#[derive(Deserialize)]
struct Listed {
    lfs_sha256: Option<Digest>,
}

fn tree(bounds: &Bounds, folder: &Path, commit: &Commit, skipped: &mut Vec<Skipped>) -> Option<Tree> {
    let path = folder.join("trees").join(format!("{commit}.json"));
    if !path.exists() {
        return None;
    }
    let text = bounds.text(&path, TREE_BYTES);
    match text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string())) {
        Ok(tree) => Some(tree),
        Err(reason) => {
            skipped.push(Skipped::new(&path, reason));
            None
        }
    }
}

fn loose_files(
    bounds: &Bounds,
    snapshot: &Path,
    tree: Option<&Tree>,
    skipped: &mut Vec<Skipped>,
) -> Vec<Loose> {
    let files = bounds.files(snapshot, skipped).into_iter();
    files
        .map(|entry| {
            let listed = tree.and_then(|tree| tree.files.get(&entry.name)).and_then(|file| file.lfs_sha256);
            let claim = listed.or_else(|| etag(&snapshot.join(&entry.name)));
            Loose { entry, claim }
        })
        .collect()
}

/// The SHA-256 that the name of the linked blob claims.
fn etag(link: &Path) -> Option<Digest> {
    let target = fs_err::read_link(link).ok()?;
    target.file_name()?.to_str().filter(|name| name.len() == 64)?.parse().ok()
}
