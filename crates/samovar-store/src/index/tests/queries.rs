//! Every question and every change, on an index in order.

use samovar_core::footprint::Footprint;

use super::*;

#[test]
fn the_bundled_sqlite_is_free_of_the_log_reset_fault() {
    assert!(rusqlite::version_number() >= 3_051_003, "SQLite {} is too old", rusqlite::version());
}

#[test]
fn a_committed_artifact_is_found_by_key_reference_model_and_blob() {
    let fixture = Fixture::new();
    let index = fixture.index();
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
    let all = [committed];
    assert_eq!(index.artifacts_of(&key.source, &key.model).unwrap(), all);
    assert_eq!(index.artifacts_with_blob(&digest).unwrap(), all);
    assert_eq!(index.artifacts().unwrap(), all);
    let led = index.ref_of(&key.source, &key.model, "main").unwrap().unwrap();
    assert_eq!(led, RefRow { commit: key.commit.clone(), checked_ms: 1_750_000_000_000 });
}

#[test]
fn a_load_that_was_noted_shows_at_once_and_after_a_restart() {
    let fixture = Fixture::new();
    let index = fixture.index();
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
    let index = fixture.index();
    let usage = look(&index);
    assert_eq!((usage.loads, usage.load_ms, usage.footprint, usage.hits), (1, 12.5, footprint, 1));
    index.count("fetched_bytes", 2);
    assert_eq!(index.counters().unwrap()["fetched_bytes"], 42);
}

#[test]
fn a_blob_comes_back_as_it_was_put_whatever_its_numbers_are() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let mut row = blob("weights");
    row.state = BlobState::Deleting;
    row.origin = Ownership::HardLink;
    index.put_blob(&row).unwrap();
    assert_eq!(index.blob(&row.digest).unwrap(), Some(row));
    assert_eq!(index.blob(&blob("other").digest).unwrap(), None);
    let huge = BlobRow { size: u64::MAX, stamp: Stamp { size: u64::MAX, ..row.stamp }, ..blob("huge") };
    index.put_blob(&huge).unwrap();
    let mut all = [row, huge];
    all.sort_by_key(|row| row.digest);
    assert_eq!(index.blobs().unwrap(), all);
}

#[test]
fn a_blob_that_comes_again_keeps_the_time_at_which_it_came() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let first = blob("weights");
    index.put_blob(&BlobRow { state: BlobState::Quarantined, ..first }).unwrap();
    let again = BlobRow { created_ms: 1_760_000_000_000, verified_ms: 1_760_000_000_000, ..first };
    index.put_blob(&again).unwrap();
    let expected = BlobRow { created_ms: first.created_ms, ..again };
    assert_eq!(index.blob(&first.digest).unwrap(), Some(expected));
}

#[test]
fn a_stamp_moves_and_leaves_the_rest() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let row = blob("weights");
    index.put_blob(&row).unwrap();
    let stamp = Stamp { dev: 1, ino: 2, mtime_ns: 3, size: row.size };
    index.stamp_blob(&row.digest, stamp, 4).unwrap();
    assert_eq!(index.blob(&row.digest).unwrap(), Some(BlobRow { stamp, verified_ms: 4, ..row }));
}

#[test]
fn only_an_artifact_whose_blobs_are_all_ready_is_a_hit() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let key = key("org/name", "c1");
    let artifact = commit(&index, &key, &["weights", "config"]);
    let digest = artifact.files[1].digest;
    for state in [BlobState::Deleting, BlobState::Quarantined] {
        index.set_blob_state(&digest, state).unwrap();
        assert_eq!(index.artifact(&key.digest()).unwrap(), None);
        assert_eq!(index.by_reference(&artifact.reference).unwrap(), None);
        assert_eq!(index.artifacts_of(&key.source, &key.model).unwrap(), []);
        assert_eq!(index.artifact_in_any_state(&key.digest()).unwrap(), Some(artifact.clone()));
        assert_eq!(index.artifacts_with_blob(&digest).unwrap().len(), 1);
        assert_eq!(index.artifacts().unwrap().len(), 1);
        let marked: Vec<Digest> = index.blobs_in(state).unwrap().iter().map(|row| row.digest).collect();
        assert_eq!(marked, [digest]);
    }
    index.put_blob(&blob("config")).unwrap();
    assert_eq!(index.artifact(&key.digest()).unwrap(), Some(artifact));
    assert_eq!(index.blobs_in(BlobState::Quarantined).unwrap(), []);
    assert_eq!(index.blobs_in(BlobState::Ready).unwrap().len(), 2);
}

