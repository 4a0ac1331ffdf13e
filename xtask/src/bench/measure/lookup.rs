//! How long the pool takes to hand out a slot of a model that is ready, among many models: the library alone.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::super::Bench;
use super::super::record::Target;
use super::super::samples::Samples;
use crate::process;

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Models that the pool knows.
    models: u32,
    /// Slots taken and given back.
    acquires: u32,
    at_most_ms: f64,
}

/// Runs the pool's own example, which prints its quantiles as JSON.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Plan) -> Result<()> {
    let example =
        ["build", "--quiet", "--release", "--package", "samovar-pool", "--example", "acquire_bench"];
    process::run(bench.tree.root(), "cargo", &example)?;
    let program = bench.tree.target()?.join("release/examples/acquire_bench");
    let (models, acquires) = (plan.models.to_string(), plan.acquires.to_string());
    let (mut p50, mut p99) = (Samples::default(), Samples::default());
    for _ in 0..bench.rounds {
        let line = ["--models", &models, "--acquires", &acquires];
        let told: serde_json::Value =
            serde_json::from_str(&process::output(&program.to_string_lossy(), &line)?)?;
        p50.push(told["p50_us"].as_f64().context("acquire_bench told no p50_us")? / 1000.0);
        p99.push(told["p99_us"].as_f64().context("acquire_bench told no p99_us")? / 1000.0);
    }
    let case = format!("{models} models");
    for (what, samples) in [("median", &p50), ("99th percentile", &p99)] {
        bench.record.series(&case, what, "ms", samples);
        bench.record.figure(&case, what, "ms", samples.median(), Some(Target::AtMost(plan.at_most_ms)));
    }
    Ok(())
}
