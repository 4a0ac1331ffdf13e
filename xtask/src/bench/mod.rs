//! `cargo x bench`: what a user would pick instead, measured side by side in one run, as ratios.
//!
//! ```text
//!   bench/scenarios/NAME.toml ─► scenario ─► measure/* ─► record ─► bench/runs/NAME.json
//!                                              │ subject   the built binary in a home of its own
//!                                              │ peers     llama.cpp's own tools, where their paths are given
//!                                              └ models    written by `cargo x bench models`
//! ```
//!
//! Measures whole programs from outside; never a part of the product linked in, and never in a test.

mod hub;
mod machine;
mod measure;
mod models;
mod peak_memory;
mod peers;
mod process_memory;
mod record;
mod samples;
mod scenario;
pub(crate) mod stream;
pub(crate) mod subject;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::tree::Tree;
use record::Record;
use scenario::Scenario;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,
    /// Scenarios, by the names of their files in bench/scenarios; without one, they are listed
    names: Vec<String>,
    /// Where the run files go
    #[arg(long, default_value = "bench/runs")]
    out: PathBuf,
    /// How often each side is measured, instead of what the scenario says
    #[arg(long)]
    rounds: Option<u32>,
    /// Only this model or attack of the scenario, such as `specials` of `attacks`; may be repeated. Its name becomes part
    /// of the run file's
    #[arg(long, value_name = "CASE")]
    only: Vec<String>,
    /// How long each attack lasts, instead of what the scenario says
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// A folder with the programs to measure, laid out as cargo's `target/release`; without it, they are built
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    #[command(flatten)]
    peers: peers::Arguments,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Write the random-weight models that scenarios use (needs python3 with venv)
    Models(models::Arguments),
}

/// What a measurement works with.
pub(crate) struct Bench<'a> {
    tree: &'a Tree,
    /// Where `samovar` and `examples/` lie.
    programs: &'a Path,
    /// How often each side is measured.
    rounds: u32,
    /// Which of the scenario's models or attacks; all where it is empty.
    only: &'a [String],
    /// How long each attack lasts; `None` = what the scenario says.
    seconds: Option<u64>,
    peers: &'a peers::Arguments,
    record: Record,
}

impl Bench<'_> {
    /// Whether this model or attack of the scenario is to be measured.
    fn is_wanted(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == case)
    }
}

/// Writes the models, lists the scenarios, or runs some.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    if let Some(Task::Models(wanted)) = &arguments.task {
        return models::write(tree, wanted);
    }
    if arguments.names.is_empty() {
        return list(tree);
    }
    let scenarios: Vec<Scenario> =
        arguments.names.iter().map(|name| Scenario::read(tree, name)).collect::<Result<_>>()?;
    let programs = arguments.programs.clone().map_or_else(|| build(tree), Ok)?;
    for scenario in scenarios {
        run_one(tree, &programs, arguments, &scenario)
            .with_context(|| format!("the scenario {}", scenario.name))?;
    }
    Ok(())
}

/// Builds what scenarios measure, and tells where it lies.
fn build(tree: &Tree) -> Result<PathBuf> {
    for what in [
        ["--package", "samovar-cli", "--bin", "samovar"],
        ["--package", "samovar-testhub", "--bin", "samovar-testhub"],
        ["--package", "samovar-store", "--example", "store_bench"],
        ["--package", "samovar-chat", "--example", "chats_bench"],
        ["--package", "samovar-pool", "--example", "acquire_bench"],
        ["--package", "samovar-pool", "--example", "policies_bench"],
        ["--package", "samovar-pool", "--example", "step_bench"],
        ["--package", "samovar-grammar", "--example", "compile"],
        ["--package", "samovar-llama", "--example", "engine_bench"],
    ] {
        process::run(tree.root(), "cargo", &[&["build", "--quiet", "--release"], &what[..]].concat())?;
    }
    Ok(tree.target()?.join("release"))
}

fn list(tree: &Tree) -> Result<()> {
    for name in scenario::names(tree)? {
        println!("{name:10} {}", Scenario::read(tree, &name)?.question);
    }
    Ok(())
}

fn run_one(tree: &Tree, programs: &Path, arguments: &Arguments, scenario: &Scenario) -> Result<()> {
    println!("── {}: {}", scenario.name, scenario.question);
    let rounds = arguments.rounds.unwrap_or(scenario.rounds);
    let name = [std::slice::from_ref(&scenario.name), &arguments.only[..]].concat().join("-");
    let path = tree.root().join(&arguments.out).join(format!("{name}.json"));
    let record = Record::begin(tree, scenario, rounds, &path)?;
    let (only, seconds, peers) = (&arguments.only[..], arguments.seconds, &arguments.peers);
    let mut bench = Bench { tree, programs, rounds, only, seconds, peers, record };
    measure::run(&mut bench, &scenario.measure)?;
    ensure!(!bench.record.is_empty(), "nothing was measured: nothing in the scenario is called {only:?}");
    bench.record.finish()?;
    println!("wrote {}", path.display());
    Ok(())
}
