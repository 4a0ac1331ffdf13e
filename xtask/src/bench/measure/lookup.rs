//! How long the pool takes to hand out a slot of a model that is ready, among many models: the library alone.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Bench;
use super::super::record::Target;
use super::super::samples::Samples;
use crate::process;

/// What the example measures: the name in its JSON, and ours.
const SIDES: [(&str, &str); 2] = [("one_caller", "one caller"), ("eight_callers", "eight callers")];

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Models that the pool knows.
    models: u32,
    /// Slots taken and given back.
    acquires: u32,
    at_most_ms: f64,
}

/// Runs the pool's own example, which prints its quantiles as JSON.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Parameters) -> Result<()> {
    let program = bench.programs.join("examples/acquire_bench");
    let (models, acquires) = (plan.models.to_string(), plan.acquires.to_string());
    let mut measured = SIDES.map(|side| (side, Samples::default(), Samples::default()));
    for _ in 0..bench.rounds {
        let told: Value =
            serde_json::from_str(&process::output(&program.to_string_lossy(), &[&models, &acquires])?)?;
        for (side, p50, p99) in &mut measured {
            p50.push(told_ms(&told[side.0]["acquire_us_p50"])?);
            p99.push(told_ms(&told[side.0]["acquire_us_p99"])?);
        }
    }
    let target = Some(Target::AtMost(plan.at_most_ms));
    for ((_, shown), p50, p99) in &measured {
        let case = format!("{models} models, {shown}");
        for (what, samples) in [("median", p50), ("99th percentile", p99)] {
            bench.record.series(&case, what, "ms", samples);
            bench.record.figure(&case, what, "ms", samples.median(), target);
        }
    }
    Ok(())
}

fn told_ms(microseconds: &Value) -> Result<f64> {
    Ok(microseconds.as_f64().context("acquire_bench told no time of an acquire")? / 1000.0)
}
