//! A long prompt again after its model was evicted, and after the daemon was started anew, against computing it.
//!
//! ```text
//!   never seen   model on disk ─► load ─► compute the prompt  ─► first token
//!   evicted      stop (the state is kept) ─► load ─► restore ───► first token
//!   restarted    shutdown, serve ─► load ─► restore ────────────► first token
//! ```
//!
//! All three begin with a model that is on the disk and not in memory, so that each pays for the load.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::super::Bench;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::stream;
use super::super::subject::{Home, Server, milliseconds};

/// How long a model may take to leave memory.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    /// Repeated until the prompt is about long enough.
    sentence: String,
    /// Tokens that the prompt has, within a few per cent: sentences in a row may have fewer than each alone.
    prompt_tokens: u64,
    context: u32,
    threads: u32,
    /// Computing ÷ taking up again.
    at_least: f64,
}

/// Milliseconds to the first token, but for the last.
#[derive(Default)]
struct Times {
    never_seen: Samples,
    same_process: Samples,
    evicted: Samples,
    restarted: Samples,
    /// Until a model is out of memory and its prompt on the disk.
    leaving: Samples,
    prompt_tokens: u64,
}

/// Measures one model.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let settings =
        format!("threads = {}\nslots = 1\ncontext_tokens = {}\nkeep_alive = -1", plan.threads, plan.context);
    let home = Home::new(bench, &[model], &settings)?;
    let mut server = home.serve()?;
    // A word of the sentence is a token or more, whatever the vocabulary.
    let one = stream::complete(&server.url, model, &plan.sentence, 1)?.prompt_tokens.max(2);
    let repeats = (plan.prompt_tokens / (one - 1) + 1) as usize;
    let mut times = Times::default();
    for round in 0..bench.rounds {
        // A beginning of its own each time, so that nothing of an earlier round can be reused.
        let text = format!("Chapter {round}. {}", plan.sentence.repeat(repeats));
        let ask = |server: &Server, question: &str, is_known: bool| {
            let prompt = format!("{text} Question {question}:");
            let answer = stream::complete(&server.url, model, &prompt, 1)?;
            let known = if is_known { answer.prompt_tokens * 9 / 10 } else { 0 };
            ensure!(
                answer.cached_tokens >= known && (is_known || answer.cached_tokens < plan.prompt_tokens / 10),
                "question {question}: {} of {} tokens were not computed",
                answer.cached_tokens,
                answer.prompt_tokens
            );
            Ok(answer)
        };
        evict(&home, model)?;
        let first = ask(&server, "one", false)?;
        times.never_seen.push(first.first_ms());
        times.prompt_tokens = first.prompt_tokens;
        times.same_process.push(ask(&server, "two", true)?.first_ms());
        times.leaving.push(evict(&home, model)?);
        times.evicted.push(ask(&server, "three", true)?.first_ms());
        home.shut_down()?;
        drop(server);
        server = home.serve()?;
        times.restarted.push(ask(&server, "four", true)?.first_ms());
    }
    drop(server);
    keep(bench, plan, model, &times);
    Ok(())
}

/// Takes the model out of memory; says how many milliseconds that took.
fn evict(home: &Home, model: &str) -> Result<f64> {
    let began = Instant::now();
    let output = home.command(&["stop", model]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    loop {
        let stats = home.json(&["stats"])?;
        let models = stats["models"].as_array().context("`samovar stats` has no models")?;
        if models.iter().filter(|known| known["name"] == model).all(|known| known["state"] == "absent") {
            return Ok(milliseconds(began.elapsed()));
        }
        if began.elapsed() > GONE_WITHIN {
            bail!("{model} does not leave memory");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn keep(bench: &mut Bench<'_>, plan: &Parameters, model: &str, times: &Times) {
    let record = &mut bench.record;
    record.figure(model, "tokens of the prompt", "", times.prompt_tokens as f64, None);
    for (what, samples) in [
        ("first token, prompt never seen, model on disk", &times.never_seen),
        ("first token, same process", &times.same_process),
        ("first token, after eviction", &times.evicted),
        ("first token, after a restart of the daemon", &times.restarted),
        ("leaving memory, prompt kept", &times.leaving),
    ] {
        record.series(model, what, "ms", samples);
        record.figure(model, what, "ms", samples.median(), None);
    }
    let target = Some(Target::AtLeast(plan.at_least));
    let computed = times.never_seen.median();
    for (what, samples) in [
        ("computing ÷ taking up after eviction", &times.evicted),
        ("computing ÷ taking up after a restart", &times.restarted),
    ] {
        record.figure(model, what, "×", computed / samples.median(), target);
    }
}
