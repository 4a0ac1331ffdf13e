//! Saved prefixes: found again after a restart and by other processes, checked, bounded, and gone with their model.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use crate::fixture;

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use fixture::{Fixture, model};
use samovar_core::footprint::KvType;
use samovar_core::{Digest, ErrorKind, Failure, Scope};
use samovar_store::{CollectOptions, LeftoverKind, Prefixes, Store, StoreConfig, VerifyOptions, Weights};
use tempfile::TempDir;

/// Where a child process finds its cache directory.
const CACHE: &str = "SAMOVAR_TEST_PREFIX_CACHE";
const STATE_BYTES: u64 = 100_000;

fn config(dir: &TempDir) -> StoreConfig {
    config_at(&dir.path().join("cache"))
}

fn config_at(cache: &Path) -> StoreConfig {
    let mut config = StoreConfig::new(cache, cache.with_extension("state"));
    config.min_free_bytes = 0;
    config.max_size_bytes = Some(1 << 30);
    config
}

fn file(name: &str) -> Weights {
    Weights::File(Digest::of_bytes(name.as_bytes()))
}

fn prefixes(store: &Store) -> Prefixes {
    store.prefixes(&file("weights"), "engine 1", KvType::F16, &Scope::default())
}

/// State that is different for every prompt.
fn state(tokens: &[u32]) -> Vec<u8> {
    let seed = tokens.iter().fold(1u32, |seed, token| seed.wrapping_mul(31).wrapping_add(*token));
    (0..STATE_BYTES).map(|at| (u64::from(seed) + at * 7) as u8).collect()
}

fn save(prefixes: &Prefixes, tokens: &[u32]) -> Result<bool, Failure> {
    let bytes = state(tokens);
    prefixes.save(tokens, None, STATE_BYTES, |file| write(file, &bytes))
}

fn write(mut file: &File, bytes: &[u8]) -> Result<u64, Failure> {
    let written = file.write_all(bytes).map(|()| bytes.len() as u64);
    written.map_err(|error| Failure::new(ErrorKind::Storage, error.to_string()))
}

fn tokens(range: std::ops::Range<u32>) -> Vec<u32> {
    range.collect()
}

/// Every file of this name below the cache's prefixes.
fn files(config: &StoreConfig, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![config.cache_dir.join("prefixes")];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with(name) {
                found.push(path);
            }
        }
    }
    found
}

fn is_empty(config: &StoreConfig, part: &str) -> bool {
    fs_err::read_dir(config.cache_dir.join(part)).unwrap().count() == 0
}

#[test]
fn what_one_life_saved_the_next_finds_also_by_a_part_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let whole = tokens(0..2_000);
    assert!(save(&prefixes(&Store::open(config.clone()).unwrap()), &whole).unwrap());

    let store = Store::open(config.clone()).unwrap();
    let prefixes = prefixes(&store);
    let prompt: Vec<u32> = (0..1_500).chain(9_000..9_100).collect();
    let found = prefixes.longest(&prompt).unwrap();
    assert_eq!((found.common, &found.tokens[..]), (1_500, &whole[..]));
    let mut opened = prefixes.open(&found).unwrap().unwrap();
    assert_eq!(opened.stream_position().unwrap(), 0);
    let mut bytes = Vec::new();
    opened.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, state(&whole));
    prefixes.note_restored(&found);
    for name in ["state", "facts.json"] {
        for path in files(&config, name) {
            assert_eq!(fs_err::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
    let stats = store.stats().unwrap();
    let counted =
        (stats.prefixes, stats.prefixes_saved, stats.prefixes_restored, stats.prefix_tokens_restored);
    assert_eq!(counted, (1, 1, 1, 1_500));
    assert!(stats.prefix_bytes >= STATE_BYTES);
    assert!(is_empty(&config, "tmp"));
}

#[test]
fn other_weights_engines_and_formats_find_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir)).unwrap();
    let prompt = tokens(0..300);
    save(&prefixes(&store), &prompt).unwrap();
    for other in [
        store.prefixes(&file("other weights"), "engine 1", KvType::F16, &Scope::default()),
        store.prefixes(&file("weights"), "engine 2", KvType::F16, &Scope::default()),
        store.prefixes(&file("weights"), "engine 1", KvType::Q8_0, &Scope::default()),
    ] {
        assert_eq!(other.longest(&prompt), None);
        assert!(other.is_empty());
    }
    assert_eq!(prefixes(&store).longest(&tokens(1..300)), None, "it must begin alike");
}

