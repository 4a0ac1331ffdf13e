//! Models in processes of their own: what each client hears when one dies, what stays behind, and who is left when the
//! daemon itself is gone.
//!
//! `cargo x soak` does more of each (`SAMOVAR_CRASHES`, `SAMOVAR_LOADS`).
#![cfg(all(target_os = "linux", feature = "llama"))]

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

use crate::home::{Home, MODEL_FILE, SOON, await_some};

/// Tokens of an answer in whose middle there is time to kill a worker.
const LONG: u32 = 1_800;
/// Each in a process of its own.
const MODELS: usize = 8;
/// After the daemon's death.
const ORPHANS_MAY_LIVE: Duration = Duration::from_secs(2);
/// Between two looks at another process.
const POLL: Duration = Duration::from_millis(5);

#[test]
fn a_crash_is_one_error_for_its_own_request_and_none_for_the_others() {
    // A stopped worker is noticed after 15 seconds: that is for the long runs.
    let rounds = count("SAMOVAR_CRASHES", 1);
    let signals = [Signal::SEGV, Signal::ABORT, Signal::KILL, Signal::STOP];
    let signals = if rounds > 1 { &signals[..] } else { &signals[..3] };
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        recoveries.extend(send_signal_to_each(signals));
    }
    recoveries.sort_unstable();
    let at = |part: f64| recoveries[((recoveries.len() - 1) as f64 * part).round() as usize].as_millis();
    println!("{} strikes; next answer after p50 {} ms, p99 {} ms", recoveries.len(), at(0.5), at(0.99));
}

/// Signals workers of one daemon while all the others answer, and returns how long each model was away.
fn send_signal_to_each(signals: &[Signal]) -> Vec<Duration> {
    let home = many_models();
    let workers: Vec<_> = (0..MODELS).map(|model| worker_of(&home, model)).collect();
    let (is_over, whole) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for model in signals.len()..MODELS {
            let (home, is_over, whole) = (&home, &is_over, &whole);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let events: Vec<_> = Stream::begin(home, model, 200).collect();
                    assert!(errors(&events).is_empty(), "an answer of another worker: {:?}", errors(&events));
                    whole.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let missed = Cell::new(0);
        let recoveries = (0..signals.len()).map(|model| {
            let signal = signals[model];
            let mut stream = Stream::begin(&home, model, LONG);
            assert!(stream.next_text().is_some(), "it began to answer");
            send_signal(workers[model], signal);
            let rest: Vec<_> = stream.collect();
            let errors = errors(&rest);
            assert_eq!(rest.last(), Some(&Value::from("[DONE]")), "the end is well-formed");
            let word = match signal {
                Signal::SEGV => "SIGSEGV",
                Signal::ABORT => "SIGABRT",
                Signal::KILL => "SIGKILL",
                _ => "no sign of life",
            };
            match errors.as_slice() {
                // On a busy machine the answer can be whole before the blow falls; then the kill hit no request.
                [] => missed.set(missed.get() + 1),
                [error] => {
                    assert_eq!(error["code"], "engine_failed");
                    let message = error["message"].as_str().expect("a message");
                    assert!(message.contains(word), "{signal:?}: {message}");
                }
                many => panic!("{signal:?}: {} errors", many.len()),
            }
            let began = Instant::now();
            while began.elapsed() < SOON && !errors_of_an_answer(&home, model).is_empty() {
                std::thread::sleep(POLL);
            }
            assert!(began.elapsed() < SOON, "{signal:?}: the model never came back");
            let why = home.run(&["why", &name(model)]);
            assert!(why.stdout.contains(word), "{signal:?}: {}", why.stdout);
            began.elapsed()
        });
        let recoveries = recoveries.collect();
        assert!(missed.get() < signals.len(), "every answer was whole before the blow fell");
        await_some(|| (whole.load(Ordering::Relaxed) > 0).then_some(()));
        is_over.store(true, Ordering::Relaxed);
        assert!(whole.load(Ordering::Relaxed) > 0, "the others had no chance to fail");
        recoveries
    })
}

#[test]
fn a_worker_that_dies_before_the_first_word_is_no_matter_of_the_client() {
    let home = many_models();
    let worker = worker_of(&home, 0);
    // It takes the request and can not begin to answer.
    send_signal(worker, Signal::STOP);
    let stream = Stream::begin(&home, 0, 8);
    await_some(|| (home.stats()["models"][0]["busy_slots"] == 1).then_some(()));
    send_signal(worker, Signal::KILL);
    let events: Vec<_> = stream.collect();
    assert!(errors(&events).is_empty(), "{events:?}");
    let has_text = |event: &Value| event["choices"][0]["text"].as_str().is_some_and(|text| !text.is_empty());
    assert!(events.iter().any(has_text), "{events:?}");
    assert_eq!(events.last(), Some(&Value::from("[DONE]")));
    assert_eq!(home.stats()["pool"]["loads"], 2);
}

