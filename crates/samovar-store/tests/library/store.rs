//! The store's protocols inside one process, against a hub that counts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use crate::fixture;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fixture::{Fixture, REPO, model, reference, weights};
use fs_err::os::unix::fs::symlink;
use samovar_core::Digest;
use samovar_store::{Error, FilePath, Integrity, Location, Progress, Role, Store, Watch};
use samovar_testhub::{BadAnswer, Content, FileSpec};

const FILE: &str = "model-Q4_K_M.gguf";
/// The same as the hub counts it.
const WIRE: &str = "org/name/model-Q4_K_M.gguf";
const MIB: u64 = 1 << 20;

fn blobs(cache: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for shard in fs_err::read_dir(cache.join("blobs/sha256")).unwrap() {
        found.extend(fs_err::read_dir(shard.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.sort();
    found
}

fn is_empty(dir: &Path) -> bool {
    fs_err::read_dir(dir).unwrap().next().is_none()
}

#[tokio::test]
async fn what_was_fetched_is_there_whole_and_read_only() {
    let fixture = Fixture::with_one(3 * MIB + 17);
    let store = fixture.store();
    let artifact = store.ensure(&model(), None).await.unwrap();
    let content = Content::pattern(3 * MIB + 17, 1);
    assert_eq!(artifact.files[0].digest, content.digest().unwrap());
    assert_eq!(weights(&store, &artifact), content.to_vec().unwrap());
    let [blob] = &blobs(&fixture.cache())[..] else { panic!("one blob") };
    let facts = fs_err::metadata(blob).unwrap();
    assert_eq!(facts.permissions().mode() & 0o777, 0o444);
    assert!(blob.ends_with(artifact.files[0].digest.to_string()));
    assert!(is_empty(&fixture.cache().join("partial")) && is_empty(&fixture.cache().join("tmp")));
}

#[tokio::test]
async fn the_second_time_nothing_is_asked_of_anybody() {
    let fixture = Fixture::with_one(MIB);
    let store = fixture.store();
    let first = store.ensure(&model(), None).await.unwrap();
    fixture.hub.forget();
    let second = store.ensure(&model(), None).await.unwrap();
    assert_eq!(first.key, second.key);
    assert!(fixture.hub.requests().is_empty());
}

#[tokio::test]
async fn fifty_who_ask_at_once_cost_one_download() {
    let fixture = Fixture::with_one(2 * MIB);
    let store = fixture.store();
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.ensure(&model(), None).await })
        })
        .collect();
    for task in asked {
        task.await.unwrap().unwrap();
    }
    assert_eq!(fixture.sent_bytes(FILE), 2 * MIB);
    assert_eq!(store.list().unwrap().len(), 1);
}

#[tokio::test]
async fn handles_of_one_directory_fetch_once_and_see_each_other() {
    let fixture = Fixture::with_one(2 * MIB);
    let (one, other) = (fixture.store(), fixture.store());
    let reference = model();
    let (a, b) = tokio::join!(one.ensure(&reference, None), other.ensure(&reference, None));
    assert_eq!(a.unwrap().key, b.unwrap().key);
    assert_eq!(fixture.sent_bytes(FILE), 2 * MIB);
    let third = fixture.store();
    assert!(third.find(&reference).unwrap().is_some());
}

#[tokio::test]
async fn handles_fetch_once_also_what_nobody_promised_a_digest_of() {
    let fixture = Fixture::with(&[("model.safetensors", Content::pattern(MIB, 1))]);
    let repo = fixture.hub.add_repo(REPO);
    repo.put("config.json", FileSpec::new(Content::bytes("{\"a\": 1}")));
    fixture.hub.add_plain("dir/plain-Q4_K_M.gguf", Content::pattern(2 * MIB, 4));
    let stores: Vec<Store> = (0..4).map(|_| fixture.store()).collect();
    for text in ["org/name".to_owned(), fixture.hub.plain_url("dir/plain-Q4_K_M.gguf")] {
        let asked = stores.iter().map(|store| {
            let (store, reference) = (store.clone(), reference(&text));
            tokio::spawn(async move { store.ensure(&reference, None).await })
        });
        for task in asked.collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
    }
    assert_eq!(fixture.sent_bytes("config.json"), 8);
    assert_eq!(fixture.sent_bytes("model.safetensors"), MIB);
    assert_eq!(fixture.hub.sent().of("plain/dir/plain-Q4_K_M.gguf"), 2 * MIB);
}

