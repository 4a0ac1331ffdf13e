//! Measures the store with many artifacts on the disk: `store_bench [ARTIFACTS]`, 10,000 by default. Prints JSON.
//!
//! Every artifact is real: a blob of 100 KiB that was hashed and synced, a manifest, a row. What is timed is finding
//! one by what a user writes, opening it with its lease, opening the whole store, and collecting.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use samovar_core::ModelRef;
use samovar_store::{ArtifactKey, CollectOptions, Role, Store, StoreConfig};
use serde_json::{Value, json};

const FILE_BYTES: usize = 100 << 10;
/// Times of each kind.
const TURNS: usize = 20_000;

fn main() -> Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse()).context("ARTIFACTS")?;
    ensure!(count > 1, "at least two artifacts");
    let folder = tempfile::tempdir()?;
    report(&measure(folder.path(), count)?)
}

fn measure(folder: &Path, count: usize) -> Result<Value> {
    let config = |quota| {
        let mut config = StoreConfig::new(folder.join("cache"), folder.join("state"));
        config.max_size_bytes = Some(quota);
        config.min_free_bytes = 0;
        config.max_age = Duration::ZERO;
        config
    };
    let store = Store::open(config(u64::MAX))?;
    let (fill_ms, ()) = timed(|| (0..count).try_for_each(|number| ingest(&store, number)))?;
    let references: Vec<_> = (0..count).map(reference).collect::<Result<_>>()?;
    let picks = || (0..TURNS).map(|turn| turn * 7_919 % count);
    let find_us = spread(picks(), |place| {
        ensure!(store.find(&references[place])?.is_some(), "lost");
        Ok(())
    })?;
    let keys: Vec<_> = store.list()?.iter().map(|artifact| artifact.key_digest).collect();
    let open_us = spread(picks(), |place| {
        drop(store.open_artifact(&keys[place])?);
        Ok(())
    })?;
    let (list_ms, all) = timed(|| Ok(store.list()?))?;
    ensure!(all.len() == count, "some were lost");
    let (dry_run_ms, _) = timed(|| Ok(store.collect(&CollectOptions { is_dry_run: true, room_bytes: 0 })?))?;
    drop(store);
    let index_bytes = fs_err::metadata(folder.join("cache/index.sqlite3"))?.len();
    let artifact_bytes = (count * FILE_BYTES) as u64;
    let (reopen_ms, store) = timed(|| Ok(Store::open(config(artifact_bytes / 2))?))?;
    let (collect_ms, collected) =
        timed(|| Ok(store.collect(&CollectOptions { is_dry_run: false, room_bytes: 0 })?))?;
    Ok(json!({
        "artifacts": count,
        "artifact_bytes": artifact_bytes,
        "ingest_ms_each": fill_ms / count as f64,
        "find_us": find_us,
        "open_and_lease_us": open_us,
        "list_ms": list_ms,
        "reopen_ms": reopen_ms,
        "gc_dry_run_ms": dry_run_ms,
        "gc_ms": collect_ms,
        "gc_removed": collected.removed.len(),
        "index_bytes": index_bytes,
        "index_percent_of_artifacts": index_bytes as f64 * 100.0 / artifact_bytes as f64,
    }))
}

fn ingest(store: &Store, number: usize) -> Result<()> {
    let mut bytes = vec![number as u8; FILE_BYTES];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    let key = ArtifactKey {
        source: "hub".parse()?,
        model: format!("bench/model-{number}").parse()?,
        commit: format!("{number:040x}").parse()?,
        quant: "Q4_K_M".to_owned(),
        modality: "text".to_owned(),
    };
    let name = format!("hf://bench/model-{number}:Q4_K_M");
    store.ingest(key, &name, format!("model-{number}.gguf").parse()?, Role::Weights, &bytes)?;
    Ok(())
}

fn reference(number: usize) -> Result<samovar_core::model::ArtifactRef> {
    let text = format!("hf://bench/model-{number}:Q4_K_M");
    text.parse::<ModelRef>()?.artifact().context("a reference of the hub")
}

fn timed<T>(act: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let began = Instant::now();
    let done = act()?;
    Ok((began.elapsed().as_secs_f64() * 1e3, done))
}

/// Quantiles in microseconds.
fn spread(picks: impl Iterator<Item = usize>, mut act: impl FnMut(usize) -> Result<()>) -> Result<Value> {
    let mut times = Vec::with_capacity(TURNS);
    for pick in picks {
        let began = Instant::now();
        act(pick)?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(json!({ "p50": at(0.5), "p99": at(0.99), "max": at(1.0) }))
}

#[allow(clippy::print_stdout, reason = "the figures are what this program is for")]
fn report(figures: &Value) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(figures)?);
    Ok(())
}
