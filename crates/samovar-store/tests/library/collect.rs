//! Collection against a real store: what goes, what stays whatever happens, and that no reader notices.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::keeping;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keeping::{Cache, assert_sound, bytes_of, put, tree};
use samovar_core::Digest;
use samovar_store::{CollectOptions, Error, LeftoverKind, Why};

const KB: usize = 1_000;

fn dry() -> CollectOptions {
    CollectOptions { is_dry_run: true, ..CollectOptions::default() }
}

#[test]
fn a_quota_is_kept_and_pinned_ones_survive_it() {
    let cache = Cache::new();
    let artifacts: Vec<_> =
        (0..10).map(|n| put(&cache.store, &format!("m{n}"), &bytes_of(&format!("m{n}"), 100 * KB))).collect();
    cache.store.set_pinned(&artifacts[0].key_digest, true).unwrap();
    cache.store.set_pinned(&artifacts[5].key_digest, true).unwrap();
    let small = cache.reopen(|config| config.max_size_bytes = Some(500_000));
    let collected = small.collect(&CollectOptions::default()).unwrap();
    assert!(collected.used_bytes <= 425_000, "down to the low mark: {collected:?}");
    assert_eq!((collected.removed.len(), collected.pinned), (6, 2));
    assert_eq!(collected.freed_bytes, 600_000);
    assert!(
        collected.removed.iter().all(|removed| removed.why == Why::Room && removed.freed_bytes == 100_000)
    );
    let left = small.list().unwrap();
    assert!(
        [0, 5].iter().all(|n| left.iter().any(|artifact| artifact.key_digest == artifacts[*n].key_digest))
    );
    assert_eq!(left.len(), 4);
    assert_sound(&small);
    assert_eq!(fs_err::read_dir(cache.root().join("trash")).unwrap().count(), 0);
    assert_eq!(small.collect(&CollectOptions::default()).unwrap().removed, []);
    assert_eq!(small.stats().unwrap().collected_artifacts, 6);
}

#[test]
fn a_dry_run_says_what_would_go_and_changes_nothing() {
    let cache = Cache::new();
    for n in 0..10 {
        put(&cache.store, &format!("m{n}"), &bytes_of(&format!("m{n}"), 100 * KB));
    }
    let small = cache.reopen(|config| config.max_size_bytes = Some(500_000));
    let (before, list) = (tree(cache.root()), small.list().unwrap());
    let planned = small.collect(&dry()).unwrap();
    assert_eq!(tree(cache.root()), before);
    assert_eq!(small.list().unwrap(), list);
    assert!(planned.is_dry_run);
    let mut done = small.collect(&CollectOptions::default()).unwrap();
    done.is_dry_run = true;
    let without_time = |mut collected: samovar_store::Collected| {
        collected.removed.iter_mut().for_each(|removed| removed.idle_ms = 0);
        collected
    };
    assert_eq!(without_time(planned), without_time(done), "what was planned is what was done");
}

#[test]
fn what_is_used_often_stays() {
    let cache = Cache::new();
    let artifacts: Vec<_> =
        (0..4).map(|n| put(&cache.store, &format!("m{n}"), &bytes_of(&format!("m{n}"), 100 * KB))).collect();
    for _ in 0..5 {
        drop(cache.store.open_artifact(&artifacts[0].key_digest).unwrap());
        drop(cache.store.open_artifact(&artifacts[2].key_digest).unwrap());
    }
    let cache_dir = cache.dir;
    drop(cache.store);
    let mut config = keeping::config(cache_dir.path());
    config.max_size_bytes = Some(300_000);
    let small = samovar_store::Store::open(config).unwrap();
    let removed = small.collect(&CollectOptions::default()).unwrap().removed;
    let removed: Vec<&str> = removed.iter().map(|removed| removed.reference.as_str()).collect();
    assert_eq!(removed, ["m1", "m3"]);
}

#[test]
fn a_blob_in_two_artifacts_goes_with_the_last() {
    let cache = Cache::new();
    let bytes = bytes_of("shared", 50 * KB);
    let (one, other) = (put(&cache.store, "one", &bytes), put(&cache.store, "other", &bytes));
    let path = cache.blob(&one.files[0].digest);
    assert_eq!(cache.store.disk_use().unwrap().deduplicated_bytes, 50_000);
    assert_eq!(cache.store.remove(&one.key_digest).unwrap().freed_bytes, 0);
    assert!(path.exists());
    assert_eq!(cache.store.remove(&other.key_digest).unwrap().freed_bytes, 50_000);
    assert!(!path.exists());
    assert_eq!(cache.store.disk_use().unwrap().used_bytes, 0);
}

