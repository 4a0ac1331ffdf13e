//! `samovar pin` and `unpin`: whether the daemon must keep a model.

use samovar_server::admin::wire::PinBody;
use serde_json::json;

use super::{Context, backend};
use crate::ended::Ended;

pub(super) async fn execute(context: &Context, name: &str, is_pinned: bool) -> Result<(), Ended> {
    let model = backend::portable(name, &context.settings)?;
    // What is not running has nothing pinned.
    let connection = if is_pinned { context.daemon().await? } else { context.running_daemon().await? };
    connection.pin(&PinBody { model, pinned: is_pinned }).await?;
    if context.report.is_json() {
        return context.report.json(&json!({ "model": name, "is_pinned": is_pinned }));
    }
    context.report.line(&if is_pinned {
        format!(
            "{name} is pinned: once loaded it stays, and so does the daemon (`samovar warm {name}` loads it)"
        )
    } else {
        format!("{name} is no longer pinned")
    })
}