#[tokio::test]
async fn who_waits_for_another_sees_how_far_that_one_is() {
    let fixture = Fixture::with_one(16 * MIB);
    let (one, other) = (fixture.store(), fixture.store());
    fixture.hub.hold_after(WIRE, 8 * MIB);
    let fetching = tokio::spawn(async move { one.ensure(&model(), None).await });
    assert!(fixture.hub.held(WIRE).await);
    let seen = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&seen);
    let watch: Watch = Arc::new(move |progress| {
        if matches!(progress, Progress::Fetching(transfer) if transfer.by_another_process && transfer.done_bytes > 0)
        {
            told.notify_one();
        }
    });
    let waiting = tokio::spawn(async move { other.ensure(&model(), Some(watch)).await });
    tokio::time::timeout(std::time::Duration::from_secs(20), seen.notified()).await.unwrap();
    fixture.hub.release_all();
    fetching.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(fixture.sent_bytes(FILE), 16 * MIB);
}

#[tokio::test]
async fn what_is_here_is_served_offline_by_any_of_its_names() {
    let fixture = Fixture::with_one(MIB);
    fixture.store().ensure(&model(), None).await.unwrap();
    let store = fixture.offline();
    for text in ["hf://org/name:Q4_K_M", "org/name", "org/name:q4_k_m", "hf://org/name@main:Q4_K_M"] {
        let artifact = store.ensure(&reference(text), None).await.unwrap();
        assert_eq!(artifact.key.quant, "Q4_K_M", "{text}");
    }
    for text in ["org/name:Q8_0", "org/other", "org/name@v2"] {
        let missed = store.ensure(&reference(text), None).await;
        assert!(matches!(missed, Err(Error::Offline { .. })), "{text}: {missed:?}");
    }
}

#[tokio::test]
async fn a_fetch_that_was_dropped_goes_on_where_it_was() {
    let fixture = Fixture::with_one(32 * MIB);
    let store = fixture.store();
    fixture.hub.hold_after(WIRE, 24 * MIB);
    let fetching = tokio::spawn({
        let store = store.clone();
        async move { store.ensure(&model(), None).await }
    });
    assert!(fixture.hub.held(WIRE).await);
    fetching.abort();
    assert!(fetching.await.is_err());
    fixture.hub.release_all();
    let before = fixture.sent_bytes(FILE);
    assert!(before >= 24 * MIB);
    let artifact = store.ensure(&model(), None).await.unwrap();
    assert_eq!(weights(&store, &artifact).len() as u64, 32 * MIB);
    // What was on its way when it was dropped comes twice: at most two batches of each of four connections.
    assert!(fixture.sent_bytes(FILE) <= 32 * MIB + 8 * MIB, "{} bytes", fixture.sent_bytes(FILE));
}

#[tokio::test]
async fn a_fetch_goes_on_while_anybody_waits_for_it() {
    let fixture = Fixture::with_one(4 * MIB);
    let store = fixture.store();
    fixture.hub.hold_after(WIRE, MIB);
    let ask = || {
        let store = store.clone();
        tokio::spawn(async move { store.ensure(&model(), None).await })
    };
    let (first, second) = (ask(), ask());
    assert!(fixture.hub.held(WIRE).await);
    first.abort();
    fixture.hub.release_all();
    second.await.unwrap().unwrap();
    assert_eq!(fixture.sent_bytes(FILE), 4 * MIB);
}

