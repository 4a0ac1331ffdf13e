//! Files that are no usable index, and files that go away.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

const PAGE: u64 = 4_096;

/// An index of some pages, closed, with its log taken over.
fn filled(fixture: &Fixture) {
    let index = fixture.index();
    index.set_rebuilt().unwrap();
    let contents: Vec<String> = (0..40).map(|number| format!("weights {number}")).collect();
    let manifests: Vec<Manifest> = (0..40)
        .map(|number| {
            manifest(&key(&format!("org/name-{number}"), "c1"), &[&contents[number], "shared"], 1_000)
        })
        .collect();
    let blobs: Vec<[BlobRow; 2]> = contents.iter().map(|content| [blob(content), blob("shared")]).collect();
    let entries: Vec<Entry<'_>> = manifests
        .iter()
        .zip(&blobs)
        .map(|(manifest, blobs)| Entry { manifest, manifest_digest: blobs[1].digest, blobs })
        .collect();
    index.commit_artifacts(&entries).unwrap();
    index.count("fetched_bytes", 1);
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

/// It was set aside, and what took its place works.
fn is_replaced(fixture: &Fixture) {
    let Opened { index, was } = fixture.open();
    let Was::SetAside(to) = was else { panic!("{was:?}") };
    assert_eq!(fixture.broken(), [to]);
    assert!(index.check_alive().unwrap(), "it is to be filled again");
    assert_eq!(index.artifacts().unwrap(), []);
    let key = key("org/after", "c1");
    commit(&index, &key, &["weights"]);
    index.set_rebuilt().unwrap();
    drop(index);
    let Opened { index, was } = fixture.open();
    assert_eq!(was, Was::Existing);
    assert!(!index.check_alive().unwrap());
    assert!(index.artifact(&key.digest()).unwrap().is_some());
}

#[test]
fn a_file_whose_structure_is_broken_is_set_aside() {
    let pages = {
        let fixture = Fixture::new();
        filled(&fixture);
        fs_err::metadata(fixture.path()).unwrap().len() / PAGE
    };
    assert!(pages > 10, "{pages} pages are too few for this test");
    let structural: Vec<u64> = [0, 16, 100].into_iter().chain((1..pages).map(|page| page * PAGE)).collect();
    for at in structural {
        let fixture = Fixture::new();
        filled(&fixture);
        overwrite(&fixture.path(), at, &[0xa5; 24]);
        is_replaced(&fixture);
    }
}

#[test]
fn what_is_no_database_is_set_aside() {
    for content in [
        &b"not a database, but longer than the header of one would be: ".repeat(20)[..],
        b"less than a page",
        &[0xff; 5_000],
    ] {
        let fixture = Fixture::new();
        fs_err::write(fixture.path(), content).unwrap();
        is_replaced(&fixture);
    }
}

#[test]
fn a_file_that_was_cut_short_is_set_aside() {
    for keep in [PAGE + 1, 3 * PAGE] {
        let fixture = Fixture::new();
        filled(&fixture);
        fs_err::OpenOptions::new().write(true).open(fixture.path()).unwrap().set_len(keep).unwrap();
        is_replaced(&fixture);
    }
}

#[test]
fn an_empty_file_is_a_fresh_index() {
    let fixture = Fixture::new();
    fs_err::write(fixture.path(), b"").unwrap();
    assert_eq!(fixture.open().was, Was::Fresh);
}

#[test]
fn an_index_that_was_never_filled_says_so_each_time() {
    let fixture = Fixture::new();
    assert_eq!(fixture.open().was, Was::Fresh);
    let Opened { index, was } = fixture.open();
    assert_eq!(was, Was::Fresh, "the process that began to fill it may have died");
    assert!(index.check_alive().unwrap());
    index.set_rebuilt().unwrap();
    assert!(!index.check_alive().unwrap());
    assert_eq!(fixture.open().was, Was::Existing);
}

#[test]
fn a_database_of_another_program_is_set_aside() {
    let fixture = Fixture::new();
    rusqlite::Connection::open(fixture.path())
        .unwrap()
        .execute_batch("CREATE TABLE blob (something TEXT); PRAGMA user_version = 2;")
        .unwrap();
    is_replaced(&fixture);
}

#[test]
fn only_the_last_three_that_were_set_aside_are_kept() {
    let fixture = Fixture::new();
    for number in 0..6 {
        fs_err::write(fixture.path(), format!("no database, number {number}").repeat(9)).unwrap();
        assert!(matches!(fixture.open().was, Was::SetAside(_)));
    }
    let mut kept: Vec<String> =
        fixture.broken().iter().map(|path| fs_err::read_to_string(path).unwrap()[..21].to_owned()).collect();
    kept.sort();
    assert_eq!(kept, ["no database, number 3", "no database, number 4", "no database, number 5"]);
}

#[test]
fn a_link_or_directory_in_the_place_of_the_index_is_set_aside_and_not_followed() {
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    let fixture = Fixture::new();
    std::os::unix::fs::symlink(elsewhere.path(), fixture.path()).unwrap();
    is_replaced(&fixture);
    assert_eq!(fs_err::metadata(elsewhere.path()).unwrap().len(), 0);
    let fixture = Fixture::new();
    fs_err::create_dir(fixture.path()).unwrap();
    is_replaced(&fixture);
}

#[test]
fn a_log_beside_a_damaged_file_is_set_aside_with_it() {
    let fixture = Fixture::new();
    filled(&fixture);
    let index = fixture.index();
    index.remember("a", "memo").unwrap();
    let wal = fixture.folder.path().join("index.sqlite3-wal");
    let log = fs_err::read(&wal).unwrap();
    assert!(!log.is_empty());
    drop(index);
    fs_err::write(&wal, &log).unwrap();
    let pages = fs_err::metadata(fixture.path()).unwrap().len() / PAGE;
    (2..pages).for_each(|page| overwrite(&fixture.path(), page * PAGE, &[0xa5; 64]));
    let Opened { index, was } = fixture.open();
    assert!(matches!(was, Was::SetAside(_)), "{was:?}");
    assert_eq!(index.artifacts().unwrap(), []);
    assert_eq!(index.recall("a").unwrap(), None, "a stale log is not played into a fresh file");
}

#[test]
fn damage_that_is_met_in_the_midst_of_work_is_reported_and_the_work_goes_on() {
    let fixture = Fixture::new();
    filled(&fixture);
    let index = fixture.index();
    assert!(!index.check_alive().unwrap());
    let pages = fs_err::metadata(fixture.path()).unwrap().len() / PAGE;
    (1..pages).for_each(|page| overwrite(&fixture.path(), page * PAGE, &[0xa5; 64]));
    let error = index.artifacts().unwrap_err();
    assert!(matches!(error, Error::Index { .. }), "{error}");
    assert_eq!(fixture.broken().len(), 1);
    assert!(index.check_alive().unwrap(), "the caller is told to fill it again");
    assert_eq!(index.artifacts().unwrap(), []);
    let key = key("org/after", "c1");
    commit(&index, &key, &["weights"]);
    index.set_rebuilt().unwrap();
    assert!(!index.check_alive().unwrap());
    drop(index);
    assert!(fixture.index().artifact(&key.digest()).unwrap().is_some());
}

#[test]
fn a_deleted_file_is_noticed_and_what_is_committed_is_in_the_new_one() {
    for with_log in [false, true] {
        let fixture = Fixture::new();
        let index = fixture.index();
        index.set_rebuilt().unwrap();
        let before = key("org/before", "c1");
        commit(&index, &before, &["weights"]);
        fs_err::remove_file(fixture.path()).unwrap();
        if with_log {
            fs_err::remove_file(fixture.folder.path().join("index.sqlite3-wal")).unwrap();
            fs_err::remove_file(fixture.folder.path().join("index.sqlite3-shm")).unwrap();
        }
        assert!(index.artifact(&before.digest()).unwrap().is_some(), "lookups go on from the old one");
        let after = key("org/after", "c1");
        commit(&index, &after, &["weights"]);
        assert!(index.check_alive().unwrap());
        assert!(index.artifact(&before.digest()).unwrap().is_none(), "the new one is to be filled");
        let other = fixture.index();
        assert!(other.artifact(&after.digest()).unwrap().is_some(), "others see what was committed");
        drop(index);
        assert!(other.artifact(&after.digest()).unwrap().is_some());
    }
}

#[test]
fn a_replaced_file_is_opened_anew() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let index = fixture.index();
    index.set_rebuilt().unwrap();
    assert!(!index.check_alive().unwrap());
    let key = key("org/other", "c1");
    commit(&other.index(), &key, &["weights"]);
    commit(&index, &super::key("org/name", "c1"), &["weights"]);
    fs_err::rename(other.path(), fixture.path()).unwrap();
    assert!(index.check_alive().unwrap());
    assert_eq!(index.artifacts().unwrap().len(), 1, "the log of the old one is not played into the new one");
    assert!(index.artifact(&key.digest()).unwrap().is_some());
}

