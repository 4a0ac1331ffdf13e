//! `samovar list`: the models that requests may name. Works without a daemon.

use samovar::{Builder, ModelInfo, Origin};
use samovar_core::Failure;
use samovar_core::units::ByteSize;
use serde_json::json;

use super::Context;
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context) -> Result<(), Ended> {
    let listing = listing(context).await?;
    if context.report.is_json() {
        let broken: Vec<_> = listing
            .broken
            .iter()
            .map(|(name, failure)| json!({ "name": name, "error": failure.message, "hint": failure.hint }))
            .collect();
        return context.report.json(&json!({ "models": listing.models, "broken": broken }));
    }
    let mut columns = Columns::new(&[
        ("NAME", Align::Left),
        ("ARCHITECTURE", Align::Left),
        ("PARAMETERS", Align::Right),
        ("FORMAT", Align::Left),
        ("SIZE", Align::Right),
        ("CONTEXT", Align::Right),
        ("MEMORY", Align::Right),
        ("FROM", Align::Left),
    ]);
    for model in &listing.models {
        columns.row([
            model.name.clone(),
            model.architecture.clone(),
            parameters(model.parameters),
            model.quantization.clone(),
            ByteSize::from_bytes(model.size_bytes).to_string(),
            model.context_tokens.to_string(),
            ByteSize::from_bytes(model.predicted_bytes).to_string(),
            from(model),
        ]);
    }
    context.report.table(columns)?;
    for (name, failure) in &listing.broken {
        context.report.note(&format!("{name} cannot be used: {}", failure.message));
    }
    Ok(())
}

struct Listing {
    models: Vec<ModelInfo>,
    /// Configured names whose file is gone or wrong.
    broken: Vec<(String, Failure)>,
}

/// What the daemon knows (files that were used have names, too); without one, what the configuration says.
async fn listing(context: &Context) -> Result<Listing, Failure> {
    let aliases = &context.settings.runtime.aliases;
    let from_daemon = match context.client().connect().await? {
        Some(connection) => Some(connection.models().await?.models),
        None => None,
    };
    let is_complete = |models: &[ModelInfo]| {
        aliases.iter().all(|alias| models.iter().any(|model| model.name == alias.name))
    };
    let models = match from_daemon {
        Some(models) if is_complete(&models) => return Ok(Listing { models, broken: Vec::new() }),
        other => other,
    };
    let here = Builder::settings(context.settings.runtime.clone()).build()?;
    let models = match models {
        Some(models) => models,
        None => here.models().await,
    };
    let mut broken = Vec::new();
    for alias in aliases.iter().filter(|alias| !models.iter().any(|model| model.name == alias.name)) {
        if let Err(failure) = here.model(&alias.name, Origin::Owner).await {
            broken.push((alias.name.clone(), failure));
        }
    }
    Ok(Listing { models, broken })
}

fn from(model: &ModelInfo) -> String {
    match serde_json::to_value(model.kind) {
        Ok(serde_json::Value::String(kind)) if kind == "built_in" => "built in".to_owned(),
        _ => model.path.display().to_string(),
    }
}

/// A number of weights as model names have it.
pub(super) fn parameters(count: u64) -> String {
    let count = count as f64;
    match count {
        1e9.. => format!("{:.1}B", count / 1e9),
        1e6.. => format!("{:.1}M", count / 1e6),
        1e3.. => format!("{:.0}K", count / 1e3),
        _ => format!("{count}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_written_as_in_model_names() {
        let shown: Vec<String> = [7_240_000_000, 15_200_000, 12_000, 7].into_iter().map(parameters).collect();
        assert_eq!(shown, ["7.2B", "15.2M", "12K", "7"]);
    }
}