#[tokio::test]
async fn progress_is_told_from_the_question_to_the_last_byte() {
    let fixture = Fixture::with_one(4 * MIB);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let watch: Watch = Arc::new(move |progress| sink.lock().unwrap().push(progress));
    fixture.store().ensure(&model(), Some(watch)).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.first(), Some(&Progress::Resolving));
    let Some(Progress::Fetching(last)) = seen.last() else { panic!("{seen:?}") };
    assert_eq!((last.done_bytes, last.total_bytes, last.files), (4 * MIB, 4 * MIB, 1));
    assert!(seen.iter().any(|step| matches!(step, Progress::Verifying(_))));
}

#[tokio::test]
async fn parts_of_a_split_model_have_their_real_names_beside_each_other() {
    let names = ["m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf"];
    let parts: Vec<_> = (1..=2).map(|seed| Content::pattern(MIB + seed, seed)).collect();
    let fixture = Fixture::with(&[(names[0], parts[0].clone()), (names[1], parts[1].clone())]);
    let store = fixture.store();
    let artifact = store.ensure(&model(), None).await.unwrap();
    let opened = store.open_artifact(&artifact.key_digest).unwrap();
    let dir = opened.directory().unwrap();
    for (at, path) in opened.weights().iter().enumerate() {
        assert_eq!(path, &dir.join(names[at]));
        assert_eq!(fs_err::read(path).unwrap(), parts[at].to_vec().unwrap());
    }
    let again = store.open_artifact(&artifact.key_digest).unwrap();
    assert_eq!(again.weights(), opened.weights());
    // A process that breaks the view gets a new one.
    fs_err::remove_file(dir.join(names[1])).unwrap();
    let mended = store.open_artifact(&artifact.key_digest).unwrap();
    assert_eq!(fs_err::read(&mended.weights()[1]).unwrap(), parts[1].to_vec().unwrap());
}

#[tokio::test]
async fn revisions_share_what_is_the_same_and_a_branch_moves_only_when_it_is_pulled() {
    let fixture = Fixture::with(&[
        ("m-Q4_K_M-00001-of-00002.gguf", Content::pattern(MIB, 1)),
        ("m-Q4_K_M-00002-of-00002.gguf", Content::pattern(2 * MIB, 2)),
    ]);
    let store = fixture.store();
    let first = store.ensure(&model(), None).await.unwrap();
    let repo = fixture.hub.add_repo(REPO);
    repo.put("m-Q4_K_M-00002-of-00002.gguf", FileSpec::new(Content::pattern(2 * MIB, 3)).lfs(true));
    assert_eq!(store.ensure(&model(), None).await.unwrap().key, first.key);
    let pulled = store.pull(&model(), None).await.unwrap();
    assert!(!pulled.was_here && pulled.artifact.key.commit != first.key.commit);
    assert_eq!(pulled.fetched_bytes, 2 * MIB);
    assert_eq!(blobs(&fixture.cache()).len(), 3);
    assert_eq!(store.ensure(&model(), None).await.unwrap().key, pulled.artifact.key);
    let again = store.pull(&model(), None).await.unwrap();
    assert!(again.was_here && again.fetched_bytes == 0);
    // The older commit stays, under its own name.
    let old = reference(&format!("hf://org/name@{}:Q4_K_M", first.key.commit));
    assert_eq!(store.find(&old).unwrap().unwrap().key, first.key);
}

#[tokio::test]
async fn an_artifact_that_does_not_fit_is_refused_before_its_first_byte() {
    let fixture = Fixture::with(&[
        ("m-Q4_K_M-00001-of-00002.gguf", Content::pattern(MIB, 1)),
        ("m-Q4_K_M-00002-of-00002.gguf", Content::pattern(2 * MIB, 2)),
    ]);
    let mut config = fixture.config();
    config.max_size_bytes = Some(2 * MIB);
    let store = Store::open(config).unwrap();
    let outcome = store.ensure(&model(), None).await;
    assert!(
        matches!(outcome, Err(Error::NoRoom { needed_bytes, .. }) if needed_bytes == 3 * MIB),
        "{outcome:?}"
    );
    assert_eq!(fixture.hub.sent().body_bytes, 0);
    assert!(is_empty(&fixture.cache().join("partial")));
}

