//! The daemon's life: started once, found again, refused twice, gone when told, idle or dead.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::Value;

use crate::home::{Home, Running};
use crate::stand_in::StandIn;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SHORT: [&str; 4] = ["run", "-n", "4", "Hello"];

#[test]
fn a_stale_socket_is_replaced() {
    let home = Home::new();
    fs_err::create_dir(home.path().join("run")).expect("directory");
    fs_err::set_permissions(home.path().join("run"), PermissionsExt::from_mode(0o700)).expect("mode");
    drop(UnixListener::bind(home.socket()).expect("binds"));
    assert!(home.socket().exists());
    let done = home.run(&SHORT);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
}

#[test]
fn a_killed_daemon_is_replaced() {
    let home = Home::new();
    assert_eq!(home.run(&SHORT).code, 0);
    let first = home.daemon_pid().expect("a daemon");
    home.signal_daemon(Signal::KILL);
    home.wait_until_daemon_is_gone();
    assert!(home.socket().exists(), "a killed daemon leaves its socket behind");
    assert_eq!(home.run(&SHORT).code, 0);
    assert_ne!(home.daemon_pid(), Some(first));
}

#[test]
fn a_daemon_that_dies_in_the_middle_of_an_answer_is_told_and_replaced() {
    let home = Home::new();
    let dying = StandIn::new(&home);
    let lock = home.path().join("run/samovar.sock.daemon");
    fs_err::write(lock, format!("{{\"pid\":1,\"version\":{VERSION:?},\"in_background\":true}}"))
        .expect("lock");
    fs_err::create_dir(home.path().join("state")).expect("directory");
    let log = "INFO serving version=1\n/build/ggml.c:7: GGML_ASSERT(n > 0) failed\n";
    fs_err::write(home.path().join("state/daemon.log"), log).expect("log");

    let run = home.spawn(&SHORT);
    let mut answering = dying.accept();
    answering.say("Once upon");
    drop(answering);
    drop(dying);
    let done = run.finish();
    assert_eq!((done.code, done.stdout.as_str()), (70, "Once upon\n"), "{done:?}");
    assert!(done.stderr.contains("died in the middle of the answer: GGML_ASSERT(n > 0) failed"), "{done:?}");
    assert!(done.stderr.contains("hint: the next run starts another"), "{done:?}");
    assert_eq!(home.run(&SHORT).code, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_was_removed_while_it_runs_can_still_start_the_daemon() {
    let home = Home::new();
    // A link and not a copy: a file that was just written cannot be executed while another test forks.
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("samovar-{}", std::process::id()));
    fs_err::hard_link(env!("CARGO_BIN_EXE_samovar"), &program).expect("links");
    let (reader, writer) = std::io::pipe().expect("pipe");
    let child = std::process::Command::new(&program)
        .args(["run", "-n", "4", "-"])
        .env("SAMOVAR_HOME", home.path())
        .stdin(reader)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    // It waits for its prompt, and looks for a daemon after that.
    fs_err::remove_file(&program).expect("removes");
    (&writer).write_all(b"Hello\n").expect("writes");
    drop(writer);
    let done = Running { child }.finish();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
}

#[test]
fn a_daemon_of_another_version_is_pointed_out() {
    let home = Home::new();
    assert_eq!(home.run(&SHORT).code, 0);
    let pid = home.daemon_pid().expect("a daemon");
    let other = format!("{{\"pid\":{pid},\"version\":\"9.9.9\",\"in_background\":true}}");
    fs_err::write(home.path().join("run/samovar.sock.daemon"), other).expect("writes");
    let done = home.run(&SHORT);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.starts_with("note: the daemon is samovar 9.9.9, this is "), "{done:?}");
}