#[test]
fn what_is_open_is_not_removed_and_the_error_names_the_process() {
    let cache = Cache::new();
    let artifact = put(&cache.store, "m", &bytes_of("m", KB));
    let opened = cache.reopen(|_| ()).open_artifact(&artifact.key_digest).unwrap();
    let error = cache.store.remove(&artifact.key_digest).unwrap_err();
    let Error::InUse { subject, by } = &error else { panic!("{error}") };
    assert_eq!((subject.as_str(), by.clone()), ("m", format!("process {}", std::process::id())));
    let full = cache.reopen(|config| config.max_size_bytes = Some(10));
    let collected = full.collect(&CollectOptions::default()).unwrap();
    assert_eq!((collected.removed.len(), collected.in_use), (0, 1));
    assert_eq!(fs_err::read(&opened.weights()[0]).unwrap(), bytes_of("m", KB));
    drop(opened);
    assert_eq!(full.collect(&CollectOptions::default()).unwrap().removed.len(), 1);
    assert!(matches!(full.remove(&artifact.key_digest), Err(Error::Missing { .. })));
}

#[test]
fn a_name_goes_while_its_user_has_the_bytes_and_stays_while_anybody_else_has() {
    let cache = Cache::new();
    let bytes = bytes_of("shared", 50 * KB);
    let (one, other) = (put(&cache.store, "one", &bytes), put(&cache.store, "other", &bytes));
    let opened = cache.reopen(|_| ()).open_artifact(&other.key_digest).unwrap();
    let here = std::process::id();
    let error = cache.store.remove_name(&one.key_digest, here + 1).unwrap_err();
    let Error::InUse { by, .. } = &error else { panic!("{error}") };
    assert_eq!(*by, format!("process {here}"));
    assert_eq!(cache.store.remove_name(&one.key_digest, here).unwrap().freed_bytes, 0);
    assert_eq!(fs_err::read(&opened.weights()[0]).unwrap(), bytes);
    // The last name of its bytes is no name that could go without them.
    assert!(matches!(cache.store.remove_name(&other.key_digest, here), Err(Error::InUse { .. })));
}

#[test]
fn a_file_that_another_program_has_too_frees_nothing_and_stays_there() {
    let cache = Cache::new();
    let artifact = put(&cache.store, "m", &bytes_of("m", 10 * KB));
    let theirs = cache.dir.path().join("theirs.gguf");
    fs_err::hard_link(cache.blob(&artifact.files[0].digest), &theirs).unwrap();
    let usage = cache.store.disk_use().unwrap();
    assert_eq!((usage.shared_bytes, usage.artifact_bytes, usage.used_bytes), (10_000, 0, 0));
    let removed = cache.store.remove(&artifact.key_digest).unwrap();
    assert_eq!((removed.bytes, removed.freed_bytes), (10_000, 0));
    assert_eq!(fs_err::read(&theirs).unwrap(), bytes_of("m", 10 * KB));
}

