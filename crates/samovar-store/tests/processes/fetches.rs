//! Several processes and one cache: fetched once, taken over when the one who fetches dies.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[allow(dead_code, reason = "its main is for a user who runs it by hand")]
#[path = "../../examples/ensure.rs"]
mod ensure;

use crate::fixture;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fixture::Fixture;
use samovar_testhub::Content;

const FILE: &str = "model-Q4_K_M.gguf";
const WIRE: &str = "org/name/model-Q4_K_M.gguf";
const MIB: u64 = 1 << 20;
const PROCESSES: usize = 8;

/// The words for a child, in its environment.
const WORDS: &str = "SAMOVAR_TEST_WORDS";

/// This program again, as a process that fetches: see `examples/ensure.rs`.
fn start(fixture: &Fixture, flag: &str) -> Child {
    child(fixture, flag, "hf://org/name:Q4_K_M").spawn().unwrap()
}

fn child(fixture: &Fixture, flag: &str, reference: &str) -> Command {
    let cache = fixture.cache();
    let words = ["--cache", cache.to_str().unwrap(), "--endpoint", &fixture.hub.endpoint(), flag, reference];
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "fetches::as_a_process_of_its_own", "--ignored", "--nocapture"])
        .env(WORDS, words.join("\n"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    child
}

#[test]
#[ignore = "started by the other tests"]
#[allow(clippy::disallowed_methods, reason = "a child has no other settings")]
fn as_a_process_of_its_own() {
    let Ok(words) = std::env::var(WORDS) else { return };
    // The harness may have begun a line.
    println!();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ensure::run(words.lines().map(str::to_owned))).unwrap();
}

/// What a process said: its steps with their times, and the path at the end.
struct Said {
    steps: Vec<(u128, String)>,
    path: PathBuf,
}

fn finish(child: Child) -> Said {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut said = Said { steps: Vec::new(), path: PathBuf::new() };
    for line in BufReader::new(&output.stdout[..]).lines() {
        let line = line.unwrap();
        match line.strip_prefix("# ").map(|rest| rest.split_whitespace().collect::<Vec<_>>()) {
            Some(words) => said.steps.push((words[0].parse().unwrap(), words[1].to_owned())),
            None if line.starts_with('/') => said.path = line.into(),
            None => (),
        }
    }
    said
}

#[test]
fn eight_processes_that_want_one_file_cost_one_download() {
    let fixture = Fixture::with_one(8 * MIB);
    let children: Vec<Child> = (0..PROCESSES).map(|_| start(&fixture, "--times")).collect();
    let said: Vec<Said> = children.into_iter().map(finish).collect();
    let content = Content::pattern(8 * MIB, 1).digest().unwrap();
    assert!(said.iter().all(|one| one.path == said[0].path));
    assert_eq!(samovar_core::Digest::of_file(&said[0].path).unwrap(), content);
    let ratio = fixture.sent_bytes(FILE) as f64 / (8 * MIB) as f64;
    println!("{PROCESSES} processes: bytes sent by the origin / size = {ratio:.3}");
    assert_eq!(fixture.sent_bytes(FILE), 8 * MIB);
}

#[test]
fn when_the_one_who_fetches_is_killed_at_half_another_goes_on_within_two_seconds() {
    let fixture = Fixture::with_one(24 * MIB);
    fixture.hub.hold_after(WIRE, 12 * MIB);
    let mut leader = start(&fixture, "--times");
    assert!(fixture.hub.wait_until_held(WIRE));
    let followers: Vec<Child> = (1..PROCESSES).map(|_| start(&fixture, "--times")).collect();
    wait_for_notes(&fixture, 8 * MIB);
    leader.kill().unwrap();
    leader.wait().unwrap();
    let killed_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let sent_before = fixture.sent_bytes(FILE);
    fixture.hub.release_all();
    let said: Vec<Said> = followers.into_iter().map(finish).collect();
    let content = Content::pattern(24 * MIB, 1).digest().unwrap();
    assert!(said.iter().all(|one| one.path == said[0].path));
    assert_eq!(samovar_core::Digest::of_file(&said[0].path).unwrap(), content);
    let resumed_ms = said
        .iter()
        .flat_map(|said| &said.steps)
        .filter(|(at, step)| *at >= killed_ms && step == "fetching")
        .map(|(at, _)| at - killed_ms)
        .min()
        .unwrap();
    let again = fixture.sent_bytes(FILE) - 24 * MIB;
    println!(
        "killed at {sent_before} of {} bytes: resumed after {resumed_ms} ms, {again} bytes came twice",
        24 * MIB
    );
    assert!(resumed_ms < 2_000, "{resumed_ms} ms");
    // Only what had not been noted when it died.
    assert!(again <= 4 * MIB, "{again} bytes came twice");
}