#[test]
fn shutdown_returns_when_the_daemon_is_gone() {
    let home = Home::new();
    assert_eq!(home.run(&SHORT).code, 0);
    let pid = home.daemon_pid().expect("a daemon");
    let done = home.run(&["shutdown", "--json"]);
    assert_eq!(done.json()["pid"].as_i64(), Some(i64::from(pid)));
    assert!(!home.socket().exists());
    home.wait_until_daemon_is_gone();
    let again = home.run(&["shutdown"]);
    assert_eq!((again.code, again.stderr.as_str()), (0, "no daemon is running\n"));
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let home = Home::new();
    assert_eq!(home.run(&SHORT).code, 0);
    let second = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, 69, "{second:?}");
    assert!(
        second.stderr.contains("already serves") && second.stderr.contains("hint: `samovar shutdown`"),
        "{second:?}"
    );
    assert_eq!(home.run(&SHORT).code, 0);
    assert_eq!(home.stats()["pool"]["loads"], 1);
}

#[test]
fn the_daemon_outlives_the_group_of_whoever_started_it_and_keeps_to_itself() {
    let home = Home::new();
    assert_eq!(home.run(&SHORT).code, 0);
    let pid = Pid::from_raw(home.daemon_pid().expect("a daemon")).expect("pid");
    assert_eq!(rustix::process::getsid(Some(pid)).expect("session"), pid, "it leads a session of its own");
    let mode =
        |path: &str| fs_err::metadata(home.path().join(path)).expect("is there").permissions().mode() & 0o777;
    assert_eq!(
        (mode("run"), mode("run/samovar.sock"), mode("state"), mode("state/daemon.log")),
        (0o700, 0o600, 0o700, 0o600)
    );
    test_kill_process(pid).expect("it lives");
}

#[test]
fn an_idle_daemon_leaves() {
    let home = Home::new().with_variable("SAMOVAR_SERVER_IDLE_EXIT", "200ms");
    assert_eq!(home.run(&SHORT).code, 0);
    home.wait_until_daemon_is_gone();
    assert!(!home.socket().exists());
    let log = fs_err::read_to_string(home.path().join("state/daemon.log")).expect("log");
    assert!(log.contains("nobody asked for anything; leaving"), "{log}");
}

