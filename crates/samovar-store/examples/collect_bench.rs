//! Measures what looks at the whole store: `collect_bench [ARTIFACTS [FOLDER]]`, 10,000 by default. Prints JSON.
//!
//! The cache is written as files; opening it builds the index from them, which is the first figure.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use samovar_core::Digest;
use samovar_store::manifest::{FORMAT, ManifestFile};
use samovar_store::{
    ArtifactKey, CollectOptions, KeyDigest, Manifest, Role, Store, StoreConfig, VerifyOptions,
};
use serde_json::json;

const FILE_BYTES: usize = 16 << 10;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().map_or(Ok(10_000), |text| text.parse()).context("ARTIFACTS")?;
    ensure!(count >= 100, "at least 100 artifacts");
    let folder = match arguments.next() {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let config = |quota_bytes| {
        let mut config = StoreConfig::new(folder.path().join("cache"), folder.path().join("state"));
        config.max_size_bytes = Some(quota_bytes);
        config.min_free_bytes = 0;
        config.max_age = Duration::ZERO;
        config.sources.is_offline = true;
        config
    };
    let total_bytes = (count * FILE_BYTES) as u64;
    drop(Store::open(config(u64::MAX))?);
    let keys = (0..count).map(|n| write(&folder.path().join("cache"), n)).collect::<Result<Vec<_>>>()?;
    fs_err::remove_file(folder.path().join("cache/index.sqlite3"))?;

    let (rebuild_ms, store) = timed(|| Store::open(config(u64::MAX)))?;
    ensure!(store.list()?.len() == count, "the index does not have them all");
    let (disk_use_ms, _) = timed(|| store.disk_use())?;
    let (dry_run_ms, _) = timed(|| store.collect(&dry_run()))?;
    let (nothing_ms, nothing) = timed(|| store.collect(&CollectOptions::default()))?;
    ensure!(nothing.removed.is_empty(), "nothing is over the quota");
    let (remove_ms, _) = timed(|| store.remove(&keys[0]))?;
    let bytes = vec![7; FILE_BYTES];
    let (first_put_ms, ()) = timed(|| put(&store, "first", &bytes))?;
    let (next_put_ms, ()) = timed(|| put(&store, "next", &bytes))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (verify_ms, verified) = timed(|| runtime.block_on(store.verify(&VerifyOptions::default())))?;
    ensure!(verified.is_sound(), "what was written is right");
    let keeps = keys
        .iter()
        .skip(count / 2)
        .take(50)
        .map(|key| store.open_artifact(key))
        .collect::<Result<Vec<_>, _>>()?;

    let full = Store::open(config(total_bytes / 10 * 9))?;
    let (collect_ms, collected) = timed(|| full.collect(&CollectOptions::default()))?;
    ensure!(collected.used_bytes <= total_bytes, "it frees");
    ensure!(keeps.iter().all(|opened| opened.weights()[0].exists()), "what is open stays");
    let report = json!({
        "artifacts": count,
        "rebuild_ms": rebuild_ms,
        "disk_use_ms": disk_use_ms,
        "dry_run_ms": dry_run_ms,
        "collect_nothing_ms": nothing_ms,
        "remove_one_ms": remove_ms,
        "put_ms": { "first": first_put_ms, "next": next_put_ms },
        "verify_ms": verify_ms,
        "collect": { "ms": collect_ms, "artifacts": collected.removed.len() },
    });
    writeln!(std::io::stdout(), "{report:#}")?;
    Ok(())
}

fn dry_run() -> CollectOptions {
    CollectOptions { is_dry_run: true, ..CollectOptions::default() }
}

fn key(name: &str) -> Result<ArtifactKey> {
    Ok(ArtifactKey {
        source: "built-in".parse()?,
        model: name.parse()?,
        commit: "1".parse()?,
        quant: String::new(),
        modality: "text".to_owned(),
    })
}

fn put(store: &Store, name: &str, bytes: &[u8]) -> Result<()> {
    store.ingest(key(name)?, name, "model.gguf".parse()?, Role::Weights, bytes)?;
    Ok(())
}

/// Writes an artifact as the files that it is.
fn write(cache: &Path, n: usize) -> Result<KeyDigest> {
    let mut bytes = vec![0; FILE_BYTES];
    bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
    let digest = Digest::of_bytes(&bytes);
    let hex = digest.to_string();
    let shard = cache.join("blobs/sha256").join(&hex[..2]);
    fs_err::create_dir_all(&shard)?;
    fs_err::write(shard.join(&hex), &bytes)?;
    let name = format!("m{n}");
    let file =
        ManifestFile { path: "model.gguf".parse()?, role: Role::Weights, size: FILE_BYTES as u64, digest };
    let manifest = Manifest {
        format: FORMAT,
        key: key(&name)?,
        revision: None,
        reference: name,
        files: vec![file],
        created_ms: 1_700_000_000_000 + n as u64,
    };
    let key = manifest.key.digest();
    fs_err::write(cache.join(format!("manifests/{key}.json")), serde_json::to_vec(&manifest)?)?;
    Ok(key)
}

fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(f64, T)>
where
    anyhow::Error: From<E>,
{
    let start = Instant::now();
    let done = work()?;
    Ok((start.elapsed().as_secs_f64() * 1e3, done))
}