#[test]
fn a_blob_that_an_artifact_names_is_forgotten_only_with_it() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let key = key("org/name", "c1");
    let artifact = commit(&index, &key, &["weights"]);
    let digest = artifact.files[0].digest;
    index.remove_blob(&digest).unwrap();
    assert_eq!(index.blob(&digest).unwrap().map(|row| row.state), Some(BlobState::Quarantined));
    assert_eq!(index.artifact(&key.digest()).unwrap(), None);
    assert_eq!(index.remove_artifact(&key.digest()).unwrap(), [digest]);
    index.remove_blob(&digest).unwrap();
    assert_eq!(index.blob(&digest).unwrap(), None);
    index.remove_blob(&digest).unwrap();
}

#[test]
fn removing_artifacts_gives_the_blobs_that_nobody_names_any_more() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let (one, two) = (key("org/one", "c1"), key("org/two", "c1"));
    commit(&index, &one, &["only in one", "shared", "only in one"]);
    commit(&index, &two, &["only in two", "shared"]);
    assert_eq!(index.remove_artifact(&one.digest()).unwrap(), [Digest::of_bytes(b"only in one")]);
    assert_eq!(index.remove_artifact(&one.digest()).unwrap(), []);
    let mut rest = index.remove_artifacts(&[one.digest(), two.digest()]).unwrap();
    rest.sort();
    let mut expected = [Digest::of_bytes(b"only in two"), Digest::of_bytes(b"shared")];
    expected.sort();
    assert_eq!(rest, expected);
    assert_eq!(index.artifacts().unwrap(), []);
    commit(&index, &one, &["a", "b"]);
    commit(&index, &two, &["a", "c"]);
    assert_eq!(index.remove_artifacts(&[one.digest(), two.digest()]).unwrap().len(), 3);
}

#[test]
fn a_text_means_the_newest_and_after_its_removal_the_one_before() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let (old, new) = (key("org/name", "c1"), key("org/name", "c2"));
    let reference = "hf://org/name:Q4_K_M";
    let meant = |index: &Index| {
        index.by_reference(reference).unwrap().map(|artifact| artifact.key.commit.to_string())
    };
    commit_at(&index, &new, &["new"], 2_000);
    commit_at(&index, &old, &["old"], 1_000);
    assert_eq!(meant(&index).as_deref(), Some("c2"), "in whatever order they are recorded");
    let main = index.ref_of(&new.source, &new.model, "main").unwrap().unwrap();
    assert_eq!(main, RefRow { commit: new.commit.clone(), checked_ms: 2_000 });
    index.note_reference(reference, &old.digest()).unwrap();
    assert_eq!(meant(&index).as_deref(), Some("c1"), "what is noted wins");
    index.note_reference(reference, &new.digest()).unwrap();
    index.remove_artifact(&new.digest()).unwrap();
    assert_eq!(meant(&index).as_deref(), Some("c1"));
    index.remove_artifact(&old.digest()).unwrap();
    assert_eq!(meant(&index), None);
}

#[test]
fn what_a_wrong_clock_put_into_the_future_gives_way() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let (odd, right) = (key("org/name", "c1"), key("org/name", "c2"));
    commit_at(&index, &odd, &["odd"], 4_102_444_800_000);
    commit_at(&index, &right, &["right"], 1_750_000_000_000);
    let meant = index.by_reference("hf://org/name:Q4_K_M").unwrap().unwrap();
    assert_eq!(meant.key, right);
    assert_eq!(index.ref_of(&right.source, &right.model, "main").unwrap().unwrap().commit, right.commit);
    commit_at(&index, &odd, &["odd"], 4_102_444_800_000);
    assert_eq!(index.by_reference("hf://org/name:Q4_K_M").unwrap().unwrap().key, right);
}

