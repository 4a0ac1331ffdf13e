//! The tokens per second that `samovar show` foretells of a model at its source, against those that it reaches here.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::hub::{Hub, REPOSITORY};
use super::super::samples::Samples;
use super::super::subject::{Home, Question};
use super::super::{Bench, models};

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Each is foretold, and the first other one is measured before the second forecast.
    pub(super) models: Vec<String>,
    prompt: String,
    tokens: u32,
}

/// Measures one model.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let other = plan.models.iter().find(|other| *other != model).context("a plan has two models")?;
    let hub = Hub::of(bench.programs, &format!("{model}.gguf"), &models::weights(bench.tree, model)?)?;
    let [mut by_memory, mut by_models, mut reached] = [const { Samples::new() }; 3];
    for _ in 0..bench.rounds {
        let home = Home::new(bench, &[model, other], "")?;
        let (speed, is_of_models) = forecast(&home, &hub)?;
        ensure!(!is_of_models, "a fresh home knows how fast models are");
        by_memory.push(speed);
        home.json(&["pack", other])?;
        let (speed, is_of_models) = forecast(&home, &hub)?;
        // What is measured next to other work is not kept.
        if is_of_models {
            by_models.push(speed);
        }
        let question = Question { model, prompt: &plan.prompt, tokens: plan.tokens };
        // The first answer loads the model.
        home.ask(question, &[])?;
        reached.push(decode(&home, question)?);
    }
    let record = &mut bench.record;
    record.series(model, "decode", "/s", &reached);
    record.figure(model, "decode", "/s", reached.median(), None);
    for (what, samples) in
        [("forecast by memory alone", &by_memory), ("forecast after another model was measured", &by_models)]
    {
        if samples.values().is_empty() {
            record.skip(format!("{model}, {what}"), "the other model could not be measured undisturbed");
            continue;
        }
        record.series(model, what, "/s", samples);
        record.figure(model, what, "/s", samples.median(), None);
        record.figure(model, &format!("{what} ÷ decode"), "×", samples.median() / reached.median(), None);
    }
    Ok(())
}

/// Tokens per second as foretold, and whether models are known here, or memory alone.
fn forecast(home: &Home, hub: &Hub) -> Result<(f64, bool)> {
    let reference = format!("hf://{REPOSITORY}:Q4_K_M");
    let mut command = home.command(&["--json", "show", &reference]);
    let output = command.env("HF_ENDPOINT", &hub.endpoint).output()?;
    ensure!(output.status.success(), "samovar show: {}", String::from_utf8_lossy(&output.stderr).trim());
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let speed = told["variants"][0]["tokens_per_s"].as_f64().context("`samovar show` foretold no speed")?;
    Ok((speed, told["is_read_rate_of_models"] == true))
}

/// Tokens per second of one answer, by the runtime's own clock.
fn decode(home: &Home, question: Question<'_>) -> Result<f64> {
    let told: Value = serde_json::from_str(&home.ask(question, &["--json"])?.stdout)?;
    let figure = |part: &str, name: &str| {
        told[part][name].as_f64().with_context(|| format!("`samovar run --json` told no {part}.{name}"))
    };
    let tokens = figure("usage", "completion_tokens")?;
    ensure!(tokens > 1.0, "an answer had {tokens} tokens, which is too short");
    Ok((tokens - 1.0) / figure("timings", "decode_ms")? * 1000.0)
}
