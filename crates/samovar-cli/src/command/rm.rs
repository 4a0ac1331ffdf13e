//! `samovar rm`: removes models from the disk. What somebody uses stays, and is named.

use samovar::store::Artifact;
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure};
use serde_json::json;

use super::{Context, stored};
use crate::args::Rm;
use crate::ended::Ended;

pub(super) async fn execute(context: &Context, arguments: Rm) -> Result<(), Ended> {
    let store = context.store().await?;
    // All names are read before anything goes.
    let mut doomed: Vec<(String, Artifact)> = Vec::new();
    for name in &arguments.models {
        let artifact = stored::one(&store, name, &context.settings).await?;
        if doomed.iter().all(|(_, other)| other.key_digest != artifact.key_digest) {
            doomed.push((name.clone(), artifact));
        }
    }
    if arguments.all {
        let all = stored::list(&store).await?;
        doomed.extend(all.into_iter().map(|artifact| (artifact.reference.clone(), artifact)));
        if doomed.is_empty() && !context.report.is_json() {
            context.report.line("no model is on the disk")?;
        }
    }
    let mut removed = Vec::new();
    let mut failed: Option<Failure> = None;
    for (name, artifact) in doomed {
        let (store, key) = (store.clone(), artifact.key_digest);
        match stored::blocking(move || store.remove(&key)).await {
            Ok(gone) => {
                if !context.report.is_json() {
                    context.report.line(&sentence(&artifact, gone.freed_bytes))?;
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

fn sentence(artifact: &Artifact, freed_bytes: u64) -> String {
    let size = |bytes: u64| ByteSize::from_bytes(bytes).to_string();
    let whole = artifact.bytes();
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