#[test]
fn committing_again_keeps_the_place_the_pin_and_the_figures() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let key = key("org/name", "c1");
    let first = commit(&index, &key, &["weights"]);
    index.set_pinned(&key.digest(), true).unwrap();
    index.note(&key.digest(), Use::Hit);
    index.flush();
    commit(&index, &ArtifactKey { quant: "Q8_0".to_owned(), ..key.clone() }, &["other"]);
    let again = commit(&index, &key, &["weights", "config"]);
    assert_eq!((again.id, again.is_pinned, again.usage.hits), (first.id, true, 1));
    assert_eq!(again.files.len(), 2);
    index.set_pinned(&key.digest(), false).unwrap();
    assert!(!index.artifact(&key.digest()).unwrap().unwrap().is_pinned);
}

#[test]
fn a_manifest_with_an_unknown_blob_is_refused_and_leaves_nothing() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let key = key("org/name", "c1");
    let manifest = manifest(&key, &["weights", "config"], 1);
    let error = index.commit_artifact(&manifest, Digest::of_bytes(b"m"), &[blob("weights")]).unwrap_err();
    assert!(matches!(error, Error::Index { .. }), "{error}");
    assert_eq!(index.artifacts().unwrap(), []);
    assert_eq!(index.blobs().unwrap(), []);
    assert_eq!(index.by_reference(&manifest.reference).unwrap(), None);
    assert!(fixture.broken().is_empty(), "a mistake of the caller is no damage");
}

#[test]
fn an_artifact_without_files_is_found() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let key = key("org/name", "c1");
    assert_eq!(commit(&index, &key, &[]).files, []);
    assert_eq!(index.artifacts().unwrap().len(), 1);
}

#[test]
fn parts_come_back_in_the_order_of_the_manifest() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let contents: Vec<String> = (0..40).map(|part| format!("part {part}")).collect();
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    let artifact = commit(&index, &key("org/name", "c1"), &contents);
    let digests: Vec<Digest> = artifact.files.iter().map(|file| file.digest).collect();
    let expected: Vec<Digest> = contents.iter().map(|content| Digest::of_bytes(content.as_bytes())).collect();
    assert_eq!(digests, expected);
}

#[test]
fn artifacts_of_another_source_or_model_are_others() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let hub = key("org/name", "c1");
    let folder = ArtifactKey { source: "folder".parse().unwrap(), ..hub.clone() };
    let other = key("org/name-2", "c1");
    for key in [&hub, &folder, &other] {
        commit(&index, key, &["weights"]);
    }
    let found = index.artifacts_of(&hub.source, &hub.model).unwrap();
    assert_eq!(found.iter().map(|artifact| &artifact.key).collect::<Vec<_>>(), [&hub]);
}

#[test]
fn a_moving_name_leads_to_the_last_commit_and_each_model_has_its_own() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let (one, two) = (key("org/one", "c1"), key("org/two", "c2"));
    assert_eq!(index.ref_of(&one.source, &one.model, "main").unwrap(), None);
    index.set_ref(&one.source, &one.model, "main", &two.commit).unwrap();
    let before = now_ms();
    index.set_ref(&one.source, &one.model, "main", &one.commit).unwrap();
    let led = index.ref_of(&one.source, &one.model, "main").unwrap().unwrap();
    assert_eq!(led.commit, one.commit);
    assert!((before..=now_ms()).contains(&led.checked_ms));
    assert_eq!(index.ref_of(&two.source, &two.model, "main").unwrap(), None);
    assert_eq!(index.ref_of(&one.source, &one.model, "v1").unwrap(), None);
}

