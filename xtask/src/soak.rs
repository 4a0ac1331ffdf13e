//! `cargo x soak`: the random simulations with many more seeds than every change can afford.

use anyhow::Result;

use crate::process;
use crate::tree::Tree;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many random lives the pool's simulation lives
    #[arg(long, default_value_t = 1_000_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 10_000)]
    first: u64,
}

/// Runs the pool's simulation with other and more seeds than the tests.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let seeds = format!("SAMOVAR_SIM_SEEDS={}", arguments.seeds);
    let first = format!("SAMOVAR_SIM_FIRST={}", arguments.first);
    let line = [&seeds, &first, "cargo", "test", "--release", "--package", "samovar-pool", "random_lives"];
    process::run(tree.root(), "env", &line)
}
