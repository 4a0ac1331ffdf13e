//! What each eviction policy loads on synthetic traces, in seconds, beside a clairvoyant and a bound.
//!
//! `cargo run --release -p samovar-pool --example policies_bench -- [requests] [seed]` prints one JSON object. Times
//! are virtual: the same arguments print the same on every machine.
#![allow(clippy::print_stdout, reason = "the result is the output")]

use anyhow::{Context, Result};
use samovar_core::units::KeepAlive;
use samovar_pool::replay::synthetic::{self, Kind};
use samovar_pool::replay::{Report, Subject, Trace, bound, offline, replay};
use samovar_pool::{Budget, EvictionPolicy, PoolConfig};
use serde_json::{Map, Value, json};

/// The budget as a part of what all models need together.
const BUDGET_PERCENTS: [u64; 2] = [25, 50];

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let requests = numbers.next().transpose().context("requests must be a number")?.unwrap_or(20_000);
    let seed = numbers.next().transpose().context("the seed must be a number")?.unwrap_or(1);
    let mut cases = Vec::new();
    for kind in Kind::ALL {
        let trace = synthetic::trace(kind, requests as usize, seed);
        for percent in BUDGET_PERCENTS {
            cases.extend([true, false].map(|can_park| case(kind, &trace, percent, can_park)));
        }
    }
    println!("{:#}", json!({ "requests": requests, "seed": seed, "cases": cases }));
    Ok(())
}

/// Nothing leaves for its keep-alive, so that the policy alone decides.
fn case(kind: Kind, trace: &Trace, percent: u64, can_park: bool) -> Value {
    let subject = |model| Subject::new(model, None).expect("invariant: synthetic models have facts");
    let subjects: Vec<Subject> =
        trace.models.iter().map(|model| subject(model).kept(KeepAlive::UntilEvicted)).collect();
    let all_bytes: u64 = subjects.iter().map(|subject| subject.costs.footprint.total_bytes()).sum();
    let budget_bytes = all_bytes * percent / 100;
    let mut reports: Map<String, Value> = EvictionPolicy::ALL
        .into_iter()
        .map(|policy| {
            let mut config = PoolConfig::with_budget(Budget::fixed(budget_bytes, "a bench"));
            config.eviction = policy;
            config.parked_ms = u64::MAX / 4;
            (policy.name().to_owned(), seconds(&replay(trace, &subjects, &config, can_park)))
        })
        .collect();
    reports.insert("offline".to_owned(), seconds(&offline(trace, &subjects, budget_bytes, can_park)));
    json!({
        "trace": kind.name(),
        "budget_percent": percent,
        "budget_bytes": budget_bytes,
        "can_park": can_park,
        "load_seconds": reports,
        "bound_seconds": bound(trace, &subjects, budget_bytes, can_park) as f64 / 1e3,
    })
}

fn seconds(report: &Report) -> Value {
    json!(report.load_ms as f64 / 1e3)
}
