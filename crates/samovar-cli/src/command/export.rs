//! `samovar export`: writes models into a folder, so that they can be carried to where there is no network.

use samovar::store::KeyDigest;
use samovar_core::units::ByteSize;
use serde_json::json;

use super::{Context, stored};
use crate::args::Export;
use crate::ended::Ended;
use crate::home;

pub(super) async fn execute(context: &Context, arguments: Export) -> Result<(), Ended> {
    let store = context.store().await?;
    let mut keys: Vec<KeyDigest> = Vec::new();
    let mut references = Vec::new();
    for name in &arguments.models {
        let artifact = stored::one(&store, name, &context.settings).await?;
        if !keys.contains(&artifact.key_digest) {
            keys.push(artifact.key_digest);
            references.push(artifact.reference);
        }
    }
    let to = home::absolute(&arguments.to)?;
    let progress = context.report.progress();
    progress.say("Writing");
    let folder = to.clone();
    let exported = stored::blocking(move || store.export(&keys, &folder)).await?;
    drop(progress);
    if context.report.is_json() {
        let mut object = json!(exported);
        object["references"] = json!(references);
        object["to"] = json!(to);
        return context.report.json(&object);
    }
    for reference in &references {
        context.report.line(reference)?;
    }
    let copied = if exported.copied_bytes < exported.bytes {
        format!(", of which {} had to be copied", ByteSize::from_bytes(exported.copied_bytes))
    } else {
        String::new()
    };
    context.report.line(&format!(
        "{} written to {}{copied}; there: samovar import {}",
        ByteSize::from_bytes(exported.bytes),
        to.display(),
        to.display()
    ))
}
