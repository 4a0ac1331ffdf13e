//! `samovar config`: every setting that is in force, with where it came from.

use serde_json::json;

use super::{Context, reference};
use crate::args::Config;
use crate::ended::Ended;
use crate::report::{Align, Columns};
use crate::settings::settings_as_json;

pub(super) async fn execute(context: &Context, arguments: &Config) -> Result<(), Ended> {
    if arguments.reload {
        return reload(context).await;
    }
    if arguments.template {
        return context.report.line(reference::template(&context.settings.home).trim_end());
    }
    let settings = &context.settings;
    if context.report.is_json() {
        return context.report.json(&settings_as_json(settings));
    }
    let mut columns =
        Columns::new(&[("SETTING", Align::Left), ("VALUE", Align::Left), ("FROM", Align::Left)]);
    for entry in &settings.entries {
        columns.row([entry.key.clone(), entry.shown.clone(), entry.provenance.to_string()]);
    }
    context.report.table(columns)?;
    match &settings.config_file {
        Some(file) => context.report.note(&format!("read from {}", file.display())),
        None => context.report.note(&format!(
            "there is no {}; `samovar config --template` prints one to begin with",
            settings.home.config_file.display()
        )),
    }
    for sentence in settings.unknown_variables() {
        context.report.note(&sentence);
    }
    for remark in &settings.foreign.remarks {
        context.report.note(remark);
    }
    Ok(())
}

/// Lets the daemon read its configuration now. It does so by itself before it resolves a name; this tells how that went.
async fn reload(context: &Context) -> Result<(), Ended> {
    let Some(connection) = context.client().connect().await? else {
        context.report.note("no daemon is running; the next one reads the configuration as it is");
        return if context.report.is_json() { context.report.json(&json!(null)) } else { Ok(()) };
    };
    let changes = connection.reload().await?;
    if context.report.is_json() {
        return context.report.json(&changes);
    }
    if changes.in_force.is_empty() && changes.needs_restart.is_empty() {
        return context.report.line("nothing changed since the daemon began");
    }
    if !changes.in_force.is_empty() {
        context.report.line(&format!("in force: {}", changes.in_force.join(", ")))?;
    }
    if !changes.needs_restart.is_empty() {
        let changed = changes.needs_restart.join(", ");
        context
            .report
            .line(&format!("after a restart (`samovar shutdown`, then start it again): {changed}"))?;
    }
    Ok(())
}
