//! `samovar run`, with and without a daemon.

use std::io::Read;

use rustix::process::Signal;
use serde_json::json;

use crate::home::{Home, MODEL_FILE, Running};
use crate::stand_in::StandIn;

/// The same words each time.
const GREEDY: [&str; 4] = ["-t", "0", "-n", "24"];
const STORY: &str = "Tell me a story about a fox";

fn greedy<'a>(line: &[&'a str]) -> Vec<&'a str> {
    [line, &GREEDY].concat()
}

#[test]
fn a_second_run_finds_the_model_loaded() {
    let home = Home::new();
    let first = home.run(&greedy(&["run", "--json", STORY])).json();
    let second = home.run(&greedy(&["run", "--json", STORY])).json();
    assert_eq!(first["tier"], "cold");
    assert_eq!(second["tier"], "hit");
    assert_eq!(first["text"], second["text"]);
    assert!(second["usage"]["completion_tokens"].as_u64().expect("count") > 0);
    let pool = &home.stats()["pool"];
    assert_eq!(
        (pool["requests"].as_u64(), pool["loads"].as_u64(), pool["hits"].as_u64()),
        (Some(2), Some(1), Some(1))
    );
}

#[test]
fn ten_runs_at_once_start_one_daemon_and_load_once() {
    let home = Home::new();
    let runs: Vec<Running> = (0..10).map(|_| home.spawn(&greedy(&["run", STORY]))).collect();
    let answers: Vec<String> = runs
        .into_iter()
        .map(|run| {
            let done = run.finish();
            assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
            done.stdout
        })
        .collect();
    assert!(answers.iter().all(|answer| *answer == answers[0] && !answer.trim().is_empty()), "{answers:?}");
    let stats = home.stats();
    assert_eq!(stats["pool"]["loads"], 1);
    assert_eq!(stats["pool"]["requests"], 10);
    assert_eq!(i64::from(home.daemon_pid().expect("a daemon")), stats["pid"].as_i64().expect("pid"));
    let log = fs_err::read_to_string(home.path().join("state/daemon.log")).expect("log");
    assert_eq!(log.matches("serving").count(), 1, "{log}");
}

#[test]
fn a_pipe_gets_the_plain_text_and_one_newline() {
    let home = Home::new();
    let json = home.run(&greedy(&["run", "--json", STORY])).json();
    let plain = home.run(&greedy(&["run", STORY]));
    assert_eq!(
        plain.stdout.trim_end_matches('\n'),
        json["text"].as_str().expect("text").trim_end_matches('\n')
    );
    assert!(plain.stdout.ends_with('\n') && !plain.stdout.contains('\x1b'));
    assert_eq!(plain.stderr, "");
}

#[test]
fn without_a_daemon_the_words_are_the_same_and_none_is_started() {
    let home = Home::new();
    let here = home.run(&greedy(&["run", "--no-daemon", STORY]));
    assert_eq!((here.code, here.stderr.as_str()), (0, ""));
    assert!(!home.socket().exists());
    let there = home.run(&greedy(&["run", STORY]));
    assert_eq!(here.stdout, there.stdout);
}

#[test]
fn more_context_is_asked_of_the_daemon_whose_model_grows() {
    let home = Home::new().with_config("[models.small]\nsource = 'demo'\ncontext_tokens = 128\n");
    let ask = |context| home.run(&greedy(&["run", "-m", "small", "--context", context, "--json", STORY]));
    let context = || home.stats()["models"][0]["options"]["context_tokens"].as_u64();
    assert_eq!((ask("128").json()["tier"].as_str(), context()), (Some("cold"), Some(128)));
    assert_eq!((ask("256").code, context()), (0, Some(256)));
    assert_eq!(home.stats()["pool"]["loads"], 1, "its weights stayed in memory");
    for without_daemon in [&[][..], &["--no-daemon"]] {
        let line = [["run", "-m", "small", "--context", "9000", STORY].as_slice(), without_daemon].concat();
        let refused = home.run(&line);
        assert_eq!(refused.code, 64, "{refused:?}");
        assert!(refused.stderr.contains("context_tokens") && refused.stderr.contains("512"), "{refused:?}");
    }
}

#[test]
fn a_path_from_the_working_directory_reaches_the_daemon() {
    let home = Home::new();
    fs_err::copy(MODEL_FILE, home.path().join("tale.gguf")).expect("copies");
    let by_path = home.run(&greedy(&["run", "--json", "./tale.gguf", STORY])).json();
    assert_eq!((by_path["model"].as_str(), by_path["tier"].as_str()), (Some("tale"), Some("cold")));
    // From now on the file has a name.
    let by_name = home.run(&greedy(&["run", "--json", "tale", STORY])).json();
    assert_eq!(by_name["tier"], "hit");
    let list = home.run(&["list", "--json"]).json();
    let names: Vec<&str> =
        list["models"].as_array().expect("models").iter().filter_map(|m| m["name"].as_str()).collect();
    assert_eq!(names, ["demo", "tale"]);
}

#[test]
fn a_dash_stands_for_standard_input() {
    let home = Home::new();
    let typed = home.run(&greedy(&["run", "--raw", "--json", "Once upon a time\nthere was a fox"])).json();
    let piped = home.run_with_input(
        &greedy(&["run", "--raw", "--json", "-m", "demo", "Once upon a time", "-"]),
        b"there was a fox\n",
    );
    assert_eq!(piped.json()["text"], typed["text"]);
    let only =
        home.run_with_input(&greedy(&["run", "--raw", "--json"]), b"Once upon a time\nthere was a fox");
    assert_eq!(only.json()["text"], typed["text"]);
}

