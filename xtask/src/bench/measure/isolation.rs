//! What a process of its own for each model costs: the same daemon with workers and without.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::super::Bench;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::stream;
use super::super::subject::Home;

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    prompt: String,
    tokens: u32,
    threads: u32,
    /// Time of a token with a worker ÷ without.
    at_most: f64,
}

#[derive(Default)]
struct Times {
    first: Samples,
    token: Samples,
}

/// Both daemons stay up, and are asked in turn.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let settings = |workers: bool| {
        format!("slots = 1\nthreads = {}\nkeep_alive = -1\n[pool]\nworkers = {workers}\n", plan.threads)
    };
    let homes = [Home::new(bench, &[model], &settings(true))?, Home::new(bench, &[model], &settings(false))?];
    let servers = [homes[0].serve()?, homes[1].serve()?];
    let mut times = [Times::default(), Times::default()];
    for round in 0..=bench.rounds {
        // Who is first changes, so that neither has the warmer caches.
        for side in [round % 2, 1 - round % 2].map(|side| side as usize) {
            let prompt = format!("{round} {}", plan.prompt);
            let answer = stream::complete(&servers[side].url, model, &prompt, plan.tokens)?;
            if round > 0 {
                times[side].first.push(answer.first_ms());
                times[side].token.push(answer.token_ms());
            }
        }
    }
    let [with, without] = times;
    let record = &mut bench.record;
    for (what, samples) in [
        ("token, in a worker", &with.token),
        ("token, in the daemon", &without.token),
        ("first token, in a worker", &with.first),
        ("first token, in the daemon", &without.first),
    ] {
        record.series(model, what, "ms", samples);
        record.figure(model, what, "ms", samples.median(), None);
    }
    let token = with.token.median() / without.token.median();
    record.figure(model, "token, worker ÷ daemon", "×", token, Some(Target::AtMost(plan.at_most)));
    let first = with.first.median() - without.first.median();
    record.figure(model, "a worker adds to a request", "ms", first, None);
    Ok(())
}
