//! Every question and every change, on an index in order.

use samovar_core::footprint::Footprint;

use super::*;

#[test]
fn the_bundled_sqlite_is_free_of_the_log_reset_fault() {
    assert!(rusqlite::version_number() >= 3_051_003, "SQLite {} is too old", rusqlite::version());
}

#[test]
fn a_committed_artifact_is_found_by_key_reference_model_and_blob() {
    let ground = Ground::new();
    let index = ground.index();
    let key = key("org/name", "c1");
    let committed = commit(&index, &key, &["weights", "more", "readme"]);
    assert_eq!(committed.key, key);
    assert_eq!(committed.key_digest, key.digest());
    assert_eq!(committed.reference, "hf://org/name:Q4_K_M");
    assert_eq!(committed.files, manifest(&key, &["weights", "more", "readme"], 0).files);
    let digest = committed.files[1].digest;
    let same = Some(committed.clone());
    assert_eq!(index.artifact(&key.digest()).unwrap(), same);
    assert_eq!(index.by_reference("hf://org/name:Q4_K_M").unwrap(), same);
    assert_eq!(index.artifacts_of(&key.source, &key.model).unwrap(), [committed.clone()]);
    assert_eq!(index.artifacts_with_blob(&digest).unwrap(), [committed.clone()]);
    assert_eq!(index.artifacts().unwrap(), [committed]);
    let led = index.ref_of(&key.source, &key.model, "main").unwrap().unwrap();
    assert_eq!(led, RefRow { commit: key.commit.clone(), checked_ms: 1_750_000_000_000 });
}

#[test]
fn a_load_that_was_noted_shows_at_once_and_after_a_restart() {
    let ground = Ground::new();
    let index = ground.index();
    let key = key("org/name", "c1");
    commit(&index, &key, &["weights"]);
    let footprint = Footprint { held_bytes: 7, mapped_bytes: 9 };
    index.note(&key.digest(), Use::Load { ms: 12.5, footprint });
    index.note(&key.digest(), Use::Hit);
    index.count("fetched_bytes", 40);
    let look = |index: &Index| index.artifact(&key.digest()).unwrap().unwrap().usage;
    let usage = look(&index);
    assert_eq!((usage.loads, usage.load_ms, usage.footprint, usage.hits), (1, 12.5, footprint, 1));
    drop(index);
    let index = ground.index();
    let usage = look(&index);
    assert_eq!((usage.loads, usage.load_ms, usage.footprint, usage.hits), (1, 12.5, footprint, 1));
    index.count("fetched_bytes", 2);
    assert_eq!(index.counters().unwrap()["fetched_bytes"], 42);
}
