//! `samovar pin` and `unpin`: whether a model must stay: in the daemon's memory, and on disk.

use samovar_core::Failure;
use samovar_server::admin::wire::PinBody;
use serde_json::json;

use super::{Context, backend, stored};
use crate::client::no_daemon;
use crate::ended::Ended;

pub(super) async fn execute(context: &Context, name: &str, is_pinned: bool) -> Result<(), Ended> {
    let was_on_disk = stored::on_disk(context, name).await?.is_some();
    let in_memory = in_memory(context, name, is_pinned, was_on_disk).await?;
    // The built-in model may be on disk only now.
    let artifact = stored::on_disk(context, name).await?;
    if let Some(artifact) = &artifact {
        let (store, key) = (context.store().await?, artifact.key_digest);
        stored::blocking(move || store.set_pinned(&key, is_pinned)).await?;
    }
    if artifact.is_none() && !in_memory {
        // What is not running has nothing pinned.
        return Err(no_daemon().into());
    }
    if context.report.is_json() {
        return context.report.json(&json!({ "model": name, "is_pinned": is_pinned,
            "on_disk": artifact.is_some(), "in_memory": in_memory }));
    }
    context.report.line(&sentence(name, is_pinned, artifact.is_some(), in_memory))
}

/// Tells the daemon, if there is one; a file can be pinned nowhere else, so one is started for it.
async fn in_memory(
    context: &Context,
    name: &str,
    is_pinned: bool,
    is_on_disk: bool,
) -> Result<bool, Failure> {
    let model = backend::portable(name, &context.settings)?;
    let connection = match context.client().connect().await? {
        Some(connection) => connection,
        None if is_pinned && !is_on_disk => context.daemon().await?,
        None => return Ok(false),
    };
    connection.pin(&PinBody { model, pinned: is_pinned }).await?;
    Ok(true)
}

fn sentence(name: &str, is_pinned: bool, on_disk: bool, in_memory: bool) -> String {
    match (is_pinned, on_disk, in_memory) {
        (true, true, true) => {
            format!(
                "{name} is pinned: it stays on disk, and in memory once loaded (`samovar warm {name}` loads it)"
            )
        }
        (true, true, false) => {
            format!("{name} is pinned: it stays on disk; no daemon is running to hold it in memory")
        }
        (true, false, _) => format!(
            "{name} is pinned: once loaded it stays, and so does the daemon (`samovar warm {name}` loads it)"
        ),
        (false, ..) => format!("{name} is no longer pinned"),
    }
}
