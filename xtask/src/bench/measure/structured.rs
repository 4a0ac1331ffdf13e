//! What JSON by rule costs against free text, and what drafts from the text itself gain where it repeats itself, and cost
//! where it does not; and what grammars take of a large vocabulary, without a model.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Bench;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::stream::{self, Streamed};
use super::super::subject::{Home, Server};
use crate::process;

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    /// What is continued as text, and asked for as JSON.
    prompt: String,
    /// A text that the model reads twice, and then begins to read again.
    passage: String,
    tokens: u32,
    threads: u32,
    layout: String,
    /// Answers at the same time.
    sequences: Vec<usize>,
    /// Tokens per second, JSON ÷ text.
    json_at_least: f64,
    /// Tokens per second with drafts ÷ without, where the text repeats itself, and where it does not.
    repeating_at_least: Option<f64>,
    prose_at_least: f64,
    /// The 99th percentile of masks over the large vocabulary.
    mask_at_most_ms: f64,
    /// The tree of tokens of the large vocabulary.
    vocabulary_at_most_mib: f64,
}

/// The case without a model.
pub(super) const VOCABULARY: &str = "vocabulary of 150,000 tokens";
/// What it is measured by: the name in the example's JSON, ours, and the unit.
const TOLD: [(&str, &str, &str); 7] = [
    ("vocabulary_ms", "made in", "ms"),
    ("vocabulary_mib", "its tree", "MiB"),
    ("compile_p50_ms", "a schema compiled, median", "ms"),
    ("compile_p99_ms", "a schema compiled, 99th percentile", "ms"),
    ("mask_p50_ms", "a mask, median", "ms"),
    ("mask_p99_ms", "a mask, 99th percentile", "ms"),
    ("grammar_most_mib", "the largest grammar after an answer", "MiB"),
];

/// The speed of shorter answers says nothing.
const TOKENS_MIN: u64 = 16;
/// Characters of the passage with which it begins again.
const BEGINNING: usize = 40;

/// Two daemons, without drafts and with them, stay up and are asked in turn.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let slots = plan.sequences.iter().copied().max().unwrap_or(1);
    let settings = |speculation: &str| {
        format!(
            "slots = {slots}\ncontext_tokens = 2048\nthreads = {}\nlayout = \"{}\"\nkeep_alive = -1\nspeculation = \"{speculation}\"",
            plan.threads, plan.layout
        )
    };
    let homes =
        [Home::new(bench, &[model], &settings("off"))?, Home::new(bench, &[model], &settings("auto"))?];
    let servers = [homes[0].serve()?, homes[1].serve()?];
    for format in [json!({"type": "json_object"}), schema()] {
        for &sequences in &plan.sequences {
            // A model that ends its answer at once is measured with the other format.
            if let Err(error) = formatted(bench, plan, model, &servers[0], &format, sequences) {
                let what = format!("{} of {model}, {sequences} at a time", name_of(&format));
                bench.record.skip(what, format!("{error:#}"));
            }
        }
    }
    let beginning: String = plan.passage.chars().take(BEGINNING).collect();
    let repeating = format!("{0}\n\n{0}\n\n{beginning}", plan.passage);
    let target = plan.repeating_at_least.map(Target::AtLeast);
    speculated(
        bench,
        plan,
        model,
        &servers,
        ("text that repeats its prompt", repeating.as_str(), 0.0),
        target,
    )?;
    let target = Some(Target::AtLeast(plan.prose_at_least));
    speculated(bench, plan, model, &servers, ("prose", plan.prompt.as_str(), 1.0), target)
}

/// Runs the grammars' own example, which prints its figures as JSON.
pub(super) fn measure_vocabulary(bench: &mut Bench<'_>, plan: &Parameters) -> Result<()> {
    let program = bench.programs.join("examples/compile");
    let mut measured = TOLD.map(|told| (told, Samples::new()));
    for _ in 0..bench.rounds {
        let told: Value = serde_json::from_str(&process::output(&program.to_string_lossy(), &["--json"])?)?;
        for ((name, ..), samples) in &mut measured {
            samples.push(told[*name].as_f64().with_context(|| format!("the example told no {name}"))?);
        }
    }
    for (told, samples) in &measured {
        let (name, what, unit) = *told;
        let target = match name {
            "mask_p99_ms" => Some(Target::AtMost(plan.mask_at_most_ms)),
            "vocabulary_mib" => Some(Target::AtMost(plan.vocabulary_at_most_mib)),
            _ => None,
        };
        bench.record.series(VOCABULARY, what, unit, samples);
        bench.record.figure(VOCABULARY, what, unit, samples.median(), target);
    }
    Ok(())
}

/// An array that no answer of the plan's length can end.
fn schema() -> Value {
    let words = json!({"type": "array", "minItems": 64, "items": {"type": "string", "minLength": 8}});
    let schema = json!({
        "type": "object", "properties": {"words": words}, "required": ["words"], "additionalProperties": false,
    });
    json!({"type": "json_schema", "json_schema": {"name": "words", "strict": true, "schema": schema}})
}

fn name_of(format: &Value) -> &str {
    format["type"].as_str().unwrap_or_default()
}

