//! `cargo x soak`: what is too long for every change: many more random lives of the pool, every death of the
//! store, thousands of deaths of workers, first callers of many homes, and every fuzz target for a minute.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::tree::Tree;
use crate::{fuzz, process};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which parts; default: all, one after the other
    parts: Vec<Part>,
    /// Number of random simulations of the pool
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 10_000)]
    first: u64,
    /// Number of fresh homes
    #[arg(long, default_value_t = 200)]
    homes: u32,
    /// Simultaneous first callers of each fresh home
    #[arg(long, default_value_t = 128)]
    callers: u32,
    /// One fuzz target instead of all
    #[arg(long, value_name = "NAME")]
    fuzz_target: Option<String>,
    /// Seconds for which each fuzz target runs
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    fuzz_seconds: u32,
}

/// What can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Random simulations of the pool
    Pool,
    /// Kills and power cuts of the store, including packed files
    Store,
    /// Every system call that changes the disk fails once
    Disk,
    /// Kills workers and loads models a thousand times
    Workers,
    /// Many first callers of fresh homes are all answered
    Homes,
    /// Every fuzz target runs for a minute; needs the nightly toolchain
    Fuzz,
}

/// Runs the long loops, one after the other, and tells how long each took.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let all = [Part::Pool, Part::Store, Part::Disk, Part::Workers, Part::Homes, Part::Fuzz];
    for part in all.into_iter().filter(|part| arguments.parts.is_empty() || arguments.parts.contains(part)) {
        let started = Instant::now();
        let outcome = match part {
            Part::Pool => pool(tree, arguments),
            Part::Store => store(tree),
            Part::Disk => disk(tree),
            Part::Workers => workers(tree),
            Part::Homes => homes(tree, arguments),
            Part::Fuzz => fuzz::run(tree, arguments.fuzz_target.as_deref(), arguments.fuzz_seconds),
        };
        let name = format!("{part:?}").to_lowercase();
        outcome.with_context(|| format!("`cargo x soak {name}` repeats this part"))?;
        println!("── {name}: {} s", started.elapsed().as_secs());
    }
    Ok(())
}

/// Runs the pool's simulation with other and more seeds than the tests.
fn pool(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let seeds = format!("SAMOVAR_SIM_SEEDS={}", arguments.seeds);
    let first = format!("SAMOVAR_SIM_FIRST={}", arguments.first);
    let line = [&seeds, &first, "cargo", "test", "--release", "--package", "samovar-pool", "random_lives"];
    process::run(tree.root(), "env", &line)
}

/// Kills the store's processes, and cuts the power, at every system call that changes the cache. Power cuts need
/// root; what cannot be done is skipped with a reason.
fn store(tree: &Tree) -> Result<()> {
    let line = [
        "SAMOVAR_CRASH_ALL=1",
        "cargo",
        "test",
        "--release",
        "--package",
        "samovar-store",
        "--test",
        "crash",
    ];
    process::run(tree.root(), "env", &[&line[..], &["--", "--nocapture"]].concat())
}

/// Lets every single call of the store that changes the disk fail once.
fn disk(tree: &Tree) -> Result<()> {
    let line = ["test", "--release", "--package", "samovar-store", "--test", "faults", "--"];
    let what = ["--ignored", "--nocapture", "failing::a_disk_that_fails_at_any_call_loses_nothing"];
    process::run(tree.root(), "cargo", &[&line[..], &what[..]].concat())
}

/// Kills workers in the middle of their answers, and loads and unloads, until whatever leaks shows.
fn workers(tree: &Tree) -> Result<()> {
    let alone = ["--", "--nocapture", "--test-threads=1"];
    let scripted = ["SAMOVAR_CRASHES=1000", "SAMOVAR_LOADS=1000", "cargo", "test", "--release"];
    let of_crate = ["--package", "samovar-worker", "--test", "crashes"];
    process::run(tree.root(), "env", &[&scripted[..], &of_crate, &alone].concat())?;
    // Each of these crashes is one of four signals, and a stopped worker is noticed after 15 seconds.
    let real = ["SAMOVAR_CRASHES=25", "SAMOVAR_LOADS=1000", "cargo", "test", "--release"];
    let of_binary = ["--package", "samovar-cli", "--test", "binary", "crashes::"];
    process::run(tree.root(), "env", &[&real[..], &of_binary, &alone].concat())
}

/// Lets many first callers at once meet in one fresh home after another: all of them must be answered.
fn homes(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let homes = format!("SAMOVAR_HOMES={}", arguments.homes);
    let callers = format!("SAMOVAR_CALLERS={}", arguments.callers);
    let line =
        [&homes, &callers, "cargo", "test", "--release", "--package", "samovar-cli", "--test", "binary"];
    process::run(tree.root(), "env", &[&line[..], &["stampede::", "--", "--nocapture"]].concat())
}
