//! A new process with the artifact on disk against the first start ever, and against the disk's own speed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::super::hub::{Hub, REPOSITORY};
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::subject::{Home, Question, milliseconds};
use super::super::{Bench, models};
use crate::process;

/// The figure of the product's promise.
const LESS_AT_LEAST: f64 = 0.9;
const FIRST_TOKEN_AT_MOST_MS: f64 = 1_000.0;

/// Which models.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    prompt: String,
}

#[derive(Default)]
struct Times {
    /// `run` in a home that has nothing: download, check, load, one token.
    first: Samples,
    /// Of that, the fetch: what a `pull` into another empty home takes.
    pull: Samples,
    /// `run` in a new process, page cache warm.
    second: Samples,
    /// The same with the weights out of the page cache.
    cold: Samples,
    /// Reading the cold file from end to end.
    read: Samples,
}

/// Measures one model.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let weights = models::weights(bench.tree, model)?;
    let name = format!("{model}.gguf");
    let hub = Hub::of(bench.programs, &name, &weights)?;
    let mut times = Times::default();
    for _ in 0..bench.rounds {
        round(bench, plan, &hub, &mut times)?;
    }
    let record = &mut bench.record;
    for (what, samples) in [
        ("first start: fetch, check, load, one token", &times.first),
        ("pull alone", &times.pull),
        ("second start, page cache warm", &times.second),
        ("second start, page cache cold", &times.cold),
        ("reading the cold file", &times.read),
    ] {
        record.series(model, what, "ms", samples);
        record.figure(model, what, "ms", samples.median(), None);
    }
    let (first, second) = (times.first.median(), times.second.median());
    let target = Some(Target::AtLeast(LESS_AT_LEAST));
    record.figure(
        model,
        "second start less than the first, download included",
        "",
        1.0 - second / first,
        target,
    );
    let without = (first - times.pull.median()).max(f64::EPSILON);
    record.figure(model, "the same, download excluded", "", 1.0 - second / without, None);
    let target = Some(Target::AtMost(FIRST_TOKEN_AT_MOST_MS));
    record.figure(model, "process start to first token from the store", "ms", second, target);
    record.figure(
        model,
        "cold start ÷ reading the file",
        "×",
        times.cold.median() / times.read.median(),
        None,
    );
    Ok(())
}

fn round(bench: &Bench<'_>, plan: &Parameters, hub: &Hub, times: &mut Times) -> Result<()> {
    let reference = format!("hf://{REPOSITORY}:Q4_K_M");
    let ask = |home: &Home| {
        let question = Question { model: &reference, prompt: &plan.prompt, tokens: 1 };
        let mut command = home.run_command(question, &["--no-daemon"]);
        let began = Instant::now();
        let output = command.env("HF_ENDPOINT", &hub.endpoint).output().context("cannot start samovar")?;
        let took = milliseconds(began.elapsed());
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(took)
    };
    let other = Home::new(bench, &[], "")?;
    let began = Instant::now();
    let output = other.command(&["pull", &reference]).env("HF_ENDPOINT", &hub.endpoint).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    times.pull.push(milliseconds(began.elapsed()));
    drop(other);
    let home = Home::new(bench, &[], "")?;
    times.first.push(ask(&home)?);
    times.second.push(ask(&home)?);
    times.second.push(ask(&home)?);
    let blob = largest_below(&home.path().join("cache/blobs"))?;
    forget(&blob)?;
    let began = Instant::now();
    process::output("dd", &[&format!("if={}", blob.display()), "of=/dev/null", "bs=4M", "status=none"])?;
    times.read.push(milliseconds(began.elapsed()));
    forget(&blob)?;
    times.cold.push(ask(&home)?);
    Ok(())
}

/// Takes a file out of the page cache. No process may have it mapped.
fn forget(file: &Path) -> Result<()> {
    process::output("sync", &[&file.to_string_lossy()])?;
    let file = format!("if={}", file.display());
    process::output("dd", &[&file, "iflag=nocache", "count=0", "status=none"])?;
    Ok(())
}

fn largest_below(folder: &Path) -> Result<PathBuf> {
    let mut largest = (0, None);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            if facts.is_dir() {
                folders.push(entry.path());
            } else if facts.len() > largest.0 {
                largest = (facts.len(), Some(entry.path()));
            }
        }
    }
    largest.1.context("the store has no blobs")
}