/// Answers one request with a thought, a text and a call of a tool.
fn answer_with_a_thought(daemon: &StandIn) {
    let usage =
        json!({ "prompt_tokens": 9, "cached_tokens": 0, "completion_tokens": 7, "thinking_tokens": 3 });
    let timings = json!({ "fetch_ms": 0.0, "queue_ms": 0.0, "load_ms": 0.0, "prefill_ms": 1.0, "first_token_ms": 2.0,
                          "decode_ms": 3.0, "total_ms": 4.0 });
    let mut answering = daemon.accept();
    for event in [
        json!({ "thinking": { "text": "\nhm, " } }),
        json!({ "thinking": { "text": "so" } }),
        json!({ "text": { "text": "Yes." } }),
        json!({ "tool_call": { "index": 0, "id": "call_a", "name": "weather" } }),
        json!({ "tool_arguments": { "index": 0, "text": "{\"city\":" } }),
        json!({ "tool_arguments": { "index": 0, "text": "\"Rome\"}" } }),
        json!({ "done": { "finish": "tool_calls", "usage": usage, "tier": "hit", "timings": timings } }),
    ] {
        answering.tell(&event);
    }
    answering.end();
}

#[test]
fn a_pipe_gets_no_thoughts_and_json_has_them_apart() {
    let home = Home::new();
    let daemon = StandIn::new(&home);
    let plain = home.spawn(&["run", STORY]);
    answer_with_a_thought(&daemon);
    let plain = plain.finish();
    assert_eq!((plain.code, plain.stderr.as_str()), (0, ""), "{plain:?}");
    assert_eq!(plain.stdout, "Yes.\nweather({\"city\":\"Rome\"})\n");
    let object = home.spawn(&["run", "--json", STORY]);
    answer_with_a_thought(&daemon);
    let object = object.finish().json();
    assert_eq!((&object["text"], &object["thinking"]), (&json!("Yes."), &json!("hm, so")));
    assert_eq!(object["usage"]["thinking_tokens"], 3);
    let call = &object["tool_calls"][0];
    assert_eq!(
        (&call["id"], &call["function"]["name"], &call["function"]["arguments"]),
        (&json!("call_a"), &json!("weather"), &json!(r#"{"city":"Rome"}"#))
    );
}

#[test]
fn an_answer_has_the_form_that_was_asked_for() {
    let home = Home::new();
    let schema = r#"{"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"],
        "additionalProperties": false}"#;
    fs_err::write(home.path().join("colour.json"), schema).expect("file");
    fs_err::write(home.path().join("colour.lark"), "start: \"red\" | \"blue\"").expect("file");
    fs_err::write(home.path().join("colour.gbnf"), "root ::= \"red\" | \"blue\"").expect("file");
    let is_colour = |text: &str| ["red", "blue"].contains(&text);
    for without_daemon in [&[][..], &["--no-daemon"]] {
        let run = |flags: &[&str]| {
            let done = home.run(&[["run", STORY, "-n", "100"].as_slice(), flags, without_daemon].concat());
            assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{flags:?}: {done:?}");
            done.stdout
        };
        let object: serde_json::Value =
            serde_json::from_str(&run(&["--schema", "colour.json", "-t", "2"])).expect("JSON");
        assert!(is_colour(object["colour"].as_str().expect("a text")), "{object}");
        for flags in [["--grammar", "colour.lark"], ["--grammar", "colour.gbnf"], ["--regex", "red|blue"]] {
            assert!(is_colour(run(&flags).trim_end()), "{flags:?}");
        }
    }
    let piped = home.run_with_input(&["run", STORY, "-n", "100", "--schema", "-"], schema.as_bytes());
    let object: serde_json::Value = serde_json::from_str(&piped.stdout).expect("JSON");
    assert!(is_colour(object["colour"].as_str().expect("a text")), "{piped:?}");
    let wrong = home.run(&["run", STORY, "--regex", "(a"]);
    assert_eq!(wrong.code, 64, "{wrong:?}");
}

#[test]
fn a_reader_who_has_enough_ends_the_run_quietly_and_cancels_the_request() {
    let home = Home::new();
    let daemon = StandIn::new(&home);
    let mut run = home.spawn(&["run", STORY]);
    let mut answering = daemon.accept();
    answering.say("Once ");
    let mut stdout = run.child.stdout.take().expect("piped");
    stdout.read_exact(&mut [0]).expect("a first byte");
    drop(stdout);
    // Hanging up is what cancels a request.
    answering.ramble();
    let done = run.finish();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_cancels_the_request_and_not_the_daemon() {
    let home = Home::new();
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    // A daemon that stands still cannot be faster than Ctrl-C.
    home.signal_daemon(Signal::STOP);
    let mut run = home.spawn(&["run", STORY]);
    run.wait_until_it_hears(Signal::INT);
    run.signal_until_it_ends(Signal::INT);
    let done = run.finish();
    home.signal_daemon(Signal::CONT);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (130, "", ""));
    assert_eq!(home.run(&greedy(&["run", STORY])).code, 0);
    assert_eq!(home.stats()["pool"]["loads"], 1);
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let home = Home::new();
    let full = fs_err::OpenOptions::new().write(true).open("/dev/full").expect("opens").into_file();
    let child = home.command(&greedy(&["run", STORY])).stdout(full).spawn().expect("starts");
    let done = Running { child }.finish();
    assert_eq!(done.code, 74, "{done:?}");
    assert!(done.stderr.contains("no space left on device"), "{done:?}");
}

#[test]
fn verbose_tells_where_the_time_went() {
    let home = Home::new();
    let done = home.run(&greedy(&["run", "-v", STORY]));
    assert!(done.stderr.contains("demo · loaded in ") && done.stderr.contains("tok/s"), "{done:?}");
}