#[test]
fn a_directory_that_is_gone_is_an_error_and_no_panic() {
    let fixture = Fixture::new();
    let index = fixture.index();
    fs_err::remove_dir_all(fixture.folder.path()).unwrap();
    assert!(matches!(index.put_blob(&blob("x")), Err(Error::Io { .. })));
    assert!(index.check_alive().is_err());
    index.count("lost", 1);
    index.flush();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Bytes that change anywhere may change an answer, but they never end the program, never stay an error,
    /// and never keep an index from working again.
    #[test]
    fn any_damaged_bytes_leave_an_index_that_works(
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let fixture = Fixture::new();
        filled(&fixture);
        let size = fs_err::metadata(fixture.path()).unwrap().len();
        for (place, byte) in &places {
            overwrite(&fixture.path(), place.index(size as usize) as u64, &[*byte]);
        }
        let Ok(Opened { index, .. }) = Index::open(&fixture.path(), Journal::Wal) else {
            // The one refusal that bytes can bring about: they say that a newer program wrote them.
            let bytes = fs_err::read(fixture.path()).unwrap();
            prop_assert!(bytes[60..64] != [0, 0, 0, 2]);
            return Ok(());
        };
        let _ = index.artifacts();
        let _ = index.blobs();
        let _ = index.counters();
        let key = key("org/after", "c1");
        let again = manifest(&key, &["weights"], 1_750_000_000_000);
        let committed = (0..4).find_map(|_| {
            index.commit_artifact(&again, Digest::of_bytes(b"m"), &[blob("weights")]).ok()
        });
        prop_assert!(committed.is_some());
        prop_assert!(index.artifact(&key.digest()).unwrap().is_some());
    }
}

