//! What preparing a published model takes, against llama.cpp's converter with `llama-quantize`; and what a second start from safetensors
//! takes, against the first.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::super::peak_memory::PeakMemory;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::subject::{Home, Question};
use super::super::{Bench, models};
use crate::process;

/// The format that the others' converter writes by itself.
const CONVERTED: &str = "F16";
/// What is written differs by a few lines of the header; more than this, and it is another mixture. 0..=1.
const DIFFERS_AT_MOST: f64 = 0.01;

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    /// Number formats: `F16`, and those that are quantized to.
    formats: Vec<String>,
    prompt: String,
    /// Their time ÷ ours.
    faster_at_least: f64,
    /// Our memory ÷ theirs.
    memory_at_most: f64,
    /// How much less time a second start takes, 0..=1.
    less_at_least: f64,
}

/// What one side takes to prepare a model.
#[derive(Default)]
struct PrepareCost {
    seconds: Samples,
    /// Of the process that has the most, in MiB.
    resident: Samples,
    anonymous: Samples,
}

impl PrepareCost {
    fn add(&mut self, seconds: f64, peak: PeakMemory) {
        self.seconds.push(seconds);
        self.resident.push(peak.resident_kib as f64 / 1024.0);
        self.anonymous.push(peak.anonymous_kib as f64 / 1024.0);
    }
}

/// Measures one model in each number format.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let folder = models::published(bench.tree, model)?;
    let folder = folder.to_string_lossy();
    for format in &plan.formats {
        let case = format!("{model}, {format}");
        preparing(bench, plan, &folder, format, &case)?;
        starting(bench, plan, &folder, format, &case)?;
    }
    Ok(())
}

/// Both sides in turn.
fn preparing(bench: &mut Bench<'_>, plan: &Parameters, folder: &str, format: &str, case: &str) -> Result<()> {
    let (mut ours, mut theirs, mut absent) = (PrepareCost::default(), PrepareCost::default(), None);
    for _ in 0..bench.rounds {
        let our_bytes = by_samovar(bench, folder, format, &mut ours)?;
        if absent.is_some() {
            continue;
        }
        match by_llama_cpp(bench, folder, format, &mut theirs) {
            Ok(bytes) => ensure!(
                (our_bytes / bytes - 1.0).abs() < DIFFERS_AT_MOST,
                "the prepared files are not the same: {our_bytes} bytes, and {bytes} of llama.cpp"
            ),
            Err(error) => absent = Some(error),
        }
    }
    keep(bench, case, "samovar prepare", &ours);
    if let Some(error) = absent {
        bench.record.skip(format!("llama.cpp's side of {case}"), format!("{error:#}"));
        return Ok(());
    }
    keep(bench, case, "llama.cpp", &theirs);
    let record = &mut bench.record;
    let faster = theirs.seconds.median() / ours.seconds.median();
    let target = Some(Target::AtLeast(plan.faster_at_least));
    record.figure(case, "time, llama.cpp ÷ samovar prepare", "×", faster, target);
    let memory = ours.resident.median() / theirs.resident.median();
    let target = Some(Target::AtMost(plan.memory_at_most));
    record.figure(case, "peak resident memory, samovar prepare ÷ llama.cpp", "×", memory, target);
    let memory = ours.anonymous.median() / theirs.anonymous.median();
    record.figure(case, "peak anonymous memory, samovar prepare ÷ llama.cpp", "×", memory, None);
    Ok(())
}

fn keep(bench: &mut Bench<'_>, case: &str, side: &str, cost: &PrepareCost) {
    for (what, unit, samples) in [
        ("time", "s", &cost.seconds),
        ("peak resident memory", "MiB", &cost.resident),
        ("peak anonymous memory", "MiB", &cost.anonymous),
    ] {
        let what = format!("{what}, {side}");
        bench.record.series(case, &what, unit, samples);
        bench.record.figure(case, &what, unit, samples.median(), None);
    }
}

/// By a daemon that runs already, in a home that has nothing. Returns the bytes of the prepared file.
fn by_samovar(bench: &Bench<'_>, folder: &str, format: &str, cost: &mut PrepareCost) -> Result<f64> {
    let home = Home::new(bench, &[], "")?;
    let server = home.serve()?;
    settle()?;
    let began = Instant::now();
    let prepare = || home.json(&["prepare", folder, "--quantize", format]);
    let (told, peak) = PeakMemory::while_doing(server.pid(), prepare);
    let seconds = began.elapsed().as_secs_f64();
    let bytes = told?[0]["prepared"]["bytes"].as_f64();
    cost.add(seconds, peak);
    bytes.context("`samovar prepare --json` told no prepared.bytes")
}

/// By the converter, and then by `llama-quantize` where the format is not the converter's. Returns the bytes of the last file.
fn by_llama_cpp(bench: &Bench<'_>, folder: &str, format: &str, cost: &mut PrepareCost) -> Result<f64> {
    let place = tempfile::tempdir()?;
    let (converted, quantized) = (place.path().join("converted.gguf"), place.path().join("quantized.gguf"));
    let program = bench.tree.root().join("tools/bench/peer_convert.py");
    let is_converted = format == CONVERTED;
    // What is quantized are the floats as published, as on our side.
    let floats = if is_converted { "f16" } else { "bf16" };
    let mut convert = bench.peers.convert(&program, folder, &converted, floats)?;
    let mut quantize =
        if is_converted { None } else { Some(bench.peers.quantize(&converted, &quantized, format)?) };
    settle()?;
    let (mut seconds, mut peak) = watched(&mut convert)?;
    if let Some(quantize) = &mut quantize {
        let (more_seconds, other_peak) = watched(quantize)?;
        seconds += more_seconds;
        peak = peak.max(other_peak);
    }
    cost.add(seconds, peak);
    let last = if is_converted { converted } else { quantized };
    Ok(fs_err::metadata(last)?.len() as f64)
}

/// Seconds of a program, and its peak memory.
fn watched(command: &mut Command) -> Result<(f64, PeakMemory)> {
    let began = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("{command:?}"))?;
    let (output, peak) = PeakMemory::while_doing(child.id(), || child.wait_with_output());
    let seconds = began.elapsed().as_secs_f64();
    let output = output?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok((seconds, peak))
}

/// From `samovar run FOLDER` without a daemon to its end after one token, twice in one home: the second time the prepared file is there.
fn starting(bench: &mut Bench<'_>, plan: &Parameters, folder: &str, format: &str, case: &str) -> Result<()> {
    let settings = format!("quantization = \"{format}\"");
    let question = Question { model: folder, prompt: &plan.prompt, tokens: 1 };
    let [mut first, mut second] = [const { Samples::new() }; 2];
    for _ in 0..bench.rounds {
        let home = Home::new(bench, &[], &settings)?;
        for samples in [&mut first, &mut second] {
            settle()?;
            samples.push(home.ask(question, &[])?.elapsed_ms);
            home.shut_down()?;
        }
    }
    let record = &mut bench.record;
    for (what, samples) in
        [("first start: prepare, load, one token", &first), ("second start: load, one token", &second)]
    {
        record.series(case, what, "ms", samples);
        record.figure(case, what, "ms", samples.median(), None);
    }
    let less = 1.0 - second.median() / first.median();
    let target = Some(Target::AtLeast(plan.less_at_least));
    record.figure(case, "second start less than the first", "", less, target);
    Ok(())
}

/// Waits until the disk has what was written before, so that no side pays for the other.
fn settle() -> Result<()> {
    process::output("sync", &[]).map(drop)
}
