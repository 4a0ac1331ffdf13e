//! What each eviction policy loads on synthetic traces: virtual time, so that one round says all.

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
    /// Requests of each trace.
    requests: u32,
    seed: u32,
    /// Load time of gdsf and priority as a part of that of lru.
    at_most_of_lru: f64,
}

/// Runs the pool's own example, which prints seconds of loading as JSON.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Parameters) -> Result<()> {
    let program = bench.programs.join("examples/policies_bench");
    let (requests, seed) = (plan.requests.to_string(), plan.seed.to_string());
    let told: Value =
        serde_json::from_str(&process::output(&program.to_string_lossy(), &[&requests, &seed])?)?;
    for case in told["cases"].as_array().context("policies_bench told no cases")? {
        one(bench, plan, case).context("policies_bench told something else")?;
    }
    Ok(())
}

fn one(bench: &mut Bench<'_>, plan: &Parameters, case: &Value) -> Option<()> {
    let parking = if case["can_park"].as_bool()? { "parking" } else { "no parking" };
    let name = format!("{} {} %, {parking}", case["trace"].as_str()?, case["budget_percent"]);
    let seconds = case["load_seconds"].as_object()?;
    let lru = seconds.get("lru")?.as_f64()?;
    for (policy, seconds) in seconds {
        let seconds = seconds.as_f64()?;
        bench.record.series(&name, policy, "s", &[seconds].into_iter().collect::<Samples>());
        let target = matches!(policy.as_str(), "gdsf" | "priority");
        let target = target.then_some(Target::AtMost(plan.at_most_of_lru));
        if policy != "lru" {
            bench.record.figure(&name, &format!("{policy}, load time"), "× lru", seconds / lru, target);
        }
    }
    let bound = case["bound_seconds"].as_f64()?;
    bench.record.series(&name, "bound", "s", &[bound].into_iter().collect::<Samples>());
    bench.record.figure(&name, "the bound", "× lru", bound / lru, None);
    Some(())
}