#[test]
fn two_who_have_a_damaged_file_open_end_up_with_one_fresh_one() {
    let fixture = Fixture::new();
    filled(&fixture);
    let (one, two) = (fixture.index(), fixture.index());
    let pages = fs_err::metadata(fixture.path()).unwrap().len() / PAGE;
    (1..pages).for_each(|page| overwrite(&fixture.path(), page * PAGE, &[0xa5; 64]));
    assert!(one.artifacts().is_err());
    let (first, second) = (key("org/first", "c1"), key("org/second", "c1"));
    commit(&one, &first, &["weights"]);
    one.set_rebuilt().unwrap();
    assert!(two.check_alive().unwrap(), "what it wrote of late may be missing");
    commit(&two, &second, &["weights"]);
    assert_eq!(fixture.broken().len(), 1, "it is set aside once");
    drop(two);
    assert_eq!(one.artifacts().unwrap().len(), 2);
    drop(one);
    assert_eq!(fixture.index().artifacts().unwrap().len(), 2);
}

#[test]
fn a_file_that_is_deleted_again_and_again_while_many_write_never_stops_them() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.index(), fixture.index());
    let commits = AtomicUsize::new(0);
    let work = |index: &Index, who: usize| {
        for number in 0..40 {
            let key = key(&format!("org/name-{who}-{number}"), "c1");
            let manifest = manifest(&key, &["weights"], 1_000);
            match index.commit_artifact(&manifest, Digest::of_bytes(b"m"), &[blob("weights")]) {
                Ok(_) | Err(Error::Missing { .. } | Error::Index { .. }) => (),
                Err(error) => panic!("{who} {number}: {error}"),
            }
            commits.fetch_add(1, Ordering::AcqRel);
            index.check_alive().unwrap();
        }
    };
    let is_done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut deleted_at = 0;
            while !is_done.load(Ordering::Acquire) {
                let now = commits.load(Ordering::Acquire);
                if now > deleted_at {
                    // It may be gone at this moment.
                    let _ = fs_err::remove_file(fixture.path());
                    deleted_at = now;
                }
                std::thread::yield_now();
            }
        });
        let workers = [threads.spawn(|| work(&one, 1)), threads.spawn(|| work(&two, 2))];
        let ends = workers.map(std::thread::ScopedJoinHandle::join);
        is_done.store(true, Ordering::Release);
        for end in ends {
            end.unwrap();
        }
    });
    assert!(one.check_alive().unwrap());
    let key = key("org/after", "c1");
    commit(&one, &key, &["weights"]);
    assert!(two.check_alive().unwrap());
    assert!(two.artifact(&key.digest()).unwrap().is_some());
    drop((one, two));
    assert!(fixture.index().artifact(&key.digest()).unwrap().is_some());
}
