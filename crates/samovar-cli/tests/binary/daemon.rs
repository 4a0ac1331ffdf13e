//! The daemon's life: started once, found again, refused twice, gone when told, idle or dead.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::Value;

use crate::home::{Home, Running, await_some};
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

/// A daemon of a person, which listens.
fn serve(home: &Home, more: &[&str]) -> Running {
    home.spawn(&[&["serve", "--port", "0"], more].concat()).greeted()
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let home = Home::new();
    let first = serve(&home, &[]);
    assert_eq!(home.run(&SHORT).code, 0);
    let second = home.run(&["serve", "--listen", "localhost:0"]);
    assert_eq!(second.code, 69, "{second:?}");
    assert!(
        second.stderr.contains("already serves") && second.stderr.contains("hint: `samovar shutdown`"),
        "{second:?}"
    );
    assert_eq!(home.run(&SHORT).code, 0);
    assert_eq!(home.stats()["pool"]["loads"], 1);
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code, 0);
}

#[test]
fn serve_takes_over_from_the_daemon_that_run_started_with_what_it_holds() {
    let home = Home::new();
    fs_err::copy(crate::home::MODEL_FILE, home.path().join("tale.gguf")).expect("copies");
    assert_eq!(home.run(&SHORT).code, 0);
    assert_eq!(home.run(&["warm", "./tale.gguf", "--pin"]).code, 0);
    let background = home.daemon_pid().expect("a daemon");
    let mut daemon = serve(&home, &[]);
    let pid = i32::try_from(daemon.child.id()).expect("pid");
    assert_ne!(pid, background);
    assert_eq!(home.daemon_pid(), Some(pid));
    let held = || {
        let models = home.stats()["models"].as_array().expect("models").clone();
        let ready = models.iter().filter(|model| model["state"] == "ready");
        let mut names: Vec<(String, bool)> = ready
            .map(|model| {
                (model["name"].as_str().expect("name").to_owned(), model["is_pinned"].as_bool().expect("pin"))
            })
            .collect();
        names.sort();
        names
    };
    let expected = [("demo".to_owned(), false), ("tale".to_owned(), true)];
    assert!((0..400).any(|_| held() == expected), "{:?}", held());
    let done = home.run(&SHORT);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    assert_eq!(home.daemon_pid(), Some(pid));
    daemon.signal(Signal::TERM);
    assert!(daemon.child.wait().expect("ends").success());
}

#[test]
fn a_serve_that_could_not_serve_leaves_the_daemon_in_the_background_alone() {
    let home = Home::new();
    assert_eq!(home.run(&SHORT).code, 0);
    let pid = home.daemon_pid();
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let taken = taken.local_addr().expect("address").to_string();
    for (line, code) in [
        (&["serve", "--listen", &taken][..], 75),
        (&["serve", "--listen", "0.0.0.0:0"][..], 77),
        (&["serve", "--port", "0", "./none.gguf"][..], 66),
        (&["serve", "--port", "0", "nobody"][..], 66),
    ] {
        let done = home.run(line);
        assert_eq!(done.code, code, "{line:?}: {done:?}");
        assert!(done.stderr.contains("hint: "), "{line:?}: {done:?}");
        assert_eq!(home.daemon_pid(), pid, "{line:?}");
        assert_eq!(home.run(&SHORT).code, 0, "{line:?}");
    }
    assert_eq!(home.stats()["pool"]["loads"], 1, "one daemon all the time");
}

#[test]
fn serve_takes_over_the_very_address_of_the_daemon_in_the_background() {
    let on_a_free_port = |_| {
        let free = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = free.local_addr().expect("address").to_string();
        drop(free);
        let home = Home::new().with_variable("SAMOVAR_SERVER_LISTEN", &address);
        // Another program may have taken the port meanwhile.
        (home.run(&SHORT).code == 0).then_some((home, address))
    };
    let (home, address) = (0..5).find_map(on_a_free_port).expect("a daemon on a port that was free");
    assert_eq!(home.stats()["listen"], address.as_str());
    let daemon = home.spawn(&["serve"]).greeted();
    assert_eq!(home.stats()["listen"], address.as_str());
    assert_eq!(home.daemon_pid(), i32::try_from(daemon.child.id()).ok());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().code, 0);
}

#[test]
fn runs_beside_a_serve_that_takes_over_are_all_answered() {
    let home = Home::new();
    assert_eq!(home.run(&SHORT).code, 0);
    let runs: Vec<Running> = (0..4).map(|_| home.spawn(&SHORT)).collect();
    let daemon = serve(&home, &[]);
    let more: Vec<Running> = (0..4).map(|_| home.spawn(&SHORT)).collect();
    for run in runs.into_iter().chain(more) {
        let done = run.finish();
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().code, 0);
}

