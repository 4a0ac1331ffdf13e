//! How long one decision takes in a pool in which everything is busy and many models are wanted: the library alone.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Bench;
use super::super::record::Target;
use super::super::samples::Samples;
use crate::process;

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Models that the pool knows; those that no request waits for are in memory and in use.
    models: u32,
    /// Models that wait for memory.
    wanted: u32,
    /// Requests that wait for each of them.
    tickets: u32,
    /// Leases that are given back.
    turns: u32,
    at_most_ms: f64,
}

/// Runs the pool's own example, which prints its quantiles as JSON.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Parameters) -> Result<()> {
    let program = bench.programs.join("examples/step_bench");
    let numbers = [plan.models, plan.wanted, plan.tickets, plan.turns].map(|number| number.to_string());
    let [models, wanted, tickets, _] = &numbers;
    let [mut p50, mut p99] = [Samples::default(), Samples::default()];
    for _ in 0..bench.rounds {
        let arguments = numbers.each_ref().map(String::as_str);
        let told: Value = serde_json::from_str(&process::output(&program.to_string_lossy(), &arguments)?)?;
        p50.push(told_ms(&told["step_us_p50"])?);
        p99.push(told_ms(&told["step_us_p99"])?);
    }
    let target = Some(Target::AtMost(plan.at_most_ms));
    let case = format!("{models} models, {wanted} wanted by {tickets} each");
    for (what, samples) in [("median", &p50), ("99th percentile", &p99)] {
        bench.record.series(&case, what, "ms", samples);
        bench.record.figure(&case, what, "ms", samples.median(), target);
    }
    Ok(())
}

fn told_ms(microseconds: &Value) -> Result<f64> {
    Ok(microseconds.as_f64().context("step_bench told no time of a step")? / 1000.0)
}