#[test]
fn what_a_private_client_saved_is_found_by_that_client_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir)).unwrap();
    let of = |scope: Scope| store.prefixes(&file("weights"), "engine 1", KvType::F16, &scope);
    let [alice, bob, nobody] = ["alice", "bob", ""].map(|name| Scope::of_client(name, true));
    let prompt = tokens(0..300);
    let bytes = state(&prompt);
    of(alice).save(&prompt, alice.client, STATE_BYTES, |file| write(file, &bytes)).unwrap();
    assert_eq!(of(alice).longest(&prompt).unwrap().scope, alice);
    for other in [bob, nobody, Scope::default()] {
        assert_eq!(of(other).longest(&prompt), None, "{other:?}");
    }
    // Where clients share, all find it, and are told whose it is.
    let shared = Scope::of_client("alice", false);
    of(shared).save(&prompt, shared.client, STATE_BYTES, |file| write(file, &bytes)).unwrap();
    assert_eq!(of(Scope::of_client("bob", false)).longest(&prompt).unwrap().scope, shared);
    assert_eq!(of(bob).longest(&prompt), None);
}

#[test]
fn a_longer_state_takes_the_place_of_what_it_begins_with() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let prefixes = prefixes(&Store::open(config.clone()).unwrap());
    save(&prefixes, &tokens(0..300)).unwrap();
    save(&prefixes, &tokens(1..300)).unwrap();
    save(&prefixes, &tokens(0..600)).unwrap();
    assert!(!save(&prefixes, &tokens(0..600)).unwrap(), "it is here already");
    assert_eq!(files(&config, "state").len(), 2);
    assert_eq!(prefixes.longest(&tokens(0..300)).unwrap().tokens.len(), 600);
}

#[test]
fn a_damaged_state_is_not_opened_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let store = Store::open(config.clone()).unwrap();
    let prefixes = prefixes(&store);
    let prompt = tokens(0..300);
    save(&prefixes, &prompt).unwrap();
    let [path] = &files(&config, "state")[..] else { panic!("one state") };
    let mut bytes = fs_err::read(path).unwrap();
    bytes[70_000] ^= 1;
    fs_err::write(path, bytes).unwrap();
    let found = prefixes.longest(&prompt).unwrap();
    assert!(prefixes.open(&found).unwrap().is_none());
    assert_eq!(prefixes.longest(&prompt), None);
    assert!(files(&config, "state").is_empty() && is_empty(&config, "trash"));
    assert_eq!(store.stats().unwrap().prefixes_damaged, 1);
    assert!(save(&prefixes, &prompt).unwrap(), "it can be saved anew");
    // Facts that are none, as a bad disk leaves them.
    let [facts] = &files(&config, "facts.json")[..] else { panic!("one") };
    fs_err::write(facts, "{").unwrap();
    let reader = Store::open(config.clone()).unwrap();
    assert_eq!(self::prefixes(&reader).longest(&prompt), None);
    assert!(files(&config, "state").is_empty());
}

#[test]
fn the_least_recently_used_leave_when_the_quota_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.prefixes.quota_bytes = Some(3 * (STATE_BYTES + 10_000));
    let store = Store::open(config.clone()).unwrap();
    let prefixes = prefixes(&store);
    for first in [1_000, 2_000, 3_000] {
        save(&prefixes, &tokens(first..first + 300)).unwrap();
        // As if it had been long ago: the first the longest.
        for path in files(&config, "state") {
            let file = File::options().write(true).open(path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.set_modified(modified - Duration::from_secs(3_600)).unwrap();
        }
    }
    prefixes.note_restored(&prefixes.longest(&tokens(1_000..1_300)).unwrap());
    save(&prefixes, &tokens(4_000..4_300)).unwrap();
    let is_there = |first: u32| prefixes.longest(&tokens(first..first + 300)).is_some();
    assert_eq!([1_000, 2_000, 3_000, 4_000].map(is_there), [true, false, true, true]);
    let used = store.disk_use().unwrap();
    assert_eq!(used.prefixes, 3);
    assert!(used.prefix_bytes <= used.prefix_quota_bytes && used.prefix_bytes >= 3 * STATE_BYTES);
}

