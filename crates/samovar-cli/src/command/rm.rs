//! `samovar rm`: removes models from the disk. A model in use stays, and is named.

use samovar::store::{Artifact, Removed};
use samovar::{Builder, Origin, Runtime};
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure};
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
    for name in &arguments.models {
        if created.contains(name) {
            names.push(name);
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
        if doomed.is_empty() && names.is_empty() && !context.report.is_json() {
            context.report.line("no model is on the disk")?;
        }
    }
    let mut removed = Vec::new();
    let mut failed: Option<Failure> = None;
    names.sort_unstable();
    names.dedup();
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
