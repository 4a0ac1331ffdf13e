//! Many at once: threads, connections and processes on one index.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

const EACH: usize = 30;

/// What each of many does: commits, marks, notes and looks, all in one index.
fn work(index: &Index, who: usize) {
    for number in 0..EACH {
        let key = key(&format!("org/name-{who}-{number}"), "c1");
        let own = format!("weights {who} {number}");
        commit(index, &key, &[&own, "the same for all"]);
        index.set_blob_state(&Digest::of_bytes(b"the same for all"), BlobState::Ready).unwrap();
        index.set_pinned(&key.digest(), number % 2 == 0).unwrap();
        index.note(&key.digest(), Use::Hit);
        index.count("turns", 1);
        assert!(index.artifact(&key.digest()).unwrap().is_some());
        if number % 10 == 0 {
            index.flush();
        }
    }
}

fn is_complete(index: &Index, workers: usize) {
    let all = index.artifacts().unwrap();
    assert_eq!(all.len(), workers * EACH);
    assert!(all.iter().all(|artifact| artifact.usage.hits == 1));
    assert_eq!(all.iter().filter(|artifact| artifact.is_pinned).count(), workers * EACH / 2);
    assert_eq!(index.counters().unwrap()["turns"], (workers * EACH) as u64);
    assert_eq!(index.blobs().unwrap().len(), workers * EACH + 1);
}

#[test]
fn threads_that_share_an_index_and_threads_with_their_own_all_get_through() {
    for journal in [Journal::Wal, Journal::Rollback] {
        let fixture = Fixture::new();
        let shared = Index::open(&fixture.path(), journal).unwrap().index;
        let other = Index::open(&fixture.path(), journal).unwrap().index;
        std::thread::scope(|threads| {
            for who in 0..4 {
                let index = if who % 2 == 0 { &shared } else { &other };
                threads.spawn(move || work(index, who));
            }
        });
        drop(other);
        shared.flush();
        is_complete(&shared, 4);
    }
}

#[test]
fn processes_that_begin_one_index_together_all_get_through() {
    const PROCESSES: usize = 4;
    let fixture = Fixture::new();
    let this = std::env::current_exe().unwrap();
    let children: Vec<_> = (0..PROCESSES)
        .map(|who| {
            let mut child = Command::new(&this)
                .args(["index::tests::crowd::one_of_many_processes", "--exact", "--ignored", "--nocapture"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            writeln!(stdin, "{who} {}", fixture.path().display()).unwrap();
            child
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "nothing ran");
    }
    is_complete(&fixture.index(), PROCESSES);
}

#[test]
#[ignore = "started by the test above"]
fn one_of_many_processes() {
    let line = std::io::read_to_string(std::io::stdin()).unwrap();
    let (who, path) = line.trim().split_once(' ').expect("a number and a path on standard input");
    let index = Index::open(Path::new(path), Journal::Wal).unwrap().index;
    work(&index, who.parse().unwrap());
}

#[test]
fn a_lookup_does_not_wait_for_a_change_that_waits() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let key = key("org/name", "c1");
    commit(&index, &key, &["weights"]);
    let hog = rusqlite::Connection::open(fixture.path()).unwrap();
    hog.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|threads| {
        let change = threads.spawn(|| index.put_blob(&blob("more")));
        let start = std::time::Instant::now();
        for _ in 0..100 {
            assert!(index.artifact(&key.digest()).unwrap().is_some());
            assert!(index.check_alive().unwrap());
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
        hog.execute_batch("COMMIT").unwrap();
        change.join().unwrap().unwrap();
    });
    assert!(index.blob(&Digest::of_bytes(b"more")).unwrap().is_some());
}

#[test]
fn notes_that_cannot_be_written_now_are_written_later() {
    let fixture = Fixture::new();
    let index = fixture.index();
    let key = key("org/name", "c1");
    commit(&index, &key, &["weights"]);
    let hog = rusqlite::Connection::open(fixture.path()).unwrap();
    hog.execute_batch("BEGIN IMMEDIATE").unwrap();
    index.note(&key.digest(), Use::Hit);
    index.count("turns", 1);
    index.flush();
    index.note(&key.digest(), Use::Hit);
    index.count("turns", 1);
    let seen = |index: &Index| {
        (index.artifact(&key.digest()).unwrap().unwrap().usage.hits, index.counters().unwrap()["turns"])
    };
    assert_eq!(seen(&index), (2, 2), "they show though they are not written");

    hog.execute_batch("COMMIT").unwrap();
    index.flush();
    assert_eq!(seen(&index), (2, 2));
    assert_eq!(seen(&fixture.index()), (2, 2));
}

#[test]
fn notes_are_written_within_seconds_though_nobody_asks() {
    let fixture = Fixture::new();
    let index = fixture.index();
    index.count("turns", 7);
    let other = fixture.index();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while other.counters().unwrap().get("turns") != Some(&7) {
        assert!(std::time::Instant::now() < deadline, "never written");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
