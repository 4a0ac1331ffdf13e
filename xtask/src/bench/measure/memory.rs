//! Memory of several processes on one model, of a parked model, and the way back from it.

use std::io::Read;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::super::Bench;
use super::super::process_memory::ProcessMemory;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::subject::{Home, Question};

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    prompt: String,
    /// Processes that have the model loaded at the same time.
    processes: usize,
    /// All of them ÷ one of them.
    at_most: f64,
    /// From asking a parked model to its first token.
    resume_at_most_ms: f64,
}

/// Processes first, then a daemon that parks the model.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    processes(bench, plan, model)?;
    parked(bench, plan, model)
}

fn processes(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let home = Home::new(bench, &[model], "layout = \"mapped\"\nslots = 1")?;
    let (mut one, mut all) = (Samples::default(), Samples::default());
    for _ in 0..bench.rounds {
        one.push(proportional_mib(&home, plan, model, 1)?);
        all.push(proportional_mib(&home, plan, model, plan.processes)?);
    }
    let record = &mut bench.record;
    let count = plan.processes;
    record.series(model, "one process", "MiB", &one);
    record.series(model, &format!("{count} processes"), "MiB", &all);
    record.figure(model, "one process", "MiB", one.median(), None);
    record.figure(model, &format!("{count} processes"), "MiB", all.median(), None);
    let ratio = all.median() / one.median();
    record.figure(model, &format!("{count} processes ÷ one"), "×", ratio, Some(Target::AtMost(plan.at_most)));
    Ok(())
}

/// What this many processes use together while each is in the middle of an answer.
fn proportional_mib(home: &Home, plan: &Parameters, model: &str, count: usize) -> Result<f64> {
    // Longer than it takes to look; the processes are ended before they are through.
    let question = Question { model, prompt: &plan.prompt, tokens: 2000 };
    let mut running = Running(Vec::new());
    for _ in 0..count {
        let mut command = home.run_command(question, &["--no-daemon"]);
        running.0.push(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    }
    for child in &mut running.0 {
        let output = child.stdout.as_mut().context("invariant: standard output is a pipe")?;
        output.read_exact(&mut [0; 1]).context("a process ended without a word")?;
    }
    let kib: u64 = running
        .0
        .iter()
        .map(|child| Ok(ProcessMemory::of(child.id())?.proportional_kib))
        .sum::<Result<u64>>()?;
    Ok(kib as f64 / 1024.0)
}

/// Processes that end when they are dropped.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself; then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn parked(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let home = Home::new(bench, &[model], "layout = \"mapped\"")?;
    let server = home.serve()?;
    let question = Question { model, prompt: &plan.prompt, tokens: 1 };
    let (mut resident, mut parked, mut resume, mut ready) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    let anonymous =
        || Ok::<f64, anyhow::Error>(ProcessMemory::of_family(server.pid())?.anonymous_kib as f64 / 1024.0);
    home.ask(question, &["--keep-alive", "-1"])?;
    for _ in 0..bench.rounds {
        ready.push(first_token_ms(&home, question, "-1")?);
        resident.push(anonymous()?);
        home.ask(question, &["--keep-alive", "0"])?;
        wait_until_parked(&home, model)?;
        parked.push(anonymous()?);
        resume.push(first_token_ms(&home, question, "-1")?);
    }
    let record = &mut bench.record;
    for (what, unit, samples) in [
        ("anonymous memory of the daemon and its worker, model ready", "MiB", &resident),
        ("anonymous memory of the daemon and its worker, model parked", "MiB", &parked),
        ("first token, model ready", "ms", &ready),
    ] {
        record.series(model, what, unit, samples);
        record.figure(model, what, unit, samples.median(), None);
    }
    record.series(model, "first token, model parked", "ms", &resume);
    let target = Some(Target::AtMost(plan.resume_at_most_ms));
    record.figure(model, "first token, model parked", "ms", resume.median(), target);
    Ok(())
}

/// From the request's arrival to its first token, as the runtime measured it.
fn first_token_ms(home: &Home, question: Question<'_>, keep_alive: &str) -> Result<f64> {
    let asked = home.ask(question, &["--json", "--keep-alive", keep_alive])?;
    let told: serde_json::Value = serde_json::from_str(&asked.stdout)?;
    told["timings"]["first_token_ms"].as_f64().context("`samovar run --json` told no timings.first_token_ms")
}

fn wait_until_parked(home: &Home, model: &str) -> Result<()> {
    for _ in 0..1000 {
        let stats = home.json(&["stats"])?;
        let models = stats["models"].as_array().context("`samovar stats` has no models")?;
        if models.iter().any(|row| row["name"] == model && row["state"] == "parked") {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    anyhow::bail!("{model} is not parked after its keep-alive ended")
}