#[test]
fn texts_that_lead_to_one_artifact_are_limited_and_its_own_is_kept() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let key = key("org/name", "c1");
    commit(&index, &key, &["weights"]);
    for number in 0..100 {
        index.note_reference(&format!("https://127.0.0.1/model?{number}"), &key.digest()).unwrap();
    }
    let known = (0..100)
        .filter(|number| index.by_reference(&format!("https://127.0.0.1/model?{number}")).unwrap().is_some())
        .count();
    assert!((60..=64).contains(&known), "{known}");
    assert!(index.by_reference("https://127.0.0.1/model?99").unwrap().is_some());
    assert!(index.by_reference("hf://org/name:Q4_K_M").unwrap().is_some(), "its own text stays");
    let long = "x".repeat(5_000);
    index.note_reference(&long, &key.digest()).unwrap();
    assert_eq!(index.by_reference(&long).unwrap(), None);
    index.note_reference("to nothing", &crate::KeyDigest::from_digest(Digest::of_bytes(b"absent"))).unwrap();
    assert_eq!(index.by_reference("to nothing").unwrap(), None);
}

#[test]
fn memos_are_kept_replaced_and_limited() {
    let fixture = Fixture::new();
    let index = fixture.index();
    assert_eq!(index.recall("a").unwrap(), None);
    index.remember("a", "1").unwrap();
    index.remember("a", "2").unwrap();
    assert_eq!(index.recall("a").unwrap().as_deref(), Some("2"));
    index.remember("long", &"x".repeat(100_000)).unwrap();
    assert_eq!(index.recall("long").unwrap(), None);
    drop(index);
    assert_eq!(fixture.index().recall("a").unwrap().as_deref(), Some("2"));
}

#[test]
fn the_oldest_of_too_many_memos_are_forgotten() {
    let index = Index::in_memory().unwrap();
    for number in 0..4_200 {
        index.remember(&format!("memo {number}"), "{}").unwrap();
    }
    let known =
        (0..4_200).filter(|number| index.recall(&format!("memo {number}")).unwrap().is_some()).count();
    assert_eq!(known, 4_096);
    assert!(index.recall("memo 4199").unwrap().is_some());
}

#[test]
fn counters_add_up_and_never_turn_over() {
    let fixture = Fixture::new();
    let index = fixture.index();
    index.count("a", 1);
    index.flush();
    index.count("a", u64::MAX);
    index.count("b", 0);
    index.flush();
    index.count("a", 5);
    assert_eq!(index.counters().unwrap()["a"], u64::MAX);
    drop(index);
    let counters = fixture.index().counters().unwrap();
    assert_eq!((counters["a"], counters["b"]), (u64::MAX, 0));
}

#[test]
fn uses_of_what_was_removed_meanwhile_go_nowhere() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let key = key("org/name", "c1");
    commit(&index, &key, &["weights"]);
    index.note(&key.digest(), Use::Hit);
    index.remove_artifact(&key.digest()).unwrap();
    index.flush();
    assert_eq!(commit(&index, &key, &["weights"]).usage.hits, 0);
}

#[test]
fn an_index_in_memory_answers_like_one_on_disk() {
    let index = Index::in_memory().unwrap();
    assert!(index.check_alive().unwrap(), "it is to be filled");
    let key = key("org/name", "c1");
    let artifact = commit(&index, &key, &["weights"]);
    index.set_rebuilt().unwrap();
    assert!(!index.check_alive().unwrap());
    assert_eq!(index.by_reference(&artifact.reference).unwrap(), Some(artifact));
}

#[test]
fn a_file_keeps_the_journal_that_is_asked_for_last() {
    let fixture = Fixture::new();
    let mode = |journal| {
        let index = Index::open(&fixture.path(), journal).unwrap().index;
        let key = key("org/name", "c1");
        commit(&index, &key, &["weights"]);
        drop(index);
        let file = rusqlite::Connection::open(fixture.path()).unwrap();
        file.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0)).unwrap()
    };
    assert_eq!(mode(Journal::Wal), "wal");
    assert_eq!(mode(Journal::Rollback), "delete");
    assert_eq!(mode(Journal::Wal), "wal");
}