#[test]
fn what_has_no_room_or_fails_leaves_nothing_and_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.prefixes.quota_bytes = Some(STATE_BYTES + 10_000);
    let prefixes = prefixes(&Store::open(config.clone()).unwrap());
    save(&prefixes, &tokens(0..300)).unwrap();
    let never = |_: &File| -> Result<u64, Failure> { panic!("it is not even begun") };
    let refused = prefixes.save(&tokens(5..400), None, 2 * STATE_BYTES, never).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InsufficientStorage);
    let larger_than_said = |file: &File| write(file, &vec![1; 2 * STATE_BYTES as usize]);
    assert!(prefixes.save(&tokens(5..400), None, 10, larger_than_said).is_err());
    let fails = |file: &File| {
        write(file, b"half").and(Err(Failure::new(ErrorKind::Storage, "no space left on the device")))
    };
    assert_eq!(
        prefixes.save(&tokens(5..400), None, 10, fails).unwrap_err().message,
        "no space left on the device"
    );
    let lies = |file: &File| write(file, b"half").map(|bytes| bytes + 1);
    assert_eq!(prefixes.save(&tokens(5..400), None, 10, lies).unwrap_err().kind, ErrorKind::EngineFailed);
    assert_eq!(files(&config, "state").len(), 1);
    assert!(is_empty(&config, "tmp") && is_empty(&config, "trash"));

    // A disk that must keep more free than it has.
    config.min_free_bytes = u64::MAX / 2;
    let full = self::prefixes(&Store::open(config.clone()).unwrap());
    assert!(full.save(&tokens(7..400), None, 10, never).is_err());
    // The switch.
    config.min_free_bytes = 0;
    config.prefixes.quota_bytes = Some(0);
    let store = Store::open(config.clone()).unwrap();
    assert!(self::prefixes(&store).save(&tokens(7..400), None, 10, never).is_err());
    let collected = store.collect(&CollectOptions::default()).unwrap();
    assert_eq!(collected.leftovers[&LeftoverKind::Prefix].count, 1);
    assert!(files(&config, "state").is_empty());
}

#[tokio::test]
async fn they_are_counted_verified_and_removed_with_their_model() {
    let fixture = Fixture::with_one(1 << 20);
    let store = fixture.store();
    let artifact = store.ensure(&model(), None).await.unwrap();
    let key = artifact.key_digest;
    let of_model = store.prefixes(&Weights::Artifact(key), "engine 1", KvType::F16, &Scope::default());
    let before = store.disk_use().unwrap();
    for first in [0, 1_000, 2_000] {
        save(&of_model, &tokens(first..first + 300)).unwrap();
    }
    save(&prefixes(&store), &tokens(0..300)).unwrap();
    let kept = store.prefixes_of(&key).unwrap();
    assert_eq!(kept.count, 3);
    let used = store.disk_use().unwrap();
    assert_eq!((used.prefixes, used.artifact_bytes), (4, before.artifact_bytes));
    assert_eq!(used.used_bytes - before.used_bytes, used.prefix_bytes);
    assert!(kept.bytes < used.prefix_bytes);

    let all = store.verify(&VerifyOptions::default()).await.unwrap();
    assert_eq!((all.prefixes, all.damaged_prefixes), (4, 0));
    let rotten = files(&fixture.config(), "state")
        .into_iter()
        .find(|path| path.display().to_string().contains(&key.to_string()));
    fs_err::write(rotten.unwrap(), b"rot").unwrap();
    let options = VerifyOptions { keys: vec![key], ..VerifyOptions::default() };
    let one = store.verify(&options).await.unwrap();
    assert_eq!((one.prefixes, one.damaged_prefixes, one.is_sound()), (2, 1, true));
    assert_eq!(store.prefixes_of(&key).unwrap().count, 2);

    store.remove(&key).unwrap();
    assert_eq!(store.prefixes_of(&key).unwrap().count, 0);
    assert!(of_model.is_empty() && !prefixes(&store).is_empty());
    assert_eq!(store.disk_use().unwrap().prefixes, 1);
}

#[test]
fn processes_that_save_and_find_at_once_do_each_other_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let own = prefixes(&Store::open(config.clone()).unwrap());
    assert!(own.is_empty());
    let children: Vec<_> = (0..4)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "prefixes::as_a_process_of_its_own", "--ignored", "--nocapture"])
                .env(CACHE, &config.cache_dir)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    // This process opened its store before any of them.
    for first in 0..20 {
        let prompt = tokens(first * 1_000..first * 1_000 + 300);
        let found = own.longest(&prompt).unwrap();
        assert_eq!(found.common, 300);
        let mut bytes = Vec::new();
        own.open(&found).unwrap().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, state(&prompt));
    }
    assert!(is_empty(&config, "tmp") && is_empty(&config, "trash"));
}

#[test]
#[ignore = "started by another test"]
#[allow(clippy::disallowed_methods, reason = "a child has no other settings")]
fn as_a_process_of_its_own() {
    let Ok(cache) = std::env::var(CACHE) else { return };
    let prefixes = prefixes(&Store::open(config_at(Path::new(&cache))).unwrap());
    let began = SystemTime::now();
    // All of them save the same, so that each finds some that others were quicker with.
    for first in 0..20 {
        save(&prefixes, &tokens(first * 1_000..first * 1_000 + 300)).unwrap();
    }
    assert!(began.elapsed().unwrap() < Duration::from_secs(60));
}