/// As many answers at a time, in this format and as text; what is asked first changes from round to round.
fn formatted(
    bench: &mut Bench<'_>,
    plan: &Parameters,
    model: &str,
    server: &Server,
    format: &Value,
    sequences: usize,
) -> Result<()> {
    let (mut speeds, mut parts) = ([Samples::new(), Samples::new()], Samples::new());
    for round in 0..=bench.rounds {
        let mut both = [0.0; 2];
        for side in [round % 2, 1 - round % 2].map(|side| side as usize) {
            let is_json = side == 1;
            // The first words differ, so that nothing of another prompt is reused.
            let bodies = (0..sequences).map(|number| {
                let beginning = format!("{round}, {number}, {side}: ");
                let content = format!("{beginning}{} Answer in JSON.", plan.prompt);
                let mut body = json!({
                    "model": model, "messages": [{"role": "user", "content": content}],
                    "max_tokens": plan.tokens, "temperature": 1, "seed": number, "stream": true,
                    "stream_options": {"include_usage": true},
                });
                let (field, value) =
                    if is_json { ("response_format", format.clone()) } else { ("ignore_eos", json!(true)) };
                body[field] = value;
                body
            });
            let url = format!("{}/v1/chat/completions", server.url);
            both[side] = at_once(&url, &bodies.collect::<Vec<_>>())?.iter().map(speed).sum::<f64>();
        }
        // The first round loads the model and compiles the format.
        if round > 0 {
            speeds[0].push(both[0]);
            speeds[1].push(both[1]);
            parts.push(both[1] / both[0]);
        }
    }
    let (record, format) = (&mut bench.record, name_of(format));
    for (what, speeds) in [("text", &speeds[0]), (format, &speeds[1])] {
        let what = format!("{what} beside {format}, {sequences} at a time");
        record.series(model, &what, "/s", speeds);
        record.figure(model, &what, "/s", speeds.median(), None);
    }
    let what = format!("{format} ÷ text, {sequences} at a time");
    record.series(model, &what, "×", &parts);
    record.figure(model, &what, "×", parts.median(), Some(Target::AtLeast(plan.json_at_least)));
    Ok(())
}

/// The same text from both daemons in turn, without drafts and with them.
fn speculated(
    bench: &mut Bench<'_>,
    plan: &Parameters,
    model: &str,
    servers: &[Server; 2],
    (kind, prompt, temperature): (&str, &str, f64),
    target: Option<Target>,
) -> Result<()> {
    let (mut speeds, mut parts) = ([Samples::new(), Samples::new()], Samples::new());
    let mut equal = 0;
    for round in 0..=bench.rounds {
        let mut answers = [Streamed::default(), Streamed::default()];
        for side in [round % 2, 1 - round % 2].map(|side| side as usize) {
            let body = json!({
                "model": model, "prompt": format!("{round}. {prompt}"), "max_tokens": plan.tokens,
                "temperature": temperature, "seed": round, "ignore_eos": true, "stream": true,
                "stream_options": {"include_usage": true},
            });
            answers[side] = stream::ask(&format!("{}/v1/completions", servers[side].url), &body)?;
            ensure!(
                answers[side].completion_tokens >= TOKENS_MIN,
                "an answer had {} tokens, which is too short",
                answers[side].completion_tokens
            );
        }
        // The first round loads the models, and the one with drafts learns what they cost here.
        if round > 0 {
            let both = [speed(&answers[0]), speed(&answers[1])];
            speeds[0].push(both[0]);
            speeds[1].push(both[1]);
            parts.push(both[1] / both[0]);
            equal += usize::from(answers[0].text == answers[1].text);
        }
    }
    let record = &mut bench.record;
    for (what, speeds) in [("without drafts", &speeds[0]), ("with drafts", &speeds[1])] {
        let what = format!("{kind}, {what}");
        record.series(model, &what, "/s", speeds);
        record.figure(model, &what, "/s", speeds.median(), None);
    }
    let what = format!("{kind}, with drafts ÷ without");
    record.series(model, &what, "×", &parts);
    record.figure(model, &what, "×", parts.median(), target);
    let share = equal as f64 / parts.values().len().max(1) as f64;
    record.figure(model, &format!("{kind}, equal answers"), "of 1", share, None);
    Ok(())
}

/// The answers to these requests, asked at the same time. None may be too short to tell its speed.
fn at_once(url: &str, bodies: &[Value]) -> Result<Vec<Streamed>> {
    let answers: Vec<Streamed> = std::thread::scope(|scope| {
        let clients: Vec<_> = bodies.iter().map(|body| scope.spawn(move || stream::ask(url, body))).collect();
        let answers = clients.into_iter().map(|client| client.join().ok().context("a client panicked")?);
        answers.collect::<Result<_>>()
    })?;
    let least = answers.iter().map(|answer| answer.completion_tokens).min().unwrap_or_default();
    ensure!(least >= TOKENS_MIN, "an answer had {least} tokens, which is too short");
    Ok(answers)
}

/// Tokens per second.
fn speed(answer: &Streamed) -> f64 {
    1000.0 / answer.token_ms()
}
