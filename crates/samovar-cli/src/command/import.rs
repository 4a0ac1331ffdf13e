//! `samovar import`: takes models in from a folder that `export` wrote. Every byte is held against its digest.

use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure};

use super::{Context, stored};
use crate::args::Import;
use crate::ended::Ended;
use crate::home;

pub(super) async fn execute(context: &Context, arguments: Import) -> Result<(), Ended> {
    let from = home::absolute(&arguments.from)?;
    if !from.is_dir() {
        return Err(Failure::new(ErrorKind::NotFound, format!("there is no folder {}", from.display()))
            .with_hint("name the folder that `samovar export` wrote")
            .into());
    }
    let store = context.store().await?;
    let progress = context.report.progress();
    progress.say("Reading");
    let imported = stored::blocking(move || store.import(&from)).await?;
    drop(progress);
    if context.report.is_json() {
        return context.report.json(&imported);
    }
    for reference in &imported.references {
        context.report.line(reference)?;
    }
    context.report.line(&match imported.blobs {
        0 => "everything was already on disk".to_owned(),
        _ => format!("{} taken in", ByteSize::from_bytes(imported.bytes)),
    })
}