#[test]
fn serve_takes_over_a_model_that_is_answering() {
    let home = many_models();
    let worker = worker_of(&home, 0);
    // The request is on its way for as long as its worker stands still.
    send_signal(worker, Signal::STOP);
    let stream = Stream::begin(&home, 0, 8);
    await_some(|| (home.stats()["models"][0]["busy_slots"] == 1).then_some(()));
    assert_eq!(home.stats()["models"][0]["state"], "busy");
    let mut daemon = home.spawn(&["serve", "--port", "0"]);
    let log = BufReader::new(daemon.child.stderr.as_mut().expect("piped"));
    let is_told = log.lines().any(|line| line.expect("a line").contains("taking over"));
    assert!(is_told, "it takes over");
    send_signal(worker, Signal::CONT);
    let events: Vec<_> = stream.collect();
    assert!(errors(&events).is_empty(), "{events:?}");
    assert_eq!(events.last(), Some(&Value::from("[DONE]")), "the answer is whole");
    let pid = i32::try_from(daemon.child.id()).expect("pid");
    await_some(|| (home.daemon_pid() == Some(pid)).then_some(()));
    let is_held = || {
        let models = home.run(&["ps", "--json"]).json()["models"].clone();
        models.as_array().is_some_and(|all| {
            all.iter().any(|model| model["name"] == name(0).as_str() && model["state"] == "ready")
        })
    };
    await_some(|| is_held().then_some(()));
    daemon.signal(Signal::TERM);
    assert!(daemon.child.wait().expect("ends").success());
}

#[test]
fn no_worker_outlives_its_daemon_by_two_seconds() {
    // In the middle of an answer.
    let home = many_models();
    let mut workers: Vec<_> = (0..MODELS).map(|model| worker_of(&home, model)).collect();
    let mut stream = Stream::begin(&home, 0, LONG);
    assert!(stream.next_text().is_some());
    home.signal_daemon(Signal::KILL);
    await_end(&workers);
    // In the middle of a load: as soon as there is a process at all.
    for _ in 0..3 {
        let home = many_models();
        let first = worker_of(&home, 0);
        let daemon = home.daemon_pid().expect("a daemon");
        let load = home.spawn(&["warm", &name(1)]);
        workers = await_some(|| children_of(daemon).filter(|all| all.len() > 1));
        assert!(workers.contains(&first));
        home.signal_daemon(Signal::KILL);
        await_end(&workers);
        load.finish();
    }
}

#[test]
fn a_daemon_that_loads_and_unloads_grows_by_nothing() {
    let loads = count("SAMOVAR_LOADS", 50);
    let home = Home::new();
    let once = || {
        assert_eq!(home.run(&["warm", "demo"]).code, 0);
        assert_eq!(home.run(&["stop", "demo"]).code, 0);
    };
    // Until allocators and pools have what they keep.
    for _ in 0..20 {
        once();
    }
    let daemon = home.daemon_pid().expect("a daemon");
    let before = Belongings::of(daemon);
    for _ in 0..loads {
        once();
    }
    let after = await_some(|| {
        let now = Belongings::of(daemon);
        (now.descriptors <= before.descriptors && now.threads <= before.threads).then_some(now)
    });
    println!("{loads} loads: before {before:?}, after {after:?}");
    // The last one may be on its way out still.
    await_some(|| children_of(daemon).is_none().then_some(()));
    let grown = after.own_bytes.saturating_sub(before.own_bytes);
    // Two per cent of a small process are a few pages: a megabyte is allowed for.
    assert!(grown <= (before.own_bytes / 50).max(1 << 20), "{before:?} became {after:?}");
}

#[test]
fn what_workers_do_is_a_metric() {
    let home = Home::new();
    assert_eq!(home.run(&["run", "-n", "4", "Hello"]).code, 0);
    let mut text = String::new();
    let mut stream = UnixStream::connect(home.socket()).expect("connects");
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("asks");
    stream.read_to_string(&mut text).expect("answers");
    for line in [
        "samovar_workers 1",
        "samovar_worker_starts_total 1",
        "samovar_worker_failures_total{reason=\"crash\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    for part in ["limits", "kill_order", "privileges", "files", "calls"] {
        assert!(text.contains(&format!("samovar_worker_sandbox{{part=\"{part}\"}}")), "{part}: {text}");
    }
    let stats = home.stats();
    assert_eq!(stats["workers"]["sandbox_mode"], "auto");
    assert_eq!(stats["workers"]["running"], 1);
}

#[test]
fn a_sandbox_can_be_switched_off_and_the_daemon_says_so() {
    let home = Home::new().with_config("[pool]\nsandbox = 'off'\n");
    assert_eq!(home.run(&["run", "-n", "4", "Hello"]).code, 0);
    let log = fs_err::read_to_string(home.path().join("state/daemon.log")).expect("a log");
    assert_eq!(log.matches("workers have no sandbox").count(), 1, "{log}");
    assert!(home.run(&["doctor"]).stdout.contains("all rights of the daemon"));
}

