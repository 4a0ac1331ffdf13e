//! Bit-rot, gaps and lost indexes: found, set aside, and made good again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::keeping;

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keeping::{Cache, assert_sound, bytes_of, config, put};
use samovar_core::model::ArtifactRef;
use samovar_store::{CollectOptions, Error, LeftoverKind, Progress, Store, VerifyOptions};
use samovar_testhub::{Content, Hub};

const KB: usize = 1_000;

fn flip_a_bit(path: &Path, at: u64) {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs_err::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.file().read_exact_at(&mut byte, at).unwrap();
    file.file().write_all_at(&[byte[0] ^ 1], at).unwrap();
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o444)).unwrap();
}

fn repair() -> VerifyOptions {
    VerifyOptions { is_repair: true, ..VerifyOptions::default() }
}

/// A hub with one model, a store that has it, and the words for it.
fn fetched() -> (Hub, Cache, ArtifactRef) {
    let hub = Hub::start_blocking();
    hub.add_repo("org/model").put("model-Q4_K_M.gguf", Content::bytes(bytes_of("weights", 300 * KB)));
    let endpoint = hub.endpoint();
    let cache = Cache::with(|config| {
        config.sources.hub_endpoint = Some(endpoint);
        config.sources.is_offline = false;
    });
    (hub, cache, "hf://org/model:Q4_K_M".parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_right_is_read_and_left_alone() {
    let cache = Cache::new();
    for n in 0..5 {
        put(&cache.store, &format!("m{n}"), &bytes_of(&format!("m{n}"), 50 * KB));
    }
    let before = keeping::tree(cache.root());
    let told = Arc::new(Mutex::new(Vec::new()));
    let watch = {
        let told = Arc::clone(&told);
        Arc::new(move |progress| told.lock().unwrap().push(progress))
    };
    let options = VerifyOptions { watch: Some(watch), ..VerifyOptions::default() };
    let verified = cache.store.verify(&options).await.unwrap();
    assert_eq!((verified.blobs, verified.bytes), (5, 250_000));
    assert!(verified.is_sound() && verified.damaged.is_empty() && verified.strays == 0);
    assert_eq!(keeping::tree(cache.root()), before);
    let told = told.lock().unwrap();
    assert!(
        matches!(told.last(), Some(Progress::Verifying(last)) if last.done_bytes == 250_000 && last.total_bytes == 250_000)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_set_aside_and_fetched_again() {
    let (hub, cache, reference) = fetched();
    let artifact = cache.store.ensure(&reference, None).await.unwrap();
    put(&cache.store, "other", &bytes_of("other", 10 * KB));
    let digest = artifact.files[0].digest;
    flip_a_bit(&cache.blob(&digest), 123_456);
    let sent = hub.sent();
    let verified = cache.store.verify(&VerifyOptions::default()).await.unwrap();
    assert_eq!((verified.blobs, verified.damaged.len(), verified.is_sound()), (2, 1, false));
    assert_eq!(verified.damaged[0].digest, digest);
    assert_eq!(verified.damaged[0].artifacts, std::slice::from_ref(&artifact.reference));
    assert!(cache.root().join("quarantine").join(digest.to_string()).exists());
    assert!(!cache.blob(&digest).exists());
    assert_eq!(
        hub.sent().since(&sent).of("org/model/model-Q4_K_M.gguf"),
        0,
        "verifying alone asks no source"
    );
    assert_eq!(cache.store.find(&reference).unwrap(), None, "what is damaged is not there");
    let verified = cache.store.verify(&repair()).await.unwrap();
    assert_eq!(verified.repaired, std::slice::from_ref(&artifact.reference));
    assert!(verified.is_sound(), "{verified:?}");
    assert_eq!(hub.sent().since(&sent).of("org/model/model-Q4_K_M.gguf"), 300_000);
    assert_eq!(cache.store.find(&reference).unwrap().unwrap().key, artifact.key);
    assert_sound(&cache.store);
    assert!(cache.store.verify(&VerifyOptions::default()).await.unwrap().is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_commit_comes_back_though_its_branch_moved() {
    let (hub, cache, reference) = fetched();
    let artifact = cache.store.ensure(&reference, None).await.unwrap();
    hub.add_repo("org/model").put("model-Q4_K_M.gguf", Content::bytes(bytes_of("newer", 200 * KB)));
    fs_err::remove_file(cache.blob(&artifact.files[0].digest)).unwrap();
    let verified = cache.store.verify(&repair()).await.unwrap();
    assert_eq!(verified.missing.len(), 1);
    assert!(verified.is_sound(), "{verified:?}");
    assert!(cache.store.artifact(&artifact.key_digest).unwrap().is_some());
    assert_sound(&cache.store);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_again_is_said_and_harms_nobody() {
    let cache = Cache::new();
    let lost = put(&cache.store, "built-in", &bytes_of("built-in", 10 * KB));
    let kept = put(&cache.store, "kept", &bytes_of("kept", 10 * KB));
    fs_err::remove_file(cache.blob(&lost.files[0].digest)).unwrap();
    let verified = cache.store.verify(&repair()).await.unwrap();
    assert_eq!((verified.missing.len(), verified.repaired.len(), verified.unrepaired.len()), (1, 0, 1));
    assert!(!verified.is_sound());
    assert_eq!(verified.unrepaired[0].reference, "built-in");
    assert!(cache.store.open_artifact(&kept.key_digest).is_ok());
    put(&cache.store, "built-in", &bytes_of("built-in", 10 * KB));
    assert!(cache.store.verify(&VerifyOptions::default()).await.unwrap().is_sound());
}

#[test]
fn a_lost_index_comes_back_from_the_files_as_it_was() {
    let cache = Cache::new();
    for n in 0..5 {
        put(&cache.store, &format!("m{n}"), &bytes_of(&format!("m{n}"), 10 * KB));
    }
    let pinned = cache.store.list().unwrap()[3].key_digest;
    cache.store.set_pinned(&pinned, true).unwrap();
    let before = cache.store.list().unwrap();
    let (dir, root) = (cache.dir, cache.store.dir().to_owned());
    drop(cache.store);
    for damage in [b"".as_slice(), b"this is no database, and never was one".as_slice()] {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs_err::remove_file(root.join(format!("index.sqlite3{suffix}")));
        }
        if !damage.is_empty() {
            fs_err::write(root.join("index.sqlite3"), damage).unwrap();
        }
        let store = Store::open(config(dir.path())).unwrap();
        let plain = |artifacts: Vec<samovar_store::Artifact>| {
            let mut facts: Vec<_> = artifacts
                .into_iter()
                .map(|artifact| {
                    (
                        artifact.key,
                        artifact.reference,
                        artifact.files,
                        artifact.is_pinned,
                        artifact.created_ms,
                    )
                })
                .collect();
            facts.sort_by(|a, b| a.0.cmp(&b.0));
            facts
        };
        assert_eq!(plain(store.list().unwrap()), plain(before.clone()));
        assert_sound(&store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_holds_the_index_to_the_manifests() {
    let cache = Cache::new();
    let unfounded = put(&cache.store, "unfounded", &bytes_of("unfounded", KB));
    let kept = put(&cache.store, "kept", &bytes_of("kept", KB));
    let manifest = |key| cache.root().join(format!("manifests/{key}.json"));
    fs_err::remove_file(manifest(unfounded.key_digest)).unwrap();
    let odd = "0".repeat(64);
    fs_err::write(cache.root().join(format!("manifests/{odd}.json")), "{").unwrap();
    let verified = cache.store.verify(&VerifyOptions::default()).await.unwrap();
    assert_eq!(
        (verified.unfounded.clone(), verified.unreadable_manifests.clone()),
        (vec!["unfounded".to_owned()], vec![odd.clone()])
    );
    assert_eq!(cache.store.list().unwrap().len(), 2, "verifying alone changes nothing");
    cache.store.verify(&repair()).await.unwrap();
    assert_eq!(
        cache.store.list().unwrap().iter().map(|artifact| artifact.key_digest).collect::<Vec<_>>(),
        [kept.key_digest]
    );
    assert!(cache.root().join(format!("quarantine/{odd}.json")).exists());
    let again = cache.store.verify(&VerifyOptions::default()).await.unwrap();
    assert!(again.unfounded.is_empty() && again.unreadable_manifests.is_empty());
    assert_eq!(again.blobs, 2, "its blob is there still, until it is collected");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_is_counted_and_goes_in_time() {
    let cache = Cache::with(|config| config.max_age = Duration::from_millis(1));
    let artifact = put(&cache.store, "m", &bytes_of("m", 20 * KB));
    cache.store.set_pinned(&artifact.key_digest, true).unwrap();
    flip_a_bit(&cache.blob(&artifact.files[0].digest), 7);
    assert!(matches!(cache.store.open_artifact(&artifact.key_digest), Err(Error::Damaged { .. })));
    assert!(cache.store.disk_use().unwrap().quarantine_bytes >= 20_000);
    assert_eq!(cache.store.stats().unwrap().quarantined, 1);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !cache
        .store
        .collect(&CollectOptions::default())
        .unwrap()
        .leftovers
        .contains_key(&LeftoverKind::Quarantine)
    {
        assert!(std::time::Instant::now() < end, "quarantine is never emptied");
    }
    assert_eq!(cache.store.disk_use().unwrap().quarantine_bytes, 0);
}
