//! `samovar migrate`: takes over another program's models with their names and settings. Changes nothing of that program.

use std::path::{Path, PathBuf};

use samovar::store::{AdoptOptions, Adopted};
use serde_json::{Value, json};

use super::{Context, follow, stored};
use crate::args::Migrate;
use crate::ended::Ended;
use crate::migrate::SourceProgram;
use crate::migrate::config::{self, EntryOutcome, Merged};
use crate::migrate::entry::{FoundModels, ModelEntry, Remark};
use crate::report::{Align, Columns};
use crate::settings::file;
use crate::{edit, home};

pub(super) async fn execute(context: &Context, arguments: Migrate) -> Result<(), Ended> {
    let settings = &context.settings;
    let config_file = settings.config_file.clone().unwrap_or_else(|| settings.home.config_file.clone());
    let place = arguments.program.place(arguments.from.as_deref(), &settings.foreign)?;
    let (program, foreign) = (arguments.program, settings.foreign.clone());
    let mut found = stored::blocking(move || program.look(&place, &foreign)).await?;
    let adopted = adopt(context, &found, arguments.dry_run).await?;
    if let Some(adopted) = &adopted {
        found.leave_out(&adopted.skipped);
    }
    let templates = found.place_templates(&config_file);
    let before = edit::text_before(&config_file, file::MAX_BYTES)?;
    let text = before.as_deref().unwrap_or_default();
    let merged = config::merge(&config_file, text, &found.models, &found.preload, program.name())?;
    if !arguments.dry_run && merged.text != text {
        let folder = config_file.parent().unwrap_or(Path::new("/"));
        home::make_private_dir(folder)?;
        let is_added = |name: &str| {
            let mut outcomes = found.models.iter().zip(&merged.outcomes);
            outcomes.any(|(entry, outcome)| entry.name == name && *outcome == EntryOutcome::Added)
        };
        let mut needed: Vec<_> = templates.iter().filter(|template| is_added(&template.model)).collect();
        needed.sort_by(|one, other| one.path.cmp(&other.path));
        needed.dedup_by(|one, other| one.path == other.path);
        for template in needed {
            home::make_private_dir(template.path.parent().unwrap_or(folder))?;
            edit::replace(&template.path, None, &template.text, false)?;
        }
        edit::replace(&config_file, before.as_deref(), &merged.text, false)?;
    }
    let done = Done {
        program,
        found: &found,
        merged: &merged,
        adopted: adopted.as_ref(),
        config_file,
        arguments: &arguments,
    };
    if context.report.is_json() { context.report.json(&done.to_json()) } else { done.show(context) }
}

/// Shares the program's files with the store.
async fn adopt(context: &Context, found: &FoundModels, dry_run: bool) -> Result<Option<Adopted>, Ended> {
    if found.roots.is_empty() {
        return Ok(None);
    }
    let (watch, steps) = follow::watch();
    let options = AdoptOptions { roots: found.roots.clone(), dry_run, copies: false, watch: Some(watch) };
    let store = context.store().await?;
    let work = stored::blocking(move || store.adopt(&options));
    if let Some(adopted) = follow::follow(context, "Looking", steps, work).await? {
        Ok(Some(adopted))
    } else {
        context.report.note("stopped; what was adopted so far stays, and no setting was written");
        Err(Ended::Interrupted)
    }
}

/// What was, or would be, taken over.
struct Done<'a> {
    program: SourceProgram,
    found: &'a FoundModels,
    merged: &'a Merged,
    adopted: Option<&'a Adopted>,
    config_file: PathBuf,
    arguments: &'a Migrate,
}

impl Done<'_> {
    fn models(&self) -> impl Iterator<Item = (&ModelEntry, &EntryOutcome)> {
        self.found.models.iter().zip(&self.merged.outcomes)
    }

    fn to_json(&self) -> Value {
        let models: Vec<Value> = self
            .models()
            .map(|(entry, outcome)| {
                let mut model = json!({ "name": entry.name, "settings": entry.to_json() });
                if let (Some(model), Ok(Value::Object(outcome))) =
                    (model.as_object_mut(), serde_json::to_value(outcome))
                {
                    model.extend(outcome);
                }
                model
            })
            .collect();
        json!({
            "program": self.program,
            "from": self.found.from,
            "config_file": self.config_file,
            "dry_run": self.arguments.dry_run,
            "models": models,
            "preload": self.merged.preload,
            "adopted": self.adopted,
            "not_taken_over": self.found.all_remarks(),
        })
    }

    fn show(&self, context: &Context) -> Result<(), Ended> {
        let mut columns =
            Columns::new(&[("NAME", Align::Left), ("ENTRY", Align::Left), ("SETTINGS", Align::Left)]);
        for (entry, outcome) in self.models() {
            let keys: Vec<&str> = entry.settings.iter().map(|(key, _)| *key).collect();
            columns.row([entry.name.clone(), word(outcome).to_owned(), keys.join(", ")]);
        }
        if !self.found.models.is_empty() {
            context.report.table(columns)?;
        }
        for (entry, outcome) in self.models() {
            let EntryOutcome::Kept { differences } = outcome else { continue };
            for difference in differences {
                let here = difference.here.as_deref().unwrap_or("not set");
                let line = format!(
                    "kept: {}: {} is {here} here, and {} in {}",
                    entry.name,
                    difference.key,
                    difference.there,
                    self.program.name()
                );
                context.report.note(&line);
            }
        }
        for Remark { of, what, why } in self.found.all_remarks() {
            context.report.note(&format!("not taken over: {of}: {what}: {why}"));
        }
        for name in &self.merged.preload {
            context.report.note(&format!("is loaded when the daemon starts: {name}"));
        }
        context.report.line(&self.total())
    }

    fn total(&self) -> String {
        let added = self.merged.outcomes.iter().filter(|outcome| **outcome == EntryOutcome::Added).count();
        let models = |count: usize| if count == 1 { "1 name".to_owned() } else { format!("{count} names") };
        let file = self.config_file.display();
        match (added, self.arguments.dry_run) {
            (0, _) if self.merged.preload.is_empty() => format!("nothing new for {file}"),
            (_, true) => format!("{} would be added to {file}; nothing was written", models(added)),
            (_, false) => format!(
                "{} added to {file}; once {} has stopped, `samovar serve {}` answers its clients",
                models(added),
                self.program.name(),
                self.program.serve_options()
            ),
        }
    }
}

fn word(outcome: &EntryOutcome) -> &'static str {
    match outcome {
        EntryOutcome::Added => "new",
        EntryOutcome::Same => "is here already",
        EntryOutcome::Kept { .. } => "is here with other values, and stays",
    }
}
