//! The ways in which weights can lie in memory, each loaded warm and cold, shared and put to work, against llama.cpp's
//! default: packed anew at each load.
//!
//! ```text
//!   MODEL.gguf ──engine_bench --pack──► packed file (seconds, bytes)
//!       │      └─samovar pack: the same, into the store, with its digest, and the layouts measured (seconds)
//!       │                                    │
//!       └── repacked · mapped · packed · hybrid: load warm, load cold, three at once, prefill, decode
//! ```

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::peers::Setup;
use super::super::process_memory::ProcessMemory;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::subject::Home;
use super::super::{Bench, models};
use crate::process;

/// llama.cpp's default, which the others are measured against.
const DEFAULT: &str = "repacked";
const LAYOUTS: [&str; 4] = [DEFAULT, "mapped", "packed", "hybrid"];
/// What `engine_bench` tells of speed, and what we call it.
const SPEEDS: [(&str, &str); 3] = [
    ("prefill_tokens_per_s", "prefill"),
    ("decode_1_tokens_per_s", "decode × 1"),
    ("decode_8_tokens_per_s", "decode × 8"),
];

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    /// Tokens of the long prompt.
    prefill: u32,
    /// Tokens already there when llama.cpp's own tool decodes.
    prompt: u32,
    /// Tokens generated in each sequence.
    decode: u32,
    threads: u32,
    /// Processes that have the model loaded at the same time.
    processes: usize,
    /// The default's time ÷ that of packed.
    warm_load_at_least: f64,
    cold_load_at_least: f64,
    /// Packed's bytes ÷ the default's.
    memory_at_most: f64,
    /// Packed's speed ÷ the default's.
    speed_at_least: f64,
}

/// One layout's samples.
#[derive(Default)]
struct Layout {
    warm_ms: Samples,
    cold_ms: Samples,
    first_token_ms: Samples,
    cold_first_token_ms: Samples,
    together_mib: Samples,
    speeds: [Samples; 3],
}

/// Where everything lies.
struct LayoutBench<'a> {
    plan: &'a Parameters,
    program: PathBuf,
    model: PathBuf,
    packed: PathBuf,
}

/// Measures one model.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let folder = tempfile::tempdir_in(bench.tree.root().join("bench/models"))?;
    let layout_bench = LayoutBench {
        plan,
        program: bench.programs.join("examples/engine_bench"),
        model: models::weights(bench.tree, model)?,
        packed: folder.path().join("packed"),
    };
    layout_bench.make(bench, model)?;
    let making_s = make_by_hand(bench, plan, model)?;
    let mut layouts: [Layout; 4] = Default::default();
    let mut theirs: [Samples; 3] = Default::default();
    let mut has_theirs = true;
    for _ in 0..bench.rounds {
        for (name, samples) in LAYOUTS.iter().zip(&mut layouts) {
            layout_bench.round(name, samples)?;
        }
        if has_theirs && let Err(error) = layout_bench.theirs(bench, &mut theirs) {
            bench.record.skip(format!("{model}: llama.cpp's own tools"), format!("{error:#}"));
            has_theirs = false;
        }
    }
    keep(bench, plan, model, making_s, &layouts, &theirs);
    Ok(())
}

