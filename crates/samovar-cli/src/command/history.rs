//! `samovar history`: what was kept of chats: listed, searched, shown, exported, imported, deleted. Asks no daemon and no model.

use samovar_chat::{ChatHistory, ExportFormat};
use samovar_core::units::counted;
use samovar_core::{ErrorKind, Failure};
use serde_json::json;

use super::Context;
use super::chat::{conversation, kept};
use crate::args::{ExportForm, History};
use crate::ended::Ended;
use crate::report::{Report, harmless};

/// Conversations that are exported at once.
const EXPORTED: u32 = 1_000;

pub(super) fn execute(context: &Context, asked: &History) -> Result<(), Ended> {
    let conversations = kept::open(context)?;
    let history = conversations.of("");
    let report = &context.report;
    if let Some(name) = &asked.forget {
        return forget(context, &history, Some(name.as_str()).filter(|name| !name.is_empty()), asked.all);
    }
    if let Some(path) = &asked.import {
        let text = conversation::read(path)?;
        let taken = history.import(&text).map_err(Failure::from)?;
        if report.is_json() {
            return report.json(&json!({ "imported": taken }));
        }
        return report.line(&format!("imported {}", counted(taken.len(), "conversation")));
    }
    if let Some(text) = &asked.search {
        let hits = history.search(text, asked.limit).map_err(Failure::from)?;
        if report.is_json() {
            return report.json(&json!({ "conversations": hits }));
        }
        if hits.is_empty() {
            return report.line("no conversation has these words");
        }
        return report.table(kept::found(&hits));
    }
    let named = asked.conversation.as_deref().map(|name| history.named(name)).transpose();
    match (named.map_err(Failure::from)?, asked.export) {
        (None, None) => list(context, &history, asked.limit),
        (None, Some(form)) => export_all(context, &history, form),
        (Some(head), None) if report.is_json() => report.json(&history.open(head.id).map_err(Failure::from)?),
        (Some(head), form) => {
            let text = history.export(head.id, format_of(form.unwrap_or(ExportForm::Markdown)));
            print(report, text.map_err(Failure::from)?.trim_end())
        }
    }
}

fn list(context: &Context, history: &ChatHistory, limit: u32) -> Result<(), Ended> {
    let heads = history.list(limit, None).map_err(Failure::from)?;
    if context.report.is_json() {
        return context.report.json(&json!({ "conversations": heads }));
    }
    if heads.is_empty() {
        return context.report.line("nothing is kept yet: `samovar chat` begins a conversation");
    }
    context.report.table(kept::table(&heads))
}

/// All conversations: an array of documents, or one after the other.
fn export_all(context: &Context, history: &ChatHistory, form: ExportForm) -> Result<(), Ended> {
    let (mut texts, mut before) = (Vec::new(), None);
    loop {
        let page = history.list(EXPORTED, before).map_err(Failure::from)?;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        for head in &page {
            let text = history.export(head.id, format_of(form)).map_err(Failure::from)?;
            texts.push(text.trim_end().to_owned());
        }
    }
    let text = match form {
        ExportForm::Json => format!("[{}]", texts.join(",\n")),
        ExportForm::Markdown => texts.join("\n\n"),
    };
    print(&context.report, &text)
}

/// A document, as it is for a program; nothing of it commands a terminal.
fn print(report: &Report, text: &str) -> Result<(), Ended> {
    if report.stdout_is_terminal() { report.line(&harmless(text)) } else { report.line(text) }
}

fn forget(context: &Context, history: &ChatHistory, name: Option<&str>, all: bool) -> Result<(), Ended> {
    let deleted = match (name, all) {
        (Some(name), false) => {
            let head = history.named(name).map_err(Failure::from)?;
            history.forget(head.id).map_err(Failure::from)?;
            1
        }
        (None, true) => history.forget_all().map_err(Failure::from)?,
        _ => {
            let message = "say which conversation is to be deleted, or --all";
            let failure = Failure::new(ErrorKind::InvalidRequest, message);
            return Err(failure
                .with_hint("samovar history --forget 12, or samovar history --forget --all")
                .into());
        }
    };
    if context.report.is_json() {
        return context.report.json(&json!({ "deleted": deleted }));
    }
    context.report.line(&format!("deleted {}", counted(deleted, "conversation")))
}

const fn format_of(form: ExportForm) -> ExportFormat {
    match form {
        ExportForm::Json => ExportFormat::Json,
        ExportForm::Markdown => ExportFormat::Markdown,
    }
}