/// A daemon with as many models, each in a file of its own: names of one file would share a process.
fn many_models() -> Home {
    let sections = (0..MODELS).map(|model| {
        let name = name(model);
        format!("[models.{name}]\nsource = './{name}.gguf'\nslots = 1\ncontext_tokens = 2048\n")
    });
    let home = Home::new().with_config(&sections.collect::<String>());
    for model in 0..MODELS {
        fs_err::copy(MODEL_FILE, home.path().join(format!("{}.gguf", name(model)))).expect("a copy");
    }
    home
}

fn name(model: usize) -> String {
    format!("m{model}")
}

/// Loads a model, and finds the process that came with it.
fn worker_of(home: &Home, model: usize) -> Pid {
    let all = |daemon: Option<i32>| daemon.and_then(children_of).unwrap_or_default();
    let before = all(home.daemon_pid());
    assert_eq!(home.run(&["warm", &name(model)]).code, 0);
    let after = all(home.daemon_pid());
    *after.iter().find(|pid| !before.contains(pid)).expect("a model has a process of its own")
}

/// Processes that this one started, if there are any.
fn children_of(parent: i32) -> Option<Vec<Pid>> {
    let processes = fs_err::read_dir("/proc").expect("proc").filter_map(Result::ok);
    let children: Vec<_> = processes
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs_err::read_to_string(entry.path().join("stat")).ok()?;
            // The name in brackets may hold anything.
            let (_, rest) = stat.rsplit_once(')')?;
            let mut fields = rest.split_whitespace().skip(1);
            (fields.next()? == parent.to_string()).then(|| Pid::from_raw(pid)).flatten()
        })
        .collect();
    (!children.is_empty()).then_some(children)
}

/// Sends a signal as a fault would raise it.
fn send_signal(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("it lives");
    // Rust's own handler looks for an overflown stack, finds none, and leaves the next one to the kernel: a fault comes
    // again at once, a signal that was sent has to be sent again.
    while signal == Signal::SEGV && kill_process(pid, signal).is_ok() {
        std::thread::yield_now();
    }
}

/// Waits until none of these is alive, for as long as orphans may be.
fn await_end(processes: &[Pid]) {
    let began = Instant::now();
    let is_alive = |pid: &Pid| {
        // The process that adopts orphans may take its time to reap them.
        let state = fs_err::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        let is_dead =
            state.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')));
        test_kill_process(*pid).is_ok() && !is_dead
    };
    while processes.iter().any(is_alive) {
        assert!(began.elapsed() < ORPHANS_MAY_LIVE, "workers without a daemon: {processes:?}");
        std::thread::yield_now();
    }
}

/// How often to do something: as a test does it, or as an endurance run wishes.
fn count(variable: &str, otherwise: u32) -> u32 {
    std::env::vars()
        .find_map(|(name, text)| (name == variable).then(|| text.parse().ok()).flatten())
        .unwrap_or(otherwise)
}

/// What a process has.
#[derive(Debug)]
struct Belongings {
    own_bytes: u64,
    descriptors: usize,
    threads: usize,
}

impl Belongings {
    fn of(pid: i32) -> Self {
        let count = |what: &str| fs_err::read_dir(format!("/proc/{pid}/{what}")).expect("it lives").count();
        let status = fs_err::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
        let kilobytes: u64 = own.trim().trim_end_matches(" kB").parse().expect("a number");
        Self { own_bytes: kilobytes << 10, descriptors: count("fd"), threads: count("task") }
    }
}

/// An answer of the OpenAI API as it comes: objects, then the word `[DONE]`.
struct Stream {
    reader: BufReader<UnixStream>,
}

impl Stream {
    fn begin(home: &Home, model: usize, max_tokens: u32) -> Self {
        let body = json!({
            "model": name(model), "prompt": "Once upon a time", "stream": true,
            "max_tokens": max_tokens, "ignore_eos": true,
        })
        .to_string();
        let mut stream = UnixStream::connect(home.socket()).expect("connects");
        stream.set_read_timeout(Some(SOON)).expect("a limit");
        write!(
            stream,
            "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .expect("asks");
        Self { reader: BufReader::new(stream) }
    }

    fn next_text(&mut self) -> Option<Value> {
        self.find(|event| event["choices"][0]["text"].as_str().is_some_and(|text| !text.is_empty()))
    }
}

impl Iterator for Stream {
    type Item = Value;

    /// Chunks hold whole events, so their frames are lines like any other that says nothing.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        while self.reader.read_line(&mut line).expect("an answer in time") > 0 {
            let text = line.trim_end();
            match text.strip_prefix("data: ") {
                Some("[DONE]") => return Some(Value::from("[DONE]")),
                Some(object) => return Some(serde_json::from_str(object).expect("an event is an object")),
                // An answer that never became a stream.
                None if text.starts_with('{') => return Some(serde_json::from_str(text).expect("an object")),
                None => line.clear(),
            }
        }
        None
    }
}

fn errors(events: &[Value]) -> Vec<Value> {
    events.iter().filter_map(|event| event.get("error").cloned()).collect()
}

fn errors_of_an_answer(home: &Home, model: usize) -> Vec<Value> {
    errors(&Stream::begin(home, model, 4).collect::<Vec<_>>())
}
