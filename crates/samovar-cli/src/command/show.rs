//! `samovar show`: one model in detail. Works without a daemon.

use samovar::{Builder, ModelInfo, Origin};
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure};

use super::Context;
use super::backend::portable;
use super::list::parameters;
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context, model: &str) -> Result<(), Ended> {
    let model = find(context, &portable(model, &context.settings)?).await?;
    if context.report.is_json() {
        return context.report.json(&model);
    }
    let mut columns = Columns::new(&[("", Align::Left), ("", Align::Left)]);
    let mut row = |name: &str, text: String| columns.row([name.to_owned(), text]);
    row("name", model.name.clone());
    row("file", model.path.display().to_string());
    row("architecture", model.architecture.clone());
    row("parameters", parameters(model.parameters));
    row("format", model.quantization.clone());
    row("size", ByteSize::from_bytes(model.size_bytes).to_string());
    row(
        "context",
        format!(
            "{} tokens for each request (trained for {})",
            model.context_tokens, model.trained_context_tokens
        ),
    );
    row("slots", format!("{} requests at the same time", model.slots));
    row("memory", format!("{} when loaded, by prediction", ByteSize::from_bytes(model.predicted_bytes)));
    context.report.table(columns)
}

/// By this process's own reading; names that only the daemon knows are asked of it.
async fn find(context: &Context, reference: &str) -> Result<ModelInfo, Failure> {
    let here = Builder::settings(context.settings.runtime.clone()).build()?;
    match here.model(reference, Origin::Owner).await {
        Err(failure) if failure.kind == ErrorKind::NotFound => {
            let Some(daemon) = context.client().connect().await? else { return Err(failure) };
            let known = daemon.models().await?.models;
            known.into_iter().find(|model| model.name == reference).ok_or(failure)
        }
        outcome => outcome,
    }
}
