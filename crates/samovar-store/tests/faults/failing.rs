//! A disk that fails in the middle: `strace` makes the n-th system call of a kind fail, for each n.
//!
//! The scene is played by this program again as a child, so that one fault meets a fresh process; the parent then
//! looks at what is left with a disk that is well.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::IoSlice;
use samovar_store::Store;

use crate::keeping::config;
use crate::refused;
use crate::scene::{self, judge, play, recovers};

/// How the child gets its words.
pub(crate) const CHILD: &str = "SAMOVAR_TEST_FAULTS";
/// How the child is started.
pub(crate) const ARGUMENTS: [&str; 4] =
    ["--exact", "failing::as_a_process_of_its_own", "--ignored", "--nocapture"];

/// Calls that change the disk, and what they may say.
const FAULTS: [(&str, &str); 14] = [
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("write", "ENOSPC"),
    ("openat", "EIO"),
    ("openat", "EROFS"),
    ("openat2", "EIO"),
    ("rename", "EIO"),
    ("rename", "EROFS"),
    ("fchmod", "EIO"),
    ("ftruncate", "EIO"),
    ("mkdir", "ENOSPC"),
    ("pread64", "EIO"),
];
/// A fault that is met no more by then is taken to be met never.
const CALLS: usize = 400;

#[test]
#[ignore = "started by the other tests"]
#[allow(clippy::disallowed_methods, reason = "a child has no other settings")]
fn as_a_process_of_its_own() {
    let Ok(words) = std::env::var(CHILD) else { return };
    let (what, dir) = words.split_once('\n').unwrap();
    let dir = Path::new(dir);
    match what {
        "refused" => assert_eq!(
            Store::open(config(dir)).map(drop).unwrap_err().kind(),
            samovar_core::ErrorKind::Storage
        ),
        "read" => refused::serves_and_refuses(dir),
        "play" => {
            play_under_faults(dir);
            // The harness's own last words must not meet a fault.
            std::process::exit(0);
        }
        other => panic!("{other}"),
    }
}

/// A store that does not even open has a typed error too; once open, what is there opens.
fn play_under_faults(dir: &Path) {
    let store = match Store::open(config(dir)) {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(error.kind(), samovar_core::ErrorKind::Storage, "{error:?}");
            return say(&format!("met: open store: {error}"));
        }
    };
    let (Some(kept), Some(old)) = (list(&store, "kept"), list(&store, "old")) else {
        return say("met: list");
    };
    let steps = play(&store, &kept, &old);
    for (step, ending) in &steps {
        match ending {
            Ok(()) => say(&format!("done: {step}")),
            Err(error) => say(&format!("met: {step}: {error}")),
        }
    }
    // The one open that meets the fault itself may fail; all others may not.
    let opens = steps.iter().filter(|(step, ending)| step.starts_with("open") && ending.is_err()).count();
    assert!(opens <= 1, "{steps:?}");
    judge(&steps.into_iter().filter(|(step, _)| !step.starts_with("open")).collect::<Vec<_>>());
}

/// A line to the parent, by a call that no fault is put into.
fn say(line: &str) {
    let line = format!("\n{line}\n");
    rustix::io::writev(std::io::stdout(), &[IoSlice::new(line.as_bytes())]).unwrap();
}

fn list(store: &Store, name: &str) -> Option<samovar_store::Artifact> {
    match store.list() {
        Ok(artifacts) => artifacts.into_iter().find(|artifact| artifact.reference == name),
        Err(error) => {
            assert_eq!(error.kind(), samovar_core::ErrorKind::Storage, "{error:?}");
            None
        }
    }
}

/// What came of one fault.
enum Injection {
    /// It was met, and nothing was wrong afterwards.
    Met,
    /// There were not so many calls.
    NotMet,
}

fn strace() -> Option<PathBuf> {
    let found = Command::new("strace").arg("-V").output();
    match found {
        Ok(output) if output.status.success() => Some(PathBuf::from("strace")),
        _ => {
            println!("skipped: there is no strace here");
            None
        }
    }
}

/// Lets the `n`-th call of a kind fail in every thread of a child.
fn fail(strace: &Path, call: &str, error: &str, n: usize) -> Option<Injection> {
    let dir = tempfile::tempdir().unwrap();
    drop(scene::prepare(dir.path()));
    let log = dir.path().join("strace.log");
    let output = Command::new(strace)
        .args(["-f", "-qq", "-o", log.to_str().unwrap(), "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:error={error}:when={n}")])
        .arg(std::env::current_exe().unwrap())
        .args(ARGUMENTS)
        .env(CHILD, format!("play\n{}", dir.path().display()))
        .output()
        .unwrap();
    let traced = fs_err::read_to_string(&log).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !said.contains("done:") && !said.contains("met:") {
        // Before the scene began: the loader's and the harness's own calls.
        let words = String::from_utf8_lossy(&output.stderr);
        let is_forbidden = words.contains("ptrace") && words.contains("not permitted");
        if is_forbidden {
            println!("skipped: strace may not trace here: {words}");
            return None;
        }
        assert!(
            !traced.contains(dir.path().join("cache").to_str().unwrap()) || output.status.success(),
            "{said}{words}"
        );
        return Some(Injection::Met);
    }
    assert!(output.status.success(), "{call} {n} {error}: {said}{}", String::from_utf8_lossy(&output.stderr));
    recovers(dir.path(), &[]);
    Some(if traced.contains("(INJECTED)") { Injection::Met } else { Injection::NotMet })
}

/// Sweeps every kind of fault over every `stride`-th call.
fn sweep(stride: usize) {
    let Some(strace) = strace() else { return };
    let mut met = 0;
    for (kind, (call, error)) in FAULTS.into_iter().enumerate() {
        // Another first call for each kind, so that a coarse sweep meets different places.
        for n in (1 + kind % stride..CALLS).step_by(stride) {
            match fail(&strace, call, error, n) {
                None => return,
                Some(Injection::NotMet) => break,
                Some(Injection::Met) => met += 1,
            }
        }
    }
    println!("{met} faults met, 0 violations");
    assert!(met >= 10, "only {met} faults were met");
}

#[test]
fn a_failing_disk_is_met_with_errors_and_loses_nothing() {
    sweep(53);
}

#[test]
#[ignore = "started by `cargo x soak`: minutes, every single call of every kind"]
fn a_disk_that_fails_at_any_call_loses_nothing() {
    sweep(1);
}
