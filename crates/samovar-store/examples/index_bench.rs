//! Measures the store's index alone: `index_bench [ARTIFACTS]`, 10,000 by default. Prints JSON.
//!
//! Each artifact has one to three files of 100 KiB; their digests are made up, since the index never
//! looks at the bytes.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use samovar_core::Digest;
use samovar_store::manifest::{FORMAT, ManifestFile};
use samovar_store::{ArtifactKey, Manifest, MeasuredIndex, Role};
use serde_json::{Value, json};

const FILE_BYTES: u64 = 100 << 10;
/// Lookups that are timed, of each kind.
const LOOKUPS: usize = 50_000;
/// Artifacts recorded in one transaction while the index is filled.
const BATCH: usize = 1_000;

fn main() -> Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse()).context("ARTIFACTS")?;
    ensure!(count > 0, "at least one artifact");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("index.sqlite3");
    let manifests: Vec<Manifest> = (0..count).map(manifest).collect::<Result<_>>()?;
    let figures = measure(&path, &manifests)?;
    report(&figures)
}

fn measure(path: &Path, manifests: &[Manifest]) -> Result<Value> {
    let index = MeasuredIndex::open(path)?;
    let (fill_ms, ()) = timed(|| manifests.chunks(BATCH).try_for_each(|batch| index.commit(batch)))?;
    let commit_us =
        spread(manifests.iter().take(200), |manifest| index.commit(std::slice::from_ref(manifest)))?;
    for manifest in manifests {
        index.note_hit(&manifest.key.digest());
    }
    let (flush_ms, ()) = timed(|| {
        index.flush();
        Ok::<_, samovar_store::Error>(())
    })?;
    let picks: Vec<&Manifest> = (0..LOOKUPS).map(|turn| &manifests[turn * 7_919 % manifests.len()]).collect();
    let by_reference_us = spread(picks.iter(), |manifest| {
        index.by_reference(&manifest.reference).map(|found| assert!(found.is_some()))
    })?;
    let by_key_us = spread(picks.iter(), |manifest| {
        index.artifact(&manifest.key.digest()).map(|found| assert!(found.is_some()))
    })?;
    let note_us = spread(picks.iter(), |manifest| {
        index.note_hit(&manifest.key.digest());
        Ok(())
    })?;
    let (list_ms, all) = timed(|| index.artifacts())?;
    ensure!(all.len() == manifests.len(), "some were lost");
    drop(index);
    let (open_ms, again) = timed(|| MeasuredIndex::open(path))?;
    let beside = with_daemon(path)?;
    drop(again);
    let index_bytes = path.metadata()?.len();
    let artifact_bytes: u64 = manifests.iter().map(Manifest::bytes).sum();
    Ok(json!({
        "artifacts": manifests.len(),
        "files": manifests.iter().map(|manifest| manifest.files.len()).sum::<usize>(),
        "fill_ms": fill_ms,
        "commit_us": commit_us,
        "flush_of_all_ms": flush_ms,
        "by_reference_us": by_reference_us,
        "artifact_us": by_key_us,
        "note_us": note_us,
        "artifacts_ms": list_ms,
        "open_after_close_ms": open_ms,
        "open_beside_another_ms": beside,
        "index_bytes": index_bytes,
        "index_bytes_per_artifact": index_bytes as f64 / manifests.len() as f64,
        "index_percent_of_artifacts": index_bytes as f64 * 100.0 / artifact_bytes as f64,
    }))
}

/// Opening what another connection has open, so that its log is there.
fn with_daemon(path: &Path) -> Result<f64> {
    Ok(timed(|| MeasuredIndex::open(path))?.0)
}

fn manifest(number: usize) -> Result<Manifest> {
    let file = |part: usize| -> Result<ManifestFile> {
        Ok(ManifestFile {
            path: format!("model-q4_k_m-{:05}-of-{:05}.gguf", part + 1, number % 3 + 1).parse()?,
            role: Role::Weights,
            size: FILE_BYTES,
            digest: Digest::of_bytes(format!("{number} {part}").as_bytes()),
        })
    };
    let model = format!("organisation-{}/some-model-{number}-7b-instruct-GGUF", number % 500);
    let commit = Digest::of_bytes(model.as_bytes()).to_string();
    Ok(Manifest {
        format: FORMAT,
        key: ArtifactKey {
            source: "hub".parse()?,
            model: model.parse()?,
            commit: commit[..40].parse()?,
            quant: "Q4_K_M".to_owned(),
            modality: "text".to_owned(),
        },
        revision: Some("main".to_owned()),
        reference: format!("hf://{model}:Q4_K_M"),
        files: (0..=number % 3).map(file).collect::<Result<_>>()?,
        created_ms: 1_750_000_000_000 + number as u64,
    })
}

fn timed<T, E>(act: impl FnOnce() -> Result<T, E>) -> Result<(f64, T), E> {
    let start = Instant::now();
    let done = act()?;
    Ok((start.elapsed().as_secs_f64() * 1e3, done))
}

/// Microseconds of each call: the median, the 99th percentile and the longest.
fn spread<I>(
    all: impl Iterator<Item = I>,
    act: impl Fn(I) -> Result<(), samovar_store::Error>,
) -> Result<Value> {
    let mut times = all.map(|one| Ok(timed(|| act(one))?.0 * 1e3)).collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(json!({ "p50": at(0.5), "p99": at(0.99), "max": at(1.0), "calls": times.len() }))
}

#[allow(clippy::print_stdout, reason = "the figures are what the program is for")]
fn report(figures: &Value) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(figures)?);
    Ok(())
}
