//! A file of thousands of conversations: listing, searching, opening, deleting. The library alone.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Bench;
use super::super::record::Target;
use super::super::samples::Samples;
use crate::process;

/// Figures of the example's JSON: where they are, what they are called here, and what they must not exceed.
const FIGURES: [(&str, &str, &str, Option<f64>); 11] = [
    ("/list_ms/p99", "list the latest 50, 99th percentile", "ms", Some(20.0)),
    ("/page_ms/p99", "list 50 behind one, 99th percentile", "ms", Some(20.0)),
    ("/search_rare_ms/p99", "search a rare word, 99th percentile", "ms", Some(20.0)),
    ("/search_frequent_ms/p99", "search a frequent word, 99th percentile", "ms", Some(20.0)),
    ("/open_ms/p99", "open one, 99th percentile", "ms", Some(20.0)),
    ("/export_ms/p99", "export one, 99th percentile", "ms", None),
    ("/turn_ms/p50", "keep a question and its answer, median", "ms", None),
    ("/turn_ms/p99", "keep a question and its answer, 99th percentile", "ms", None),
    ("/forget_ms", "delete one", "ms", None),
    ("/reopen_ms", "open the file", "ms", None),
    ("/file_mb", "the file", "MB", None),
];

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    conversations: u32,
}

/// Runs the chat's own example, which prints its figures as JSON.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Parameters) -> Result<()> {
    let program = bench.programs.join("examples/chats_bench");
    let mut told = Vec::new();
    for _ in 0..bench.rounds {
        let json = process::output(&program.to_string_lossy(), &[&plan.conversations.to_string()])?;
        told.push(serde_json::from_str::<Value>(&json)?);
    }
    let case = format!("{} conversations", plan.conversations);
    for (pointer, what, unit, most) in FIGURES {
        let value = |figures: &Value| figures.pointer(pointer).and_then(Value::as_f64);
        let samples: Samples = told
            .iter()
            .map(|figures| value(figures).with_context(|| format!("chats_bench told no {pointer}")))
            .collect::<Result<Vec<f64>>>()?
            .into_iter()
            .collect();
        bench.record.series(&case, what, unit, &samples);
        bench.record.figure(&case, what, unit, samples.median(), most.map(Target::AtMost));
    }
    Ok(())
}