#[tokio::test]
async fn what_a_new_revision_shares_with_the_old_is_not_collected_to_make_room_for_it() {
    let fixture = Fixture::with(&[
        ("m-Q4_K_M-00001-of-00002.gguf", Content::pattern(2 * MIB, 1)),
        ("m-Q4_K_M-00002-of-00002.gguf", Content::pattern(2 * MIB, 2)),
    ]);
    let mut config = fixture.config();
    config.max_size_bytes = Some(5 * MIB);
    let store = Store::open(config).unwrap();
    store.ensure(&model(), None).await.unwrap();
    let repo = fixture.hub.add_repo(REPO);
    repo.put("m-Q4_K_M-00002-of-00002.gguf", FileSpec::new(Content::pattern(2 * MIB, 3)).lfs(true));
    match store.pull(&model(), None).await {
        Ok(pulled) => assert_eq!(pulled.fetched_bytes, 2 * MIB),
        // Keeping what is shared may leave no room; then nothing was fetched in vain.
        Err(error) => assert!(matches!(error, Error::NoRoom { .. }), "{error}"),
    }
    assert_eq!(fixture.sent_bytes("m-Q4_K_M-00001-of-00002.gguf"), 2 * MIB);
}

#[tokio::test]
async fn the_same_bytes_under_another_name_are_not_fetched_again() {
    let fixture = Fixture::with_one(2 * MIB);
    let store = fixture.store();
    store.ensure(&model(), None).await.unwrap();
    let other = fixture.hub.add_repo("else/where");
    other.put("copy-Q4_K_M.gguf", FileSpec::new(Content::pattern(2 * MIB, 1)).lfs(true));
    let pulled = store.pull(&reference("else/where"), None).await.unwrap();
    assert_eq!((pulled.fetched_bytes, pulled.was_here), (0, false));
    assert_eq!(blobs(&fixture.cache()).len(), 1);
}

#[tokio::test]
async fn wrong_bytes_are_an_error_and_leave_nothing() {
    let fixture = Fixture::with_one(MIB);
    fixture.hub.lie(BadAnswer::WrongBytes);
    let store = fixture.store();
    let outcome = store.ensure(&model(), None).await;
    assert!(matches!(outcome, Err(Error::Mismatch { .. })), "{outcome:?}");
    assert!(blobs(&fixture.cache()).is_empty() && store.list().unwrap().is_empty());
    assert!(is_empty(&fixture.cache().join("partial")));
    fixture.hub.stop_lying();
    store.ensure(&model(), None).await.unwrap();
}

#[tokio::test]
async fn who_lies_about_the_size_of_what_is_here_disturbs_nothing() {
    let fixture = Fixture::with_one(MIB);
    let store = fixture.store();
    store.ensure(&model(), None).await.unwrap();
    let other = fixture.hub.add_repo("else/where");
    other.put("copy-Q4_K_M.gguf", FileSpec::new(Content::pattern(MIB, 1)).lfs(true));
    fixture.hub.lie(BadAnswer::TreeSize(77).within("else/where"));
    assert!(store.pull(&reference("else/where"), None).await.is_err());
    assert_eq!(blobs(&fixture.cache()).len(), 1);
    assert!(is_empty(&fixture.cache().join("quarantine")));
    assert!(store.find(&model()).unwrap().is_some());
}