/// What a user does: `samovar pack`, with the start of the daemon. Returns the seconds that took.
fn make_by_hand(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<f64> {
    let home = Home::new(bench, &[model], &format!("threads = {}", plan.threads))?;
    let started = Instant::now();
    home.json(&["pack", model])?;
    let seconds = started.elapsed().as_secs_f64();
    bench.record.figure(model, "samovar pack, layouts measured as well", "s", seconds, None);
    Ok(seconds)
}

impl LayoutBench<'_> {
    /// Makes the packed file where `engine_bench` finds it.
    fn make(&self, bench: &mut Bench<'_>, model: &str) -> Result<()> {
        let line = [&*self.model.to_string_lossy(), "--pack", &*self.packed.to_string_lossy()];
        let told: Value = serde_json::from_str(&process::output(&self.program.to_string_lossy(), &line)?)?;
        let seconds =
            told["pack_and_sync_ms"].as_f64().context("engine_bench told no pack_and_sync_ms")? / 1e3;
        let mib = fs_err::metadata(&self.packed)?.len() as f64 / f64::from(1 << 20);
        bench.record.figure(model, "making the packed file", "s", seconds, None);
        bench.record.figure(model, "the packed file", "MiB", mib, None);
        Ok(())
    }

    fn round(&self, layout: &str, samples: &mut Layout) -> Result<()> {
        // The first one brings everything into the page cache.
        self.load(layout)?;
        let (load, first) = self.load(layout)?;
        samples.warm_ms.push(load);
        samples.first_token_ms.push(first);
        for file in [&self.model, &self.packed] {
            forget(file)?;
        }
        let (load, first) = self.load(layout)?;
        samples.cold_ms.push(load);
        samples.cold_first_token_ms.push(first);
        samples.together_mib.push(self.together_mib(layout)?);
        let [prefill, decode] = [self.plan.prefill, self.plan.decode].map(|number| number.to_string());
        let line = ["--only", "prefill,decode", "--prompt", &prefill, "--generate", &decode, "--repeat", "1"];
        let told = self.ask(layout, &line)?;
        for ((field, _), speed) in SPEEDS.iter().zip(&mut samples.speeds) {
            speed.push(told[field].as_f64().with_context(|| format!("engine_bench told no {field}"))?);
        }
        Ok(())
    }

    /// Until it is ready, and from there to a first token, in ms.
    fn load(&self, layout: &str) -> Result<(f64, f64)> {
        let told = self.ask(layout, &["--only", "load", "--repeat", "1", "--slots", "1"])?;
        let ms = |field: &str| told[field].as_f64().with_context(|| format!("engine_bench told no {field}"));
        Ok((ms("load_ms")?, ms("first_token_ms")?))
    }

    fn ask(&self, layout: &str, more: &[&str]) -> Result<Value> {
        let mut command = self.command(layout, more);
        let output = command.stderr(Stdio::null()).output()?;
        anyhow::ensure!(output.status.success(), "engine_bench failed with {layout} weights");
        let told: Value = serde_json::from_slice(&output.stdout)?;
        let reached = told["layout"].as_str().unwrap_or_default();
        anyhow::ensure!(reached == layout, "asked for {layout} weights, engine_bench had {reached}");
        Ok(told)
    }

    fn command(&self, layout: &str, more: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(&self.model).args(["--layout", layout, "--threads", &self.plan.threads.to_string()]);
        command.arg("--packed").arg(&self.packed).args(more);
        command
    }

    /// What some processes with this layout use together.
    fn together_mib(&self, layout: &str) -> Result<f64> {
        let mut running = Running(Vec::new());
        for _ in 0..self.plan.processes {
            let mut command =
                self.command(layout, &["--only", "load", "--repeat", "1", "--slots", "1", "--hold", "yes"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            running.0.push(command.spawn()?);
        }
        for child in &mut running.0 {
            let output = child.stdout.take().context("invariant: standard output is a pipe")?;
            // The last line of what it tells.
            let is_ready = BufReader::new(output).lines().map_while(Result::ok).any(|line| line == "}");
            anyhow::ensure!(is_ready, "engine_bench ended without a word");
        }
        let kib: Result<u64> =
            running.0.iter().map(|child| Ok(ProcessMemory::of(child.id())?.proportional_kib)).sum();
        Ok(kib? as f64 / 1024.0)
    }

    /// llama.cpp's own benchmarks in their default mode.
    fn theirs(&self, bench: &Bench<'_>, samples: &mut [Samples; 3]) -> Result<()> {
        let Parameters { prefill, prompt, decode, threads, .. } = *self.plan;
        let setup = Setup { model: &self.model, threads, repacks: true };
        let fill = bench.peers.prefill(setup, prefill, 1)?;
        let decoded = bench.peers.decode(setup, prompt, decode, &[1, 8], 1)?;
        for (speed, samples) in std::iter::once(fill).chain(decoded).zip(samples) {
            samples.push(speed);
        }
        Ok(())
    }
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

/// Takes a file out of the page cache. No process may have it mapped.
fn forget(file: &Path) -> Result<()> {
    process::output("sync", &[&file.to_string_lossy()])?;
    let file = format!("if={}", file.display());
    process::output("dd", &[&file, "iflag=nocache", "count=0", "status=none"])?;
    Ok(())
}

fn keep(
    bench: &mut Bench<'_>,
    plan: &Parameters,
    model: &str,
    making_s: f64,
    layouts: &[Layout; 4],
    theirs: &[Samples; 3],
) {
    for (name, layout) in LAYOUTS.iter().zip(layouts) {
        keep_layout(bench, &format!("{model}, {name}"), plan, layout);
    }
    let [repacked, _, packed, hybrid] = layouts;
    let record = &mut bench.record;
    let mut ratio = |what: &str, ratio: f64, target| record.figure(model, what, "×", ratio, target);
    let saved_ms = repacked.warm_ms.median() - packed.warm_ms.median();
    for (what, slow, fast, at_least) in [
        ("warm load, repacked ÷ packed", &repacked.warm_ms, &packed.warm_ms, plan.warm_load_at_least),
        ("cold load, repacked ÷ packed", &repacked.cold_ms, &packed.cold_ms, plan.cold_load_at_least),
    ] {
        ratio(what, slow.median() / fast.median(), Some(Target::AtLeast(at_least)));
    }
    let memory = packed.together_mib.median() / repacked.together_mib.median();
    let what = format!("{} processes, packed ÷ repacked", plan.processes);
    ratio(&what, memory, Some(Target::AtMost(plan.memory_at_most)));
    for (place, (_, name)) in SPEEDS.iter().enumerate() {
        let base = repacked.speeds[place].median();
        for (layout, samples) in [("packed", packed), ("hybrid", hybrid)] {
            let target = (layout == "packed").then_some(Target::AtLeast(plan.speed_at_least));
            ratio(&format!("{name}, {layout} ÷ repacked"), samples.speeds[place].median() / base, target);
        }
        if !theirs[place].values().is_empty() {
            let peer = theirs[place].median();
            ratio(
                &format!("{name}, packed ÷ llama.cpp's own tool"),
                packed.speeds[place].median() / peer,
                None,
            );
        }
    }
    record.figure(model, "loads until samovar pack is paid back", "loads", making_s * 1e3 / saved_ms, None);
    for ((_, name), samples) in SPEEDS.iter().zip(theirs).filter(|(_, samples)| !samples.values().is_empty())
    {
        record.series(model, &format!("{name}, llama.cpp's own tool"), "tokens/s", samples);
    }
}

fn keep_layout(bench: &mut Bench<'_>, case: &str, plan: &Parameters, layout: &Layout) {
    let together = format!("{} processes", plan.processes);
    let times = [
        ("load, page cache warm", "ms", &layout.warm_ms),
        ("load to first token, page cache warm", "ms", &layout.first_token_ms),
        ("load, page cache cold", "ms", &layout.cold_ms),
        ("load to first token, page cache cold", "ms", &layout.cold_first_token_ms),
        (together.as_str(), "MiB", &layout.together_mib),
    ];
    let speeds = SPEEDS.iter().zip(&layout.speeds).map(|((_, name), samples)| (*name, "tokens/s", samples));
    for (what, unit, samples) in times.into_iter().chain(speeds) {
        bench.record.series(case, what, unit, samples);
        bench.record.figure(case, what, unit, samples.median(), None);
    }
}