#[test]
fn a_hang_up_that_was_ignored_at_the_start_stays_ignored() {
    use std::os::unix::process::ExitStatusExt;
    let home = Home::new();
    for (trap, is_ignored) in [("trap '' HUP INT; ", true), ("", false)] {
        let plain = home.command(&[]);
        let mut command = std::process::Command::new("sh");
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let program = env!("CARGO_BIN_EXE_samovar");
        command.args(["-c", &format!("{trap}exec {program} serve --port 0")]);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        let mut daemon =
            Running { child: command.stderr(std::process::Stdio::null()).spawn().expect("starts") };
        let mut line = String::new();
        BufReader::new(daemon.child.stdout.as_mut().expect("piped"))
            .read_line(&mut line)
            .expect("a greeting");
        daemon.signal(Signal::HUP);
        if is_ignored {
            daemon.signal(Signal::INT);
            assert_eq!(home.run(&SHORT).code, 0);
            assert_eq!(home.daemon_pid(), i32::try_from(daemon.child.id()).ok());
            daemon.signal(Signal::TERM);
        }
        let status = daemon.child.wait().expect("ends");
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{trap}");
    }
}

#[test]
fn a_name_that_is_written_while_the_daemon_runs_is_known_at_once() {
    let home = Home::new();
    assert_eq!(home.run(&SHORT).code, 0);
    let pid = home.daemon_pid();
    let config = home.path().join("samovar.toml");
    fs_err::copy(crate::home::MODEL_FILE, home.path().join("tale.gguf")).expect("copies");
    fs_err::write(&config, "[models.added]\nsource = './tale.gguf'\nslots = 2\n").expect("file");
    let run = ["run", "-m", "added", "-n", "2", "Hello"];
    let done = home.run(&run);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let told = home.run(&["config", "--reload", "--json"]).json();
    assert_eq!(told["in_force"], serde_json::json!(["models.added.slots", "models.added.source"]));
    fs_err::write(&config, "[pool]\nqueue_total = 7\n").expect("file");
    let gone = home.run(&run);
    assert_eq!(gone.code, 66, "{gone:?}");
    let told = home.run(&["config", "--reload"]);
    assert!(told.stdout.contains("after a restart") && told.stdout.contains("pool.queue_total"), "{told:?}");
    fs_err::write(&config, "[pool]\nqueue_totl = 7\n").expect("file");
    let wrong = home.run(&["config", "--reload"]);
    assert!(wrong.code == 64 && wrong.stderr.contains("queue_total"), "{wrong:?}");
    assert_eq!(home.daemon_pid(), pid, "all of it by one daemon");
    fs_err::remove_file(&config).expect("removed");
}

#[test]
fn stop_takes_several_names_and_rm_takes_all() {
    let home = Home::new();
    fs_err::copy(crate::home::MODEL_FILE, home.path().join("tale.gguf")).expect("copies");
    assert_eq!(home.run(&["warm", "demo", "./tale.gguf"]).code, 0);
    let stopped = home.run(&["stop", "demo", "tale"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_eq!(stopped.stdout.matches("leaves memory").count(), 2, "{stopped:?}");
    assert_eq!(home.run(&["shutdown"]).code, 0);
    assert_eq!(home.run(&["rm", "--all"]).code, 0);
    assert_eq!(home.run(&["rm", "--all"]).stdout, "no model is on the disk\n");
    assert_eq!(home.run(&["rm"]).code, 64);
    assert_eq!(home.run(&["rm", "--all", "demo"]).code, 64);
}

#[test]
fn what_was_counted_is_written_while_the_daemon_lives_and_outlives_a_kill() {
    let home = Home::new();
    assert_eq!(home.run(&SHORT).code, 0);
    let config = samovar::store::StoreConfig::new(home.path().join("cache"), home.path().join("state"));
    let store = samovar::store::Store::open(config).expect("the daemon's store");
    let counted = || {
        let row: Value = serde_json::from_str(&store.recall("pool/statistics").ok()??).expect("JSON");
        row["total"]["requests"].as_u64()
    };
    await_some(|| (counted() == Some(1)).then_some(()));
    home.signal_daemon(Signal::KILL);
    home.wait_until_daemon_is_gone();
    assert_eq!(home.run(&SHORT).code, 0);
    let stats = home.stats();
    assert_eq!(stats["lifetime"]["pool"]["requests"], 2, "{}", stats["lifetime"]);
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
    assert!(log.contains("no requests; shutting down"), "{log}");
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
    let listening = first_object(serve.child.stdout.as_mut().expect("piped"));
    let mut stream = TcpStream::connect(listening["listen"].as_str().expect("address")).expect("connects");
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(home.status_of("GET", "/readyz", ""), 200);
    // `run` finds it instead of starting another.
    assert_eq!(home.run(&SHORT).code, 0);
    assert_eq!(home.stats()["pid"], listening["pid"]);
    serve.signal(Signal::TERM);
    assert_eq!(serve.finish().code, 0);
    assert!(!home.socket().exists());
}

/// Reads up to the end of the first JSON object.
pub(crate) fn first_object(stream: &mut impl Read) -> Value {
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