#[tokio::test]
async fn a_resumed_download_with_wrong_bytes_is_fetched_once_more_in_full() {
    let fixture = Fixture::with_one(16 * MIB);
    let store = fixture.store();
    fixture.hub.hold_after(WIRE, 8 * MIB);
    let fetching = tokio::spawn({
        let store = store.clone();
        async move { store.ensure(&model(), None).await }
    });
    assert!(fixture.hub.held(WIRE).await);
    let partial = fs_err::read_dir(fixture.cache().join("partial")).unwrap().next().unwrap().unwrap().path();
    let spans = written(&partial).await;
    fetching.abort();
    let _ = fetching.await;
    fixture.hub.release_all();
    let data = fs_err::File::options().write(true).open(partial.join("data")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(data.file(), b"rot", spans[0].0 + 7).unwrap();
    let artifact = store.ensure(&model(), None).await.unwrap();
    assert_eq!(weights(&store, &artifact), Content::pattern(16 * MIB, 1).to_vec().unwrap());
    // The rest of the first try, and all of the second.
    assert!(fixture.sent_bytes(FILE) > 16 * MIB);
}

/// Waits until a download's note says that something was written, and gives its spans.
async fn written(partial: &Path) -> Vec<(u64, u64)> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let text = fs_err::read(partial.join("state.json")).unwrap_or_default();
        if let Ok(note) = serde_json::from_slice::<serde_json::Value>(&text) {
            let spans: Vec<(u64, u64)> = serde_json::from_value(note["spans"].clone()).unwrap();
            if !spans.is_empty() {
                return spans;
            }
        }
        assert!(std::time::Instant::now() < deadline, "nothing was written");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn small_files_without_a_promised_digest_are_checked_by_what_git_calls_them() {
    let fixture = Fixture::with(&[("model.safetensors", Content::pattern(MIB, 1))]);
    let repo = fixture.hub.add_repo(REPO);
    repo.put("config.json", FileSpec::new(Content::bytes("{\"a\": 1}")));
    repo.put("tokenizer.json", FileSpec::new(Content::bytes("{\"t\": 1}")));
    let store = fixture.store();
    let artifact = store.ensure(&reference("org/name"), None).await.unwrap();
    let config: FilePath = "config.json".parse().unwrap();
    let file = artifact.files.iter().find(|file| file.path == config).unwrap();
    assert_eq!(file.digest, Digest::of_bytes(b"{\"a\": 1}"));
    let opened = store.open_artifact(&artifact.key_digest).unwrap();
    assert_eq!(opened.path_of(&config).unwrap(), opened.directory().unwrap().join("config.json"));
    // The same version at the same place is known the next time.
    fs_err::remove_dir_all(fixture.cache().join("manifests")).unwrap();
    fs_err::create_dir(fixture.cache().join("manifests")).unwrap();
}

#[tokio::test]
async fn planted_symlinks_are_refused_and_nothing_is_written_behind_them() {
    let fixture = Fixture::with_one(MIB);
    let store = fixture.store();
    let digest = Content::pattern(MIB, 1).digest().unwrap().to_string();
    let elsewhere = fixture.dir.path().join("elsewhere");
    fs_err::create_dir(&elsewhere).unwrap();
    let target = elsewhere.join("target");
    fs_err::write(&target, vec![7; MIB as usize]).unwrap();
    let shard = fixture.cache().join("blobs/sha256").join(&digest[..2]);
    // A directory of blobs that leads elsewhere.
    symlink(&elsewhere, &shard).unwrap();
    assert!(matches!(store.ensure(&model(), None).await, Err(Error::Io { .. })));
    fs_err::remove_file(&shard).unwrap();
    // A blob that is a symlink.
    fs_err::create_dir(&shard).unwrap();
    symlink(&target, shard.join(&digest)).unwrap();
    assert!(matches!(store.ensure(&model(), None).await, Err(Error::Io { .. })));
    fs_err::remove_file(shard.join(&digest)).unwrap();
    // A partial download that leads elsewhere.
    let partial = fixture.cache().join("partial").join(&digest);
    fs_err::create_dir_all(&partial).unwrap();
    let _ = fs_err::remove_file(partial.join("data"));
    symlink(&target, partial.join("data")).unwrap();
    assert!(matches!(store.ensure(&model(), None).await, Err(Error::Io { .. })));
    assert_eq!(fs_err::read(&target).unwrap(), vec![7; MIB as usize]);
    assert_eq!(fs_err::read_dir(&elsewhere).unwrap().count(), 1);
    fs_err::remove_dir_all(&partial).unwrap();
    // With all of them gone, all is well; then a manifest that leads elsewhere.
    let artifact = store.ensure(&model(), None).await.unwrap();
    let manifest = fixture.cache().join(format!("manifests/{}.json", artifact.key_digest));
    fs_err::rename(&manifest, elsewhere.join("manifest")).unwrap();
    symlink(elsewhere.join("manifest"), &manifest).unwrap();
    drop(store);
    fs_err::remove_file(fixture.cache().join("index.sqlite3")).unwrap();
    assert!(fixture.store().list().unwrap().is_empty());
}

#[tokio::test]
async fn a_touched_blob_is_hashed_once_and_a_changed_one_is_set_aside_and_fetched_again() {
    let fixture = Fixture::with_one(MIB);
    let store = fixture.store();
    let artifact = store.ensure(&model(), None).await.unwrap();
    let [blob] = &blobs(&fixture.cache())[..] else { panic!("one blob") };
    let file = fs_err::File::options().write(true).open(blob);
    // Root may write what is read-only; others first give themselves the right.
    let file = file.or_else(|_| {
        fs_err::set_permissions(blob, std::fs::Permissions::from_mode(0o644))?;
        fs_err::File::options().write(true).open(blob)
    });
    let file = file.unwrap();
    file.file().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(store.open_artifact(&artifact.key_digest).is_ok());
    std::os::unix::fs::FileExt::write_all_at(file.file(), b"rot", 100).unwrap();
    let opened = store.open_artifact(&artifact.key_digest);
    assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
    assert_eq!(fs_err::read_dir(fixture.cache().join("quarantine")).unwrap().count(), 1);
    assert!(blobs(&fixture.cache()).is_empty());
    assert!(store.find(&model()).unwrap().is_none());
    let again = store.ensure(&model(), None).await.unwrap();
    assert_eq!(weights(&store, &again), Content::pattern(MIB, 1).to_vec().unwrap());
    assert_eq!(fixture.sent_bytes(FILE), 2 * MIB);
}

#[tokio::test]
async fn rot_that_leaves_no_trace_is_found_when_a_load_fails() {
    let fixture = Fixture::with_one(MIB);
    let store = fixture.store();
    let artifact = store.ensure(&model(), None).await.unwrap();
    assert_eq!(store.suspect(&artifact.key_digest).unwrap(), Integrity::Sound);
    let [blob] = &blobs(&fixture.cache())[..] else { panic!("one blob") };
    let modified = fs_err::metadata(blob).unwrap().modified().unwrap();
    fs_err::set_permissions(blob, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs_err::File::options().write(true).open(blob).unwrap();
    std::os::unix::fs::FileExt::write_all_at(file.file(), b"rot", 100).unwrap();
    file.file().set_modified(modified).unwrap();
    drop(file);
    assert!(store.open_artifact(&artifact.key_digest).is_ok(), "nothing is hashed on a warm open");
    let verdict = store.suspect(&artifact.key_digest).unwrap();
    assert_eq!(verdict, Integrity::Damaged(vec![artifact.files[0].digest]));
    store.ensure(&model(), None).await.unwrap();
    assert_eq!(store.suspect(&artifact.key_digest).unwrap(), Integrity::Sound);
}

#[tokio::test]
async fn a_lost_index_comes_back_from_the_manifests_also_while_running() {
    let fixture = Fixture::with_one(MIB);
    let store = fixture.store();
    let artifact = store.ensure(&model(), None).await.unwrap();
    for end in ["", "-wal", "-shm"] {
        let _ = fs_err::remove_file(fixture.cache().join(format!("index.sqlite3{end}")));
    }
    assert_eq!(store.find(&model()).unwrap().unwrap().key, artifact.key);
    assert!(store.open_artifact(&artifact.key_digest).is_ok());
    drop(store);
    fs_err::write(fixture.cache().join("index.sqlite3"), vec![0x5a; 8192]).unwrap();
    let store = fixture.offline();
    assert_eq!(store.ensure(&model(), None).await.unwrap().key, artifact.key);
}

#[tokio::test]
async fn a_read_only_store_is_searched_before_anything_is_fetched_and_never_written() {
    let shared = Fixture::with_one(MIB);
    let artifact = shared.store().ensure(&model(), None).await.unwrap();
    let before = listing(&shared.cache());
    let mut config = shared.config();
    config.cache_dir = shared.dir.path().join("own");
    config.read_only_dirs = vec![shared.dir.path().join("absent"), shared.cache()];
    shared.hub.forget();
    let store = Store::open(config).unwrap();
    let found = store.ensure(&model(), None).await.unwrap();
    assert_eq!(found.key, artifact.key);
    let opened = store.open_artifact(&found.key_digest).unwrap();
    assert_eq!(opened.location(), &Location::ReadOnly(shared.cache().canonicalize().unwrap()));
    assert_eq!(fs_err::read(&opened.weights()[0]).unwrap().len() as u64, MIB);
    assert!(shared.hub.requests().is_empty());
    // Another artifact with the same bytes is copied, not fetched.
    let other = shared.hub.add_repo("else/where");
    other.put("copy-Q4_K_M.gguf", FileSpec::new(Content::pattern(MIB, 1)).lfs(true));
    let pulled = store.pull(&reference("else/where"), None).await.unwrap();
    assert_eq!(pulled.fetched_bytes, 0);
    assert_eq!(listing(&shared.cache()), before);
}

/// Every name below a directory, with its time of change.
fn listing(dir: &Path) -> Vec<(PathBuf, i64, i64)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs_err::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let facts = fs_err::symlink_metadata(&path).unwrap();
            found.push((path.clone(), facts.mtime(), facts.mtime_nsec()));
            if facts.is_dir() {
                todo.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn bytes_that_the_program_has_become_an_artifact_like_any_other() {
    let fixture = Fixture::with(&[]);
    let store = fixture.store();
    let key = samovar_store::ArtifactKey {
        source: "built-in".parse().unwrap(),
        model: "demo".parse().unwrap(),
        commit: "1".parse().unwrap(),
        quant: String::new(),
        modality: "text".to_owned(),
    };
    let ingest =
        || store.ingest(key.clone(), "demo", "demo.gguf".parse().unwrap(), Role::Weights, b"GGUF and more");
    let artifact = ingest().unwrap();
    let before = listing(&fixture.cache().join("blobs"));
    assert_eq!(ingest().unwrap().key, artifact.key);
    assert_eq!(listing(&fixture.cache().join("blobs")), before);
    assert_eq!(weights(&store, &artifact), b"GGUF and more");
}

#[tokio::test]
async fn a_plan_says_what_is_missing_and_a_peek_takes_only_the_head() {
    let fixture = Fixture::with_one(4 * MIB);
    let store = fixture.store();
    let plan = store.plan(&model(), None).await.unwrap();
    assert_eq!((plan.missing_bytes, plan.total_bytes), (4 * MIB, 4 * MIB));
    let head = store.peek(&plan, 4096).await.unwrap();
    assert_eq!(head, Content::pattern(4 * MIB, 1).to_vec().unwrap()[..4096]);
    assert!(blobs(&fixture.cache()).is_empty());
    store.ensure(&model(), None).await.unwrap();
    assert_eq!(store.plan(&model(), None).await.unwrap().missing_bytes, 0);
}
