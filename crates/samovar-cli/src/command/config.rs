//! `samovar config`: every setting that is in force, with where it came from.

use serde_json::json;

use super::{Context, reference};
use crate::args::Config;
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) fn execute(context: &Context, arguments: &Config) -> Result<(), Ended> {
    if arguments.template {
        return context.report.line(reference::template().trim_end());
    }
    let settings = &context.settings;
    if context.report.is_json() {
        let values: Vec<_> = settings
            .entries
            .iter()
            .map(|entry| json!({ "key": entry.key, "value": entry.json, "from": entry.provenance.to_string() }))
            .collect();
        return context.report.json(&json!({
            "config_file": settings.config_file,
            "home": {
                "config_file": settings.home.config_file,
                "cache_dir": settings.home.cache_dir,
                "state_dir": settings.home.state_dir,
                "run_dir": settings.home.run_dir,
            },
            "values": values,
            "unknown_variables": settings.unknown_variables,
            "remarks": settings.foreign.remarks,
        }));
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
    for name in &settings.unknown_variables {
        context.report.note(&format!("the variable {name} means nothing to samovar"));
    }
    for remark in &settings.foreign.remarks {
        context.report.note(remark);
    }
    Ok(())
}