#[test]
fn fifty_readers_never_lose_what_they_opened_while_collection_goes_on() {
    let cache = Cache::new();
    let names: Vec<String> = (0..8).map(|n| format!("m{n}")).collect();
    let keys: Vec<_> =
        names.iter().map(|name| put(&cache.store, name, &bytes_of(name, 8 * KB)).key_digest).collect();
    let collector = cache.reopen(|config| config.max_size_bytes = Some(24_000));
    let (is_over, opens, lost, rounds) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(5);
    std::thread::scope(|scope| {
        for reader in 0..50 {
            let (names, keys, is_over, opens, lost) = (&names, &keys, &is_over, &opens, &lost);
            let store = if reader % 2 == 0 { cache.store.clone() } else { cache.reopen(|_| ()) };
            scope.spawn(move || {
                let mut at = reader;
                while !is_over.load(Ordering::Relaxed) {
                    at = (at + 7) % names.len();
                    let Ok(opened) = store.open_artifact(&keys[at]) else {
                        put(&store, &names[at], &bytes_of(&names[at], 8 * KB));
                        continue;
                    };
                    opens.fetch_add(1, Ordering::Relaxed);
                    for _ in 0..3 {
                        std::thread::yield_now();
                        let is_there = fs_err::read(&opened.weights()[0])
                            .is_ok_and(|bytes| Digest::of_bytes(&bytes) == opened.artifact().files[0].digest);
                        lost.fetch_add(u64::from(!is_there), Ordering::Relaxed);
                    }
                }
            });
        }
        while Instant::now() < end {
            rounds.fetch_add(
                collector.collect(&CollectOptions::default()).unwrap().removed.len() as u64,
                Ordering::Relaxed,
            );
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let (opens, removed) = (opens.into_inner(), rounds.into_inner());
    println!("opens {opens}, removed {removed}");
    assert_eq!(lost.into_inner(), 0);
    assert!(opens > 100 && removed > 0, "opens {opens}, removed {removed}");
    assert_sound(&cache.store);
}

#[test]
fn an_age_limit_does_not_condemn_what_is_older_than_the_index() {
    let cache = Cache::new();
    put(&cache.store, "m", &bytes_of("m", KB));
    let strict = cache.reopen(|config| config.max_age = Duration::from_secs(30 * 24 * 3600));
    assert_eq!(strict.collect(&CollectOptions::default()).unwrap().removed, []);
}

#[test]
fn an_artifact_that_was_not_used_for_long_goes() {
    let cache = Cache::new();
    let pinned = put(&cache.store, "pinned", &bytes_of("pinned", KB));
    cache.store.set_pinned(&pinned.key_digest, true).unwrap();
    put(&cache.store, "m", &bytes_of("m", KB));
    let strict = cache.reopen(|config| config.max_age = Duration::from_millis(1));
    let end = Instant::now() + Duration::from_secs(10);
    let removed = loop {
        let removed = strict.collect(&CollectOptions::default()).unwrap().removed;
        if !removed.is_empty() || Instant::now() > end {
            break removed;
        }
    };
    assert_eq!(removed.len(), 1);
    assert_eq!((removed[0].reference.as_str(), removed[0].why), ("m", Why::Age));
}

#[test]
fn rubbish_is_swept_and_symlinks_in_it_lead_nowhere() {
    let cache = Cache::new();
    let precious = cache.dir.path().join("precious");
    fs_err::create_dir(&precious).unwrap();
    fs_err::write(precious.join("file"), "mine").unwrap();
    let trash = cache.root().join("trash");
    fs_err::create_dir(trash.join("dir")).unwrap();
    fs_err::os::unix::fs::symlink(&precious, trash.join("dir/link")).unwrap();
    fs_err::os::unix::fs::symlink(&precious, trash.join("link")).unwrap();
    fs_err::write(trash.join("file"), bytes_of("x", 10 * KB)).unwrap();
    let collected = cache.store.collect(&CollectOptions::default()).unwrap();
    assert_eq!(collected.leftovers[&LeftoverKind::Trash].count, 3);
    assert_eq!(fs_err::read_dir(&trash).unwrap().count(), 0);
    assert_eq!(fs_err::read_to_string(precious.join("file")).unwrap(), "mine");
}

#[test]
fn what_does_not_fit_is_refused_with_both_numbers_and_costs_nobody_anything() {
    let cache = Cache::new();
    let kept = put(&cache.store, "kept", &bytes_of("kept", 50 * KB));
    let small = cache.reopen(|config| config.max_size_bytes = Some(60_000));
    let key = samovar_store::ArtifactKey { model: "big".parse().unwrap(), ..kept.key.clone() };
    let bytes = bytes_of("big", 70 * KB);
    let error = small
        .ingest(key, "big", "model.gguf".parse().unwrap(), samovar_store::Role::Weights, &bytes)
        .unwrap_err();
    let Error::NoRoom { needed_bytes, free_bytes, limit, .. } = error else { panic!("{error}") };
    assert_eq!((needed_bytes, free_bytes, limit), (70_000, 60_000, "quota"));
    assert_eq!(small.list().unwrap().len(), 1);
    assert_sound(&small);
}

#[test]
fn what_fits_after_collection_is_let_in() {
    let cache = Cache::with(|config| config.max_size_bytes = Some(100_000));
    for n in 0..5 {
        put(&cache.store, &format!("m{n}"), &bytes_of(&format!("m{n}"), 40 * KB));
    }
    assert_eq!(cache.store.list().unwrap().len(), 2);
    assert!(cache.store.disk_use().unwrap().used_bytes <= 100_000);
    assert_sound(&cache.store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_on_its_way_counts_by_its_size_and_is_left_alone() {
    const WIRE: &str = "org/name/model-Q4_K_M.gguf";
    let hub = samovar_testhub::Hub::start_blocking();
    hub.add_repo("org/name").put("model-Q4_K_M.gguf", samovar_testhub::Content::pattern(8 << 20, 1));
    let cache = Cache::with(|config| {
        config.sources.is_offline = false;
        config.sources.hub_endpoint = Some(hub.endpoint());
    });
    let kept = put(&cache.store, "kept", &bytes_of("kept", 100 * KB));
    let reference = "hf://org/name:Q4_K_M".parse().unwrap();
    hub.hold_after(WIRE, 1 << 20);
    let (one, other, ()) =
        tokio::join!(cache.store.ensure(&reference, None), cache.store.ensure(&reference, None), async {
            assert!(hub.held(WIRE).await);
            // Another process, as far as locks are concerned; its quota leaves 100 kB besides the download.
            let full = cache.reopen(|config| config.max_size_bytes = Some((8 << 20) + 200_000));
            let usage = full.disk_use().unwrap();
            assert_eq!(usage.used_bytes - usage.artifact_bytes, usage.partial_bytes + usage.promised_bytes);
            assert!(usage.partial_bytes + usage.promised_bytes >= 8 << 20, "{usage:?}");
            let refused = keeping::try_put(&full, "big", &bytes_of("big", 400 * KB)).unwrap_err();
            assert!(matches!(refused, Error::NoRoom { limit: "quota", .. }), "{refused}");
            let collected =
                full.collect(&CollectOptions { room_bytes: 150_000, ..CollectOptions::default() }).unwrap();
            assert_eq!(collected.leftovers.get(&LeftoverKind::Partial), None);
            assert_eq!(
                collected.removed.iter().map(|removed| removed.key).collect::<Vec<_>>(),
                [kept.key_digest]
            );
            hub.release(WIRE);
        });
    assert_eq!(one.unwrap().key_digest, other.unwrap().key_digest);
    assert_eq!(hub.sent().of(WIRE), 8 << 20);
    assert_eq!(cache.store.stats().unwrap().coalesced, 1);
    let usage = cache.store.disk_use().unwrap();
    assert_eq!((usage.partial_bytes, usage.promised_bytes, usage.artifact_bytes), (0, 0, 8 << 20));
    assert_sound(&cache.store);
}

#[test]
fn a_file_that_is_used_where_it_lies_is_only_forgotten() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        return println!("skipped: no second file system at /dev/shm");
    };
    let theirs = elsewhere.path().join("theirs-Q4_K_M.gguf");
    // A header without keys and tensors: what is no GGUF file is not adopted.
    let mut bytes = b"GGUF\x03".to_vec();
    bytes.resize(40 * KB, 0);
    fs_err::write(&theirs, &bytes).unwrap();
    let cache = Cache::new();
    let roots = vec![samovar_store::AdoptRoot::new(elsewhere.path(), samovar_store::AdoptKind::Folder)];
    cache.store.adopt(&samovar_store::AdoptOptions { roots, ..Default::default() }).unwrap();
    let artifact = cache.store.list().unwrap().remove(0);
    let usage = cache.store.disk_use().unwrap();
    if usage.referenced_bytes == 0 {
        return println!("skipped: /dev/shm is no second file system");
    }
    assert_eq!((usage.referenced_bytes, usage.used_bytes), (40_000, 0));
    let full = cache.reopen(|config| config.max_size_bytes = Some(0));
    assert_eq!(full.collect(&CollectOptions::default()).unwrap().removed, [], "it would free nothing");
    let removed = cache.store.remove(&artifact.key_digest).unwrap();
    assert_eq!((removed.bytes, removed.freed_bytes), (40_000, 0));
    assert_eq!(fs_err::read(&theirs).unwrap(), bytes);
    assert_eq!(cache.store.disk_use().unwrap().referenced_bytes, 0);
}