#[test]
fn runs_that_meet_a_leaving_daemon_are_answered_by_the_next() {
    let home = Home::new();
    for _ in 0..8 {
        assert_eq!(home.run(&SHORT).code, 0);
        let shutdown = home.spawn(&["shutdown"]);
        let done = home.run(&SHORT);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
        assert_eq!(shutdown.finish().code, 0);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_for_logs_does_not_keep_the_daemon_from_serving() {
    let home = Home::new().with_variable("SAMOVAR_LOG_LEVEL", "debug");
    fs_err::create_dir(home.path().join("state")).expect("directory");
    std::os::unix::fs::symlink("/dev/full", home.path().join("state/daemon.log")).expect("links");
    for _ in 0..2 {
        let done = home.run(&SHORT);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    }
    assert_eq!(home.stats()["pool"]["loads"], 1);
}

#[test]
fn serve_tells_where_it_listens_and_ends_at_sigterm() {
    let home = Home::new();
    let mut serve = home.spawn(&["serve", "--json", "--listen", "127.0.0.1:0", "demo"]);
    let doors = first_object(serve.child.stdout.as_mut().expect("piped"));
    let mut stream = TcpStream::connect(doors["listen"].as_str().expect("address")).expect("connects");
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(home.status_of("GET", "/readyz", ""), 200);
    // `run` finds it instead of starting another.
    assert_eq!(home.run(&SHORT).code, 0);
    assert_eq!(home.stats()["pid"], doors["pid"]);
    serve.signal(Signal::TERM);
    assert_eq!(serve.finish().code, 0);
    assert!(!home.socket().exists());
}

/// Reads up to the end of the first JSON object.
fn first_object(stream: &mut impl Read) -> Value {
    let mut text = String::new();
    for line in BufReader::new(stream).lines() {
        text.push_str(&line.expect("line"));
        if let Ok(object) = serde_json::from_str(&text) {
            return object;
        }
    }
    panic!("no object: {text}");
}

#[test]
fn a_wrong_model_on_the_command_line_keeps_serve_from_starting() {
    let home = Home::new();
    let done = home.run(&["serve", "--listen", "127.0.0.1:0", "./none.gguf"]);
    assert_eq!(done.code, 66, "{done:?}");
    assert!(!home.socket().exists());
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    let home = Home::new();
    let done = home.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(done.code, 77, "{done:?}");
    assert!(done.stderr.contains("--insecure-no-auth"), "{done:?}");
}

#[test]
fn verbs_that_only_look_start_no_daemon() {
    let home = Home::new();
    let ps = home.run(&["ps"]);
    assert_eq!((ps.code, ps.stderr.as_str()), (0, "no daemon is running\n"));
    assert!(ps.stdout.starts_with("MODEL"), "{ps:?}");
    assert_eq!(home.run(&["ps", "--json"]).json()["models"], Value::Array(Vec::new()));
    let list = home.run(&["list"]);
    assert!(list.code == 0 && list.stdout.contains("demo"), "{list:?}");
    assert_eq!(home.run(&["show", "demo", "--json"]).json()["name"], "demo");
    assert_eq!(home.run(&["stop", "--all"]).code, 0);
    for line in [["why", "demo"].as_slice(), &["unpin", "./tale.gguf"]] {
        let done = home.run(line);
        assert_eq!(done.code, 69, "{done:?}");
        assert!(done.stderr.contains("no daemon is running"), "{done:?}");
    }
    let stats = home.run(&["stats", "--json"]).json();
    assert!(stats["tiers"]["l1"].is_null() && stats["tiers"]["l2"]["bytes"].is_u64(), "{stats}");
    assert_eq!(home.run(&["unpin", "demo"]).code, 0);
    assert!(!home.socket().exists());
}

#[test]
fn models_are_warmed_pinned_explained_and_unloaded() {
    let home = Home::new();
    assert_eq!(home.run(&["pin", "demo"]).code, 0);
    assert_eq!(home.run(&["warm", "demo", "--json"]).json()[0]["model"], "demo");
    let ps = home.run(&["ps"]);
    assert!(ps.stdout.contains("demo") && ps.stdout.contains("pinned"), "{ps:?}");
    assert_eq!(home.run(&["unpin", "demo"]).code, 0);
    let why = home.run(&["why", "demo"]);
    assert!(why.code == 0 && why.stdout.contains("loaded") && why.stdout.contains("unpinned"), "{why:?}");
    assert_eq!(home.run(&["stop", "demo", "--json"]).json()["instances"], 1);
    // It leaves in its own time, and is counted until it has.
    let is_gone = |_| home.run(&["ps", "--json"]).json()["models"] == Value::Array(Vec::new());
    assert!((0..200).any(is_gone), "{:?}", home.run(&["ps"]));
    assert_eq!(home.run(&["stop", "demo", "--json"]).json()["instances"], 0);
}

#[test]
fn stats_have_the_figures_that_are_promised() {
    let home = Home::new();
    assert_eq!(home.run(&SHORT).code, 0);
    let stats = home.stats();
    for name in [
        "requests",
        "hits",
        "misses",
        "loads",
        "coalesced",
        "evictions",
        "parked",
        "resumed",
        "resident_bytes",
        "reserved_bytes",
        "budget_bytes",
    ] {
        assert!(stats["pool"][name].is_u64(), "{name}: {stats}");
    }
    let model = &stats["models"][0];
    assert_eq!(model["name"], "demo");
    for name in ["held_bytes", "mapped_bytes", "hits", "loads"] {
        assert!(model[name].is_u64(), "{name}: {stats}");
    }
    assert!(model["state"].is_string() && model["load_ms_p50"].is_number(), "{stats}");
    let table = home.run(&["stats"]);
    assert!(table.stdout.contains("requests") && table.stdout.contains("demo"), "{table:?}");
}

#[test]
fn counts_of_all_lives_survive_the_daemon() {
    let home = Home::new();
    for lives in 1..=2 {
        assert_eq!(home.run(&SHORT).code, 0);
        let stats = home.stats();
        assert_eq!((&stats["lifetime"]["starts"], &stats["pool"]["requests"]), (&lives.into(), &1.into()));
        assert_eq!(stats["lifetime"]["pool"]["requests"], lives, "{stats}");
        assert_eq!(stats["lifetime"]["models"][0]["loads"], lives, "{stats}");
        assert_eq!(home.run(&["shutdown"]).code, 0);
        home.wait_until_daemon_is_gone();
    }
}
