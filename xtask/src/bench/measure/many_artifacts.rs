//! The store with thousands of artifacts: finding one, opening it, collecting. The library alone.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Bench;
use super::super::record::Target;
use super::super::samples::Samples;
use crate::process;

/// Figures of the example's JSON: where they are, what they are called here, and what they must not exceed.
const FIGURES: [(&str, &str, &str, Option<f64>); 9] = [
    ("/find_us/p50", "find by name, median", "µs", None),
    ("/find_us/p99", "find by name, 99th percentile", "µs", Some(10_000.0)),
    ("/open_and_lease_us/p50", "open with lease, median", "µs", None),
    ("/open_and_lease_us/p99", "open with lease, 99th percentile", "µs", None),
    ("/list_ms", "list all", "ms", None),
    ("/reopen_ms", "open the store", "ms", None),
    ("/gc_dry_run_ms", "gc --dry-run", "ms", None),
    ("/gc_ms", "gc of about half", "ms", None),
    ("/index_percent_of_artifacts", "index, of artifacts of 100 KiB", "%", Some(5.0)),
];

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    artifacts: u32,
}

/// Runs the store's own example, which prints its figures as JSON.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Parameters) -> Result<()> {
    let program = bench.programs.join("examples/store_bench");
    let mut told = Vec::new();
    for _ in 0..bench.rounds {
        let json = process::output(&program.to_string_lossy(), &[&plan.artifacts.to_string()])?;
        told.push(serde_json::from_str::<Value>(&json)?);
    }
    let case = format!("{} artifacts", plan.artifacts);
    for (pointer, what, unit, most) in FIGURES {
        let value = |figures: &Value| figures.pointer(pointer).and_then(Value::as_f64);
        let samples: Samples = told
            .iter()
            .map(|figures| value(figures).with_context(|| format!("store_bench told no {pointer}")))
            .collect::<Result<Vec<f64>>>()?
            .into_iter()
            .collect();
        bench.record.series(&case, what, unit, &samples);
        bench.record.figure(&case, what, unit, samples.median(), most.map(Target::AtMost));
    }
    Ok(())
}
