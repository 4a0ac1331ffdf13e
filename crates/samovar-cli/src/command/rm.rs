//! `samovar rm`: removes models from the disk. A model in use stays, and is named. Of a folder of the user it removes what was
//! prepared of it, and nothing in the folder.

use std::path::PathBuf;

use samovar::store::{Artifact, Removed};
use samovar::{Builder, Origin, Runtime};
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure, ModelRef};
use serde_json::json;

use super::{Context, stored};
use crate::args::Rm;
use crate::client::{Figures, ModelFigures};
use crate::ended::Ended;

pub(super) async fn execute(context: &Context, arguments: Rm) -> Result<(), Ended> {
    let store = context.store().await?;
    let here = Builder::settings(context.settings.runtime.clone()).build()?;
    let created: Vec<String> = here.created().await.into_iter().map(|model| model.name).collect();
    // All names are read before anything goes.
    let mut doomed: Vec<(String, Artifact)> = Vec::new();
    let mut names: Vec<&String> = created.iter().filter(|_| arguments.all).collect();
    // `None` stands for all folders of which something was prepared.
    let mut folders: Vec<(&str, Option<PathBuf>)> = Vec::new();
    for name in &arguments.models {
        if created.contains(name) {
            names.push(name);
            continue;
        }
        if let Some(folder) = prepared_folder(context, &here, name).await? {
            folders.push((name.as_str(), Some(folder)));
            continue;
        }
        let artifact = stored::one(&store, name, &context.settings).await?;
        if doomed.iter().all(|(_, other)| other.key_digest != artifact.key_digest) {
            doomed.push((name.clone(), artifact));
        }
    }
    if arguments.all {
        let all = stored::list(&store).await?;
        doomed.extend(all.into_iter().map(|artifact| (artifact.reference.clone(), artifact)));
        let prepared = stored::blocking({
            let store = store.clone();
            move || store.prepared().list()
        });
        if prepared.await?.iter().any(|file| file.parent.is_none()) {
            folders.push(("folders", None));
        }
        if doomed.is_empty() && names.is_empty() && folders.is_empty() && !context.report.is_json() {
            context.report.line("no model is on the disk")?;
        }
    }
    let mut removed = Vec::new();
    let mut failed: Option<Failure> = None;
    names.sort_unstable();
    names.dedup();
    for (name, folder) in folders {
        match here.remove_prepared(folder.as_deref()).await {
            Ok(gone) => {
                if !context.report.is_json() {
                    let freed = ByteSize::from_bytes(gone.bytes);
                    context.report.line(&format!("removed what was prepared of {name}: {freed} freed"))?;
                }
                removed.push(json!({ "model": name, "freed_bytes": gone.bytes }));
            }
            Err(failure) => {
                context.report.failure(&failure);
                failed = Some(failed.unwrap_or(failure));
            }
        }
    }
    let may_take_bytes = arguments.all && !names.is_empty();
    for name in names {
        match here.delete(name, Origin::Owner).await {
            Ok(gone) => {
                if !context.report.is_json() {
                    context.report.line(&format!("removed the name {name}"))?;
                }
                removed.push(json!({ "model": name, "freed_bytes": gone.freed_bytes }));
            }
            Err(failure) => {
                context.report.failure(&failure);
                failed = Some(failed.unwrap_or(failure));
            }
        }
    }
    if may_take_bytes {
        // Bytes that were sent for a name went with it.
        let left = stored::list(&store).await?;
        doomed.retain(|(_, it)| left.iter().any(|artifact| artifact.key_digest == it.key_digest));
    }
    for (name, artifact) in doomed {
        let (store, key) = (store.clone(), artifact.key_digest);
        let removed_it = match stored::blocking(move || store.remove(&key)).await {
            Err(failure) if failure.kind == ErrorKind::Busy => {
                remove_name(context, &here, &artifact, failure).await
            }
            outcome => outcome.map(|gone| (gone, None)),
        };
        match removed_it {
            Ok((gone, user)) => {
                if !context.report.is_json() {
                    context.report.line(&sentence(&artifact, gone.freed_bytes, user.as_deref()))?;
                }
                removed.push(json!({ "model": name, "reference": artifact.reference,
                    "bytes": artifact.bytes(), "freed_bytes": gone.freed_bytes }));
            }
            Err(failure) => {
                let failure = explain(&name, failure);
                context.report.failure(&failure);
                failed = Some(failed.unwrap_or(failure));
            }
        }
    }
    if context.report.is_json() {
        context.report.json(&removed)?;
    }
    failed.map_or(Ok(()), |failure| Err(Ended::Shown(failure.kind)))
}

/// The folder that a name means, if something was prepared of it. It need not be there any more.
async fn prepared_folder(context: &Context, here: &Runtime, name: &str) -> Result<Option<PathBuf>, Failure> {
    let ModelRef::File(path) = context.settings.meaning(name)? else { return Ok(None) };
    if path.is_file() {
        return Ok(None);
    }
    if here.prepared_of(&path).await?.count > 0 {
        return Ok(Some(path));
    }
    if !path.is_dir() {
        return Ok(None);
    }
    Err(Failure::new(ErrorKind::NotFound, format!("nothing was prepared of {}", path.display()))
        .with_param("model")
        .with_hint("`samovar df` shows what takes space; the files of a folder are yours"))
}

/// Removes the name of an artifact whose bytes a loaded model of another name uses; gives that name as well. What is
/// loaded under this very name is in use.
async fn remove_name(
    context: &Context,
    here: &Runtime,
    artifact: &Artifact,
    failure: Failure,
) -> Result<(Removed, Option<String>), Failure> {
    let Some(daemon) = context.client().connect().await? else { return Err(failure) };
    let figures = Figures::read(&daemon.stats().await?)?;
    let is_loaded = |model: &&ModelFigures| model.held_bytes + model.mapped_bytes > 0;
    let loaded = figures.models.iter().filter(is_loaded).map(|model| model.name.clone()).collect();
    match here.remove_name_used_by(figures.pid, loaded, artifact).await? {
        Some((gone, user)) => Ok((gone, Some(user))),
        None => Err(failure),
    }
}

fn sentence(artifact: &Artifact, freed_bytes: u64, user: Option<&str>) -> String {
    let size = |bytes: u64| ByteSize::from_bytes(bytes).to_string();
    let whole = artifact.bytes();
    if let Some(user) = user {
        return format!("removed {}: its {} stay, as {user} uses them", artifact.reference, size(whole));
    }
    if freed_bytes >= whole {
        return format!("removed {}: {} freed", artifact.reference, size(freed_bytes));
    }
    format!(
        "removed {}: {} freed of {}; the rest belongs to other models or programs as well",
        artifact.reference,
        size(freed_bytes),
        size(whole)
    )
}

/// What is in use says how to end that.
fn explain(name: &str, failure: Failure) -> Failure {
    if failure.kind == ErrorKind::Busy {
        let hint = format!("`samovar stop {name}` unloads it; then remove it");
        return failure.with_hint(hint);
    }
    failure
}
