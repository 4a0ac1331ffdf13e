//! What HTTP adds to a token and to the first one, against llama-server and against the engine alone.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::super::peers::Setup;
use super::super::samples::Samples;
use super::super::stream::{self, Streamed};
use super::super::subject::{Home, Question, Server};
use super::super::{Bench, models};

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    prompt: String,
    tokens: u32,
    threads: u32,
}

/// Times of one server, in milliseconds.
#[derive(Default)]
struct Times {
    first: Samples,
    token: Samples,
}

impl Times {
    fn push(&mut self, answer: &Streamed) {
        self.first.push(answer.first_ms());
        self.token.push(answer.token_ms());
    }
}

/// Both servers stay up, and are asked in turn.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let home = Home::new(bench, &[model], &format!("threads = {}", plan.threads))?;
    let ours = home.serve()?;
    let path = models::weights(bench.tree, model)?;
    let peer = bench.peers.serve(Setup { model: &path, threads: plan.threads, repacks: false }, 1, 2048);
    let theirs = match peer {
        Ok(server) => Some(server),
        Err(error) => {
            bench.record.skip(format!("llama-server's side of {model}"), format!("{error:#}"));
            None
        }
    };
    let ask = |server: &Server, round: u32| {
        // A prompt of its own each time, so that nothing is left to reuse.
        stream::complete(&server.url, model, &format!("{round}. {}", plan.prompt), plan.tokens)
    };
    ask(&ours, 0)?;
    theirs.as_ref().map(|server| ask(server, 0)).transpose()?;
    let (mut own, mut peer, mut direct) = (Times::default(), Times::default(), Samples::default());
    for round in 1..=bench.rounds {
        own.push(&ask(&ours, round)?);
        direct.push(engine_token_ms(&home, plan, model, round)?);
        if let Some(server) = &theirs {
            peer.push(&ask(server, round)?);
        }
    }
    let record = &mut bench.record;
    record.series(model, "token over HTTP, samovar", "ms", &own.token);
    record.series(model, "first token over HTTP, samovar", "ms", &own.first);
    record.series(model, "token by the engine's own clock", "ms", &direct);
    let added = own.token.median() - direct.median();
    record.figure(model, "added to a token by HTTP", "µs", added * 1000.0, None);
    record.figure(model, "first token over HTTP", "ms", own.first.median(), None);
    if theirs.is_some() {
        record.series(model, "token over HTTP, llama-server", "ms", &peer.token);
        record.series(model, "first token over HTTP, llama-server", "ms", &peer.first);
        record.figure(
            model,
            "token time, of llama-server's",
            "×",
            own.token.median() / peer.token.median(),
            None,
        );
        record.figure(
            model,
            "first token, of llama-server's",
            "×",
            own.first.median() / peer.first.median(),
            None,
        );
    }
    Ok(())
}

/// Time of a token as the engine itself measured it for the same request through the same daemon.
fn engine_token_ms(home: &Home, plan: &Parameters, model: &str, round: u32) -> Result<f64> {
    let prompt = format!("{round}. {}", plan.prompt);
    let question = Question { model, prompt: &prompt, tokens: plan.tokens };
    let told: serde_json::Value = serde_json::from_str(&home.ask(question, &["--json", "--raw"])?.stdout)?;
    let decode = told["timings"]["decode_ms"].as_f64();
    let tokens = told["usage"]["completion_tokens"].as_f64();
    match (decode, tokens) {
        (Some(decode), Some(tokens)) if tokens > 1.0 => Ok(decode / (tokens - 1.0)),
        _ => anyhow::bail!("`samovar run --json` told no timings.decode_ms or usage.completion_tokens"),
    }
}