/// Waits until the note of the download that is under way counts so many bytes.
fn wait_for_notes(fixture: &Fixture, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let noted: u64 = fs_err::read_dir(fixture.cache().join("partial")).map_or(0, |entries| {
            entries.map(|entry| noted_bytes(&entry.unwrap().path().join("state.json"))).sum()
        });
        if noted >= bytes {
            return;
        }
        assert!(Instant::now() < deadline, "{noted} bytes are noted");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn noted_bytes(state: &Path) -> u64 {
    let note: serde_json::Value = fs_err::read(state)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or(serde_json::Value::Null);
    let spans: Vec<(u64, u64)> = serde_json::from_value(note["spans"].clone()).unwrap_or_default();
    spans.iter().map(|(from, to)| to - from).sum()
}

#[test]
fn a_model_in_use_by_another_process_cannot_be_seen_as_free() {
    let fixture = Fixture::with_one(MIB);
    let mut child = start(&fixture, "--hold");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let path = lines.map(Result::unwrap).find(|line| line.starts_with('/')).unwrap();
    let digest = Content::pattern(MIB, 1).digest().unwrap().to_string();
    let leases = || {
        let entries = fs_err::read_dir(fixture.cache().join("leases")).unwrap();
        entries.filter_map(|entry| fs_err::read_to_string(entry.unwrap().path()).ok()).collect::<String>()
    };
    assert!(leases().contains(&digest));
    child.kill().unwrap();
    child.wait().unwrap();
    // Its file is there still, and means nothing: its lock is open. Collection sweeps it.
    assert!(leases().contains(&digest));
    assert!(Path::new(&path).exists());
}

/// Another user who may read the cache and not write it; root may write whatever the permissions say.
const READER: u32 = 65_534;

#[test]
fn who_may_only_read_the_cache_uses_what_is_there_and_is_told_what_cannot_be() {
    let names = ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"];
    let parts = names.map(|name| (name, Content::pattern(MIB, name.len() as u64)));
    let fixture =
        Fixture::with(&[("model-Q4_K_M.gguf", Content::pattern(MIB, 1)), parts[0].clone(), parts[1].clone()]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for text in ["hf://org/name:Q4_K_M", "hf://org/name:Q8_0"] {
        runtime.block_on(fixture.store().ensure(&fixture::reference(text), None)).unwrap();
    }
    let is_root = rustix::process::geteuid().is_root();
    open_to_readers(fixture.dir.path(), is_root);
    let before = listing(&fixture.cache());
    for (reference, expected) in
        [("hf://org/name:Q4_K_M", 1), ("hf://org/name:Q8_0", 2), ("hf://org/other", 0)]
    {
        let mut child = child(&fixture, "--times", reference);
        if is_root {
            std::os::unix::process::CommandExt::uid(&mut child, READER);
        }
        let output = match child.spawn() {
            Ok(child) => child.wait_with_output().unwrap(),
            Err(error) => return println!("skipped: another user cannot run this program: {error}"),
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), expected > 0, "{said}{complaint}");
        assert_eq!(said.lines().filter(|line| line.starts_with('/')).count(), expected, "{said}");
        if expected == 0 {
            assert!(
                said.contains("can only be read") || complaint.contains("can only be read"),
                "{complaint}"
            );
        }
    }
    assert_eq!(listing(&fixture.cache()), before);
    close_to_nobody(fixture.dir.path());
}

/// Lets others read everything, and write only the directory above the cache, where their state goes.
fn open_to_readers(dir: &Path, is_root: bool) {
    each_below(dir, &|path, facts| {
        let mode = if facts.is_dir() { 0o555 } else { 0o444 };
        set_mode(path, mode);
    });
    set_mode(dir, if is_root { 0o777 } else { 0o755 });
}

fn close_to_nobody(dir: &Path) {
    each_below(dir, &|path, facts| {
        if facts.is_dir() {
            set_mode(path, 0o755);
        }
    });
}

fn set_mode(path: &Path, mode: u32) {
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
    // What belongs to the other user is that user's.
    let _ = fs_err::set_permissions(path, mode);
}

fn each_below(dir: &Path, act: &dyn Fn(&Path, &std::fs::Metadata)) {
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let facts = fs_err::symlink_metadata(&path).unwrap();
        if facts.is_symlink() {
            continue;
        }
        if facts.is_dir() {
            each_below(&path, act);
        }
        act(&path, &facts);
    }
}

/// Every name below a directory.
fn listing(dir: &Path) -> Vec<PathBuf> {
    let found = std::cell::RefCell::new(Vec::new());
    each_below(dir, &|path, _| found.borrow_mut().push(path.to_owned()));
    let mut found = found.into_inner();
    found.sort();
    found
}
