//! What a draft model gains where it is right, and costs where it always fails.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::record::Target;
use super::super::samples::Samples;
use super::super::stream::{self, Streamed};
use super::super::subject::Home;
use super::super::{Bench, models};

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) pair: Vec<Pair>,
    prompts: Vec<String>,
    tokens: u32,
    threads: u32,
    layout: String,
}

/// A model and its draft model.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    pub(super) name: String,
    model: String,
    draft: String,
    /// Tokens per second with the draft model ÷ without drafts.
    at_least: f64,
}

/// The speed of shorter answers says nothing.
const TOKENS_MIN: u64 = 16;
/// The name of the model under which it has its draft model, or none.
const NAME: &str = "writer";
/// Without any drafts, the same again, with drafts from the text itself, and with those of the draft model, too. The first
/// two tell how far equal sides differ.
const SIDES: [&str; 4] =
    ["without drafts", "without drafts again", "with drafts of the text", "with a draft model"];

/// Four daemons stay up and are asked in turn.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, pair: &Pair) -> Result<()> {
    let [model, draft] = [&pair.model, &pair.draft].map(|name| models::weights(bench.tree, name));
    let (model, draft) = (model?, draft?);
    let settings = |speculation: &str, has_draft: bool| {
        let draft = if has_draft { format!("draft = \"{}\"\n", draft.display()) } else { String::new() };
        format!(
            "slots = 1\ncontext_tokens = 2048\nthreads = {}\nlayout = \"{}\"\nkeep_alive = -1\n\
             speculation = \"{speculation}\"\n[models.{NAME}]\nsource = \"{}\"\n{draft}",
            plan.threads,
            plan.layout,
            model.display()
        )
    };
    let sides = [("off", false), ("off", false), ("auto", false), ("auto", true)];
    let mut homes = Vec::new();
    for (speculation, has_draft) in sides {
        homes.push(Home::new(bench, &[], &settings(speculation, has_draft))?);
    }
    let servers = homes.iter().map(Home::serve).collect::<Result<Vec<_>>>()?;
    let mut speeds = vec![Samples::new(); SIDES.len()];
    let mut parts = vec![Samples::new(); SIDES.len()];
    let (mut equal, mut asked) = ([0_usize; SIDES.len()], 0_usize);
    for round in 0..=bench.rounds {
        for prompt in &plan.prompts {
            let mut answers = vec![Streamed::default(); SIDES.len()];
            for turn in 0..SIDES.len() {
                let side = (turn + round as usize) % SIDES.len();
                let body = json!({
                    "model": NAME, "prompt": format!("{round}. {prompt}"), "max_tokens": plan.tokens,
                    "temperature": 0, "ignore_eos": true, "stream": true,
                    "stream_options": {"include_usage": true},
                });
                let answer = stream::ask(&format!("{}/v1/completions", servers[side].url), &body)?;
                let tokens = answer.completion_tokens;
                ensure!(tokens >= TOKENS_MIN, "an answer had {tokens} tokens, which is too short");
                answers[side] = answer;
            }
            // The first round loads the models.
            if round == 0 {
                continue;
            }
            asked += 1;
            for (side, answer) in answers.iter().enumerate() {
                speeds[side].push(speed(answer));
                parts[side].push(speed(answer) / speed(&answers[0]));
                equal[side] += usize::from(answer.text == answers[0].text);
            }
        }
    }
    let (record, case) = (&mut bench.record, pair.name.as_str());
    for (side, what) in SIDES.iter().enumerate() {
        record.series(case, what, "/s", &speeds[side]);
        record.figure(case, what, "/s", speeds[side].median(), None);
        if side == 0 {
            continue;
        }
        let target = (side + 1 == SIDES.len()).then_some(Target::AtLeast(pair.at_least));
        let ratio = format!("{what} ÷ without drafts");
        record.series(case, &ratio, "×", &parts[side]);
        record.figure(case, &ratio, "×", parts[side].median(), target);
        let share = equal[side] as f64 / asked.max(1) as f64;
        record.figure(case, &format!("{what}, equal answers"), "of 1", share, None);
    }
    Ok(())
}

/// Tokens per second.
fn speed(answer: &Streamed) -> f64 {
    1000.0 / answer.token_ms()
}
