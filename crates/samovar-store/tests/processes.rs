//! Several processes and one cache: fetched once, taken over when the one who fetches dies.

mod ground;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ground::Ground;
use samovar_testhub::Content;

const FILE: &str = "model-Q4_K_M.gguf";
const WIRE: &str = "org/name/model-Q4_K_M.gguf";
const MIB: u64 = 1 << 20;
const PROCESSES: usize = 8;

/// The example that fetches, which cargo builds beside the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples").join("ensure");
    assert!(program.exists(), "{} is built by `cargo test` and `cargo nextest run`", program.display());
    program
}

fn start(ground: &Ground) -> Child {
    Command::new(program())
        .arg("--cache")
        .arg(ground.cache())
        .args(["--endpoint", &ground.hub.endpoint(), "--times", "hf://org/name:Q4_K_M"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
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
            None => said.path = line.into(),
        }
    }
    said
}

#[test]
fn eight_processes_that_want_one_file_cost_one_download() {
    let ground = Ground::with_one(24 * MIB);
    let children: Vec<Child> = (0..PROCESSES).map(|_| start(&ground)).collect();
    let said: Vec<Said> = children.into_iter().map(finish).collect();
    let content = Content::pattern(24 * MIB, 1).digest().unwrap();
    for said in &said {
        assert_eq!(samovar_core::Digest::of_file(&said.path).unwrap(), content);
    }
    let ratio = ground.sent_bytes(FILE) as f64 / (24 * MIB) as f64;
    println!("{PROCESSES} processes: bytes sent by the origin / size = {ratio:.3}");
    assert_eq!(ground.sent_bytes(FILE), 24 * MIB);
}

#[test]
fn when_the_one_who_fetches_is_killed_at_half_another_goes_on_within_two_seconds() {
    let ground = Ground::with_one(64 * MIB);
    ground.hub.hold_after(WIRE, 32 * MIB);
    let mut leader = start(&ground);
    assert!(ground.hub.wait_until_held(WIRE));
    let followers: Vec<Child> = (1..PROCESSES).map(|_| start(&ground)).collect();
    wait_for_notes(&ground, 16 * MIB);
    leader.kill().unwrap();
    leader.wait().unwrap();
    let killed_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let sent_before = ground.sent_bytes(FILE);
    ground.hub.release_all();
    let said: Vec<Said> = followers.into_iter().map(finish).collect();
    let content = Content::pattern(64 * MIB, 1).digest().unwrap();
    for said in &said {
        assert_eq!(samovar_core::Digest::of_file(&said.path).unwrap(), content);
    }
    let resumed_ms = said
        .iter()
        .flat_map(|said| &said.steps)
        .filter(|(at, step)| *at >= killed_ms && step == "fetching")
        .map(|(at, _)| at - killed_ms)
        .min()
        .unwrap();
    let again = ground.sent_bytes(FILE) - 64 * MIB;
    println!(
        "killed at {sent_before} of {} bytes: resumed after {resumed_ms} ms, {again} bytes came twice",
        64 * MIB
    );
    assert!(resumed_ms < 2_000, "{resumed_ms} ms");
    // Only what had not been written: at most two batches of each of four connections, and a note's delay.
    assert!(again <= 24 * MIB, "{again} bytes came twice");
}

/// Waits until the note of the download that is under way counts so many bytes.
fn wait_for_notes(ground: &Ground, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let noted: u64 = fs_err::read_dir(ground.cache().join("partial")).map_or(0, |entries| {
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
    let ground = Ground::with_one(MIB);
    let mut child = Command::new(program())
        .arg("--cache")
        .arg(ground.cache())
        .args(["--endpoint", &ground.hub.endpoint(), "--hold", "hf://org/name:Q4_K_M"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut path = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut path).unwrap();
    let digest = Content::pattern(MIB, 1).digest().unwrap().to_string();
    let leases = || {
        let entries = fs_err::read_dir(ground.cache().join("leases")).unwrap();
        entries.filter_map(|entry| fs_err::read_to_string(entry.unwrap().path()).ok()).collect::<String>()
    };
    assert!(leases().contains(&digest));
    child.kill().unwrap();
    child.wait().unwrap();
    // Its file is there still, and means nothing: its lock is open. Collection sweeps it.
    assert!(leases().contains(&digest));
    assert!(Path::new(path.trim()).exists());
}
