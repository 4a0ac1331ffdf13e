//! `cargo x soak`: the random simulations with many more seeds than every change can afford.

use anyhow::Result;

use crate::process;
use crate::tree::Tree;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many seeds the pool's simulation runs
    #[arg(long, default_value_t = 1_000_000)]
    seeds: u64,
}

/// Runs the pool's simulation with `SAMOVAR_SIMULATION_SEEDS` raised.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let seeds = format!("SAMOVAR_SIMULATION_SEEDS={}", arguments.seeds);
    let line = [&seeds, "cargo", "test", "--release", "--package", "samovar-pool", "simulation"];
    process::run(tree.root(), "env", &line)
}
