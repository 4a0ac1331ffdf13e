//! `cargo x bench`: scenarios measured side by side, as ratios, into `bench/runs/`.

use anyhow::{Result, bail};

use crate::tree::Tree;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The scenario; without one, those there are get listed
    scenario: Option<String>,
}

/// Runs a scenario.
pub(crate) fn run(_tree: &Tree, arguments: &Arguments) -> Result<()> {
    match &arguments.scenario {
        None => bail!("no scenario exists yet"),
        Some(name) => bail!("no scenario is called {name}"),
    }
}
