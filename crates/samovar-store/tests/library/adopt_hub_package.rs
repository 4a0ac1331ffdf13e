//! What the hub's own Python package writes today is adopted, however it lays it out.
//!
//! The package is taken from the Python of `SAMOVAR_TEST_HF_PYTHON`, else from `python3`; a test that finds
//! none says so and is skipped.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails or says so")]

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use samovar_core::ArtifactRef;
use samovar_store::{AdoptKind, AdoptOptions, AdoptRoot, Adopted, SourceConfig, Store, StoreConfig};
use samovar_testhub::{Content, Hub};

const SIZE: usize = 100_000;
const REPOSITORIES: [&str; 2] = ["acme/tiny-GGUF", "other/tiny-GGUF"];

#[allow(clippy::disallowed_methods, reason = "where Python lies is known to the user who runs the tests")]
fn python() -> String {
    std::env::var("SAMOVAR_TEST_HF_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// A GGUF file without keys and tensors, and other bytes behind it.
fn content(seed: u8) -> Vec<u8> {
    let header = *b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let more = (header.len()..SIZE).map(|place| (place as u8).wrapping_mul(37).wrapping_add(seed));
    header.into_iter().chain(more).collect()
}

/// A cache that the package filled from two repositories that have a file in common; `None` without it.
fn filled(dir: &Path, layout: &str) -> Option<PathBuf> {
    let found = Command::new(python()).args(["-c", "import huggingface_hub"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        println!("skipped: no huggingface_hub; `pip install huggingface_hub` and set SAMOVAR_TEST_HF_PYTHON");
        return None;
    }
    let hub = Hub::start_blocking();
    for repository in REPOSITORIES {
        let repo = hub.add_repo(repository);
        repo.put("tiny-Q4_K_M.gguf", Content::bytes(content(4)));
        repo.put("README.md", Content::bytes("hello"));
        repo.put("pytorch_model.bin", Content::bytes("pickle"));
    }
    let cache = dir.join("hub");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub_package.py");
    let output = Command::new(python())
        .arg(script)
        .args([hub.endpoint().as_str(), cache.to_str()?, layout])
        .args(REPOSITORIES)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("huggingface_hub {}", String::from_utf8_lossy(&output.stdout).trim());
    Some(cache)
}

fn store(dir: &Path) -> Store {
    let mut config = StoreConfig::new(dir.join("store"), dir.join("state"));
    config.sources = SourceConfig { is_offline: true, ..SourceConfig::default() };
    Store::open(config).unwrap()
}

fn adopt(store: &Store, cache: &Path) -> Adopted {
    let roots = vec![AdoptRoot::guess(cache)];
    assert_eq!(roots[0].kind, AdoptKind::HuggingFace);
    store.adopt(&AdoptOptions { roots, ..AdoptOptions::default() }).unwrap()
}

fn assert_both_are_here(store: &Store, adopted: &Adopted) {
    assert_eq!((adopted.artifacts.len(), adopted.skipped.len()), (2, 0), "{adopted:?}");
    for repository in REPOSITORIES {
        let reference: ArtifactRef = format!("hf://{repository}:Q4_K_M").parse().unwrap();
        let artifact = store.find(&reference).unwrap().unwrap_or_else(|| panic!("{repository} is not here"));
        assert_eq!(artifact.key.commit.as_str().len(), 40);
        let opened = store.open_artifact(&artifact.key_digest).unwrap();
        assert_eq!(fs::read(&opened.weights()[0]).unwrap(), content(4));
    }
}

#[test]
fn a_cache_with_blobs_in_each_repository_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let Some(cache) = filled(dir.path(), "plain") else { return };
    let store = store(dir.path());
    let adopted = adopt(&store, &cache);
    assert_both_are_here(&store, &adopted);
    assert_eq!(adopt(&store, &cache).saved_bytes(), 0, "adopting again does nothing");
}

#[test]
fn a_cache_with_blobs_that_repositories_share_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let Some(cache) = filled(dir.path(), "shared") else { return };
    if !cache.join("blobs").is_dir() {
        println!("skipped: this version of huggingface_hub shares no blobs");
        return;
    }
    let store = store(dir.path());
    let adopted = adopt(&store, &cache);
    assert_both_are_here(&store, &adopted);
    assert_eq!(adopted.saved_bytes(), SIZE as u64, "the second repository's file was here by then");
}

#[test]
fn a_cache_without_links_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let Some(cache) = filled(dir.path(), "files") else { return };
    let snapshots = fs::read_dir(cache.join("models--acme--tiny-GGUF/snapshots")).unwrap();
    let snapshot = snapshots.map(|entry| entry.unwrap().path()).next().unwrap();
    if fs::symlink_metadata(snapshot.join("tiny-Q4_K_M.gguf")).unwrap().is_symlink() {
        println!("skipped: this version of huggingface_hub always links here");
        return;
    }
    let store = store(dir.path());
    let adopted = adopt(&store, &cache);
    assert_both_are_here(&store, &adopted);
}
