//! Requests at once that begin with the same long text, against one of them alone.

use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::super::peers::Setup;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::stream::{self, Streamed};
use super::super::subject::{Home, Server, milliseconds};
use super::super::{Bench, models};

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    /// Requests at once.
    clients: u32,
    /// Repeated until the prompt is long enough.
    sentence: String,
    /// How often.
    repeats: u32,
    tokens: u32,
    threads: u32,
    at_most: f64,
}

/// Milliseconds until all have their answer.
#[derive(Default)]
struct Times {
    one: Samples,
    all: Samples,
    prompt_tokens: u64,
}

/// Both servers stay up, and are asked in turn.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let settings = format!("threads = {}\nslots = {}", plan.threads, plan.clients);
    let home = Home::new(bench, &[model], &settings)?;
    let ours = home.serve()?;
    let path = models::weights(bench.tree, model)?;
    let setup = Setup { model: &path, threads: plan.threads, repacks: false };
    let peer = bench.peers.serve(setup, plan.clients, 2048);
    stream::complete(&ours.url, model, "Once", 1)?;
    let (mut own, mut their) = (Times::default(), Times::default());
    for round in 0..bench.rounds {
        one_round(&ours, plan, model, round, &mut own)?;
        if let Ok(server) = &peer {
            one_round(server, plan, model, round, &mut their)?;
        }
    }
    keep(bench, plan, model, "samovar", &own, Some(Target::AtMost(plan.at_most)));
    match peer {
        Ok(_) => keep(bench, plan, model, "llama-server", &their, None),
        Err(error) => bench.record.skip(format!("llama-server's side of {model}"), format!("{error:#}")),
    }
    Ok(())
}

fn one_round(server: &Server, plan: &Parameters, model: &str, round: u32, times: &mut Times) -> Result<()> {
    // A beginning of its own each time, so that nothing of an earlier request can be reused.
    let beginning =
        |kind: &str| format!("Chapter {kind} {round}. {}", plan.sentence.repeat(plan.repeats as usize));
    let (one, answers) = at_once(server, model, &beginning("one"), 1, plan.tokens)?;
    times.one.push(one);
    times.prompt_tokens = answers[0].prompt_tokens;
    let (all, _) = at_once(server, model, &beginning("all"), plan.clients, plan.tokens)?;
    times.all.push(all);
    Ok(())
}

fn at_once(
    server: &Server,
    model: &str,
    prefix: &str,
    clients: u32,
    tokens: u32,
) -> Result<(f64, Vec<Streamed>)> {
    let started = Instant::now();
    let answers = std::thread::scope(|scope| {
        let ask =
            |client| stream::complete(&server.url, model, &format!("{prefix} Question {client}:"), tokens);
        let threads: Vec<_> = (0..clients).map(|client| scope.spawn(move || ask(client))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("invariant: asking does not panic"))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok((milliseconds(started.elapsed()), answers))
}

fn keep(
    bench: &mut Bench<'_>,
    plan: &Parameters,
    model: &str,
    side: &str,
    times: &Times,
    target: Option<Target>,
) {
    let record = &mut bench.record;
    let clients = plan.clients;
    record.series(model, &format!("one request, {side}"), "ms", &times.one);
    record.series(model, &format!("{clients} requests, {side}"), "ms", &times.all);
    let ratio = times.all.median() / times.one.median();
    record.figure(model, &format!("{clients} requests ÷ one, {side}"), "×", ratio, target);
    record.figure(model, &format!("tokens of the prompt, {side}"), "", times.prompt_tokens as f64, None);
}
