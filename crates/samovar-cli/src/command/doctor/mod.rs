//! `samovar doctor`: checks that everything works here, and says what to do where it does not.
//!
//! ```text
//!   checks (places, disk, memory, CPU, engine, daemon) ─┐
//!   probe (real inference in a child that may crash) ───┴─► Finding, Finding, … ─► report, exit code
//! ```
//!
//! Looks only: starts no daemon, repairs nothing.

mod inference;
mod machine;
mod names;
mod network;
mod packing;
mod places;
mod sources;
mod store;

use samovar_core::ErrorKind;
use samovar_core::Failure;
use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::args::Doctor;
use crate::ended::Ended;
use crate::report::Mark;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// As it should be.
    Fine,
    /// It works, but not as well as it could.
    Odd,
    /// It does not work.
    Broken,
}

/// What one check found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) name: &'static str,
    /// How it came out.
    pub(super) state: State,
    /// What was found.
    pub(super) text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
    /// The kind of failure, for the exit code.
    #[serde(skip)]
    pub(super) kind: Option<ErrorKind>,
}

impl Finding {
    pub(super) fn fine(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, state: State::Fine, text: text.into(), hint: None, kind: None }
    }

    pub(super) fn odd(name: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, state: State::Odd, text: text.into(), hint: Some(hint.into()), kind: None }
    }

    pub(super) fn broken(name: &'static str, failure: Failure) -> Self {
        Self {
            name,
            state: State::Broken,
            text: failure.message,
            hint: failure.hint,
            kind: Some(failure.kind),
        }
    }

    pub(super) fn of(name: &'static str, outcome: Result<String, Failure>) -> Self {
        match outcome {
            Ok(text) => Self::fine(name, text),
            Err(failure) => Self::broken(name, failure),
        }
    }
}

pub(super) async fn execute(context: &Context, arguments: &Doctor) -> Result<(), Ended> {
    let mut findings = Vec::new();
    let mut found = |finding: Finding| -> Result<(), Ended> {
        if !context.report.is_json() {
            show(context, &finding)?;
        }
        findings.push(finding);
        Ok(())
    };
    found(Finding::fine("version", format!("samovar {}", env!("CARGO_PKG_VERSION"))))?;
    found(places::configuration(&context.settings))?;
    found(places::directories(&context.settings))?;
    found(places::disk(&context.settings))?;
    found(store::finding(context).await)?;
    if let Some(finding) = names::finding(context).await {
        found(finding)?;
    }
    found(sources::settings(&context.settings, arguments.network))?;
    if arguments.network {
        found(sources::network(context).await)?;
    }
    if let Some(finding) = network::tls(&context.settings) {
        found(finding)?;
    }
    if let Some(finding) = sources::others(&context.settings) {
        found(finding)?;
    }
    found(machine::processor().await)?;
    found(machine::build())?;
    found(machine::memory(&context.settings))?;
    found(machine::engine(&context.settings).await)?;
    found(packing::finding(context).await)?;
    found(places::daemon(context).await)?;
    if !arguments.quick {
        let progress = context.report.progress();
        progress.say("Running the built-in model");
        let findings = inference::findings(context).await;
        drop(progress);
        for finding in findings {
            found(finding)?;
        }
    }
    let broken = findings.iter().find_map(|finding| finding.kind);
    if context.report.is_json() {
        context.report.json(&json!({ "is_fine": broken.is_none(), "findings": findings }))?;
    }
    broken.map_or(Ok(()), |kind| Err(Ended::Shown(kind)))
}

fn show(context: &Context, finding: &Finding) -> Result<(), Ended> {
    let mark = match finding.state {
        State::Fine => Mark::Fine,
        State::Odd => Mark::Odd,
        State::Broken => Mark::Broken,
    };
    context.report.marked(mark, &format!("{:<14} {}", finding.name, finding.text))?;
    match &finding.hint {
        Some(hint) => context.report.line(&format!("  {:<14} hint: {hint}", "")),
        None => Ok(()),
    }
}
