//! Tokens per second of the engine, against llama.cpp's own benchmarks of the same version.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::peers::Setup;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::{Bench, models};
use crate::process;

/// Sequences decoded at once, as our engine's example has them.
const SEQUENCES: [u32; 3] = [1, 4, 8];

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    models: Vec<String>,
    /// `mapped` is compared with llama.cpp's `--no-repack`, `repacked` with its default.
    layouts: Vec<String>,
    /// Tokens of the long prompt.
    prefill: u32,
    /// Tokens already there when decoding of several sequences is measured.
    prompt: u32,
    /// Tokens generated in each sequence.
    decode: u32,
    /// Repetitions within a round, with the model loaded once.
    repeat: u32,
    threads: u32,
    /// Ours ÷ theirs.
    at_least: f64,
}

/// Speeds of one side, in tokens per second.
#[derive(Default)]
struct Speeds {
    prefill: Samples,
    /// One for each of [`SEQUENCES`].
    decode: Vec<Samples>,
}

/// Measures each model in each layout, ours and theirs in turn.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Parameters) {
    if let Some(version) = bench.peers.version() {
        bench.record.version("llama.cpp", &version);
    }
    for model in &plan.models {
        if !bench.is_wanted(model) {
            continue;
        }
        for layout in &plan.layouts {
            if let Err(error) = measure(bench, plan, model, layout) {
                bench.record.skip(format!("{model}, {layout}"), format!("{error:#}"));
            }
        }
    }
}

fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str, layout: &str) -> Result<()> {
    let path = models::weights(bench.tree, model)?;
    let program = bench.programs.join("examples/engine_bench");
    let blank = || Speeds { decode: vec![Samples::default(); SEQUENCES.len()], ..Speeds::default() };
    let (mut ours, mut theirs, mut absent) = (blank(), blank(), None);
    for _ in 0..bench.rounds {
        add_ours(plan, &program, &path, layout, &mut ours)?;
        if absent.is_none() {
            absent = add_theirs(bench, plan, &path, layout, &mut theirs).err();
        }
    }
    let case = format!("{model}, {layout}");
    keep(bench, plan, &case, &ours, absent.is_none().then_some(&theirs));
    if let Some(error) = absent {
        bench.record.skip(format!("llama.cpp's side of {case}"), format!("{error:#}"));
    }
    Ok(())
}

fn add_ours(
    plan: &Parameters,
    program: &Path,
    model: &Path,
    layout: &str,
    speeds: &mut Speeds,
) -> Result<()> {
    let model = model.to_string_lossy();
    let [prefill, decode, threads, repeat] =
        [plan.prefill, plan.decode, plan.threads, plan.repeat].map(|number| number.to_string());
    let line = [
        &model,
        "--layout",
        layout,
        "--threads",
        &threads,
        "--prompt",
        &prefill,
        "--generate",
        &decode,
        "--repeat",
        &repeat,
        "--only",
        "prefill,decode",
    ];
    let told: Value = serde_json::from_str(&process::output(&program.to_string_lossy(), &line)?)?;
    let speed = |name: &str| told[name].as_f64().with_context(|| format!("engine_bench told no {name}"));
    speeds.prefill.push(speed("prefill_tokens_per_s")?);
    for (count, samples) in SEQUENCES.iter().zip(&mut speeds.decode) {
        samples.push(speed(&format!("decode_{count}_tokens_per_s"))?);
    }
    Ok(())
}

fn add_theirs(
    bench: &Bench<'_>,
    plan: &Parameters,
    model: &Path,
    layout: &str,
    speeds: &mut Speeds,
) -> Result<()> {
    let setup = Setup { model, threads: plan.threads, repacks: layout == "repacked" };
    let prefill = bench.peers.prefill(setup, plan.prefill, plan.repeat)?;
    let decode = bench.peers.decode(setup, plan.prompt, plan.decode, &SEQUENCES, plan.repeat)?;
    speeds.prefill.push(prefill);
    for (speed, samples) in decode.into_iter().zip(&mut speeds.decode) {
        samples.push(speed);
    }
    Ok(())
}

fn keep(bench: &mut Bench<'_>, plan: &Parameters, case: &str, ours: &Speeds, theirs: Option<&Speeds>) {
    let decode_names = SEQUENCES.iter().map(|count| format!("decode × {count}"));
    let names: Vec<String> =
        std::iter::once(format!("prefill {}", plan.prefill)).chain(decode_names).collect();
    let flat = |speeds: &Speeds| -> Vec<Samples> {
        std::iter::once(&speeds.prefill).chain(&speeds.decode).cloned().collect()
    };
    let theirs = theirs.map(flat);
    for (place, (name, samples)) in names.iter().zip(flat(ours)).enumerate() {
        bench.record.series(case, &format!("{name}, samovar"), "tokens/s", &samples);
        bench.record.figure(case, name, "tokens/s", samples.median(), None);
        if let Some(theirs) = &theirs {
            bench.record.series(case, &format!("{name}, llama.cpp"), "tokens/s", &theirs[place]);
            let ratio = samples.median() / theirs[place].median();
            let target = Some(Target::AtLeast(plan.at_least));
            bench.record.figure(case, &format!("{name}, of llama.cpp's"), "×", ratio, target);
        }
    }
}
