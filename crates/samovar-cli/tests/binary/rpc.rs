//! JSON-RPC on standard input and output, with a real daemon behind it.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::home::{Done, Home, Running};

fn call(id: u32, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// Each message that came, one a line.
fn messages(done: &Done) -> Vec<Value> {
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    done.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn answer(messages: &[Value], id: u32) -> &Value {
    messages.iter().find(|message| message["id"] == id).unwrap_or_else(|| panic!("{id}: {messages:?}"))
}

#[test]
fn lines_are_answered_by_a_daemon_that_is_started_for_them() {
    let home = Home::new();
    let generate = json!({ "model": "demo", "prompt": "Once upon a time", "max_tokens": 6, "temperature": 0,
                           "ignore_eos": true });
    let input = [
        call(1, "generate", &generate),
        call(2, "no_such_method", &json!({})),
        json!([call(3, "pool_status", &json!([])), call(4, "cache_model", &json!(["demo"]))]),
        call(5, "embed", &json!({ "model": "nobody", "input": "x" })),
    ];
    let input = input.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n") + "\n";
    let messages = messages(&home.run_with_input(&["rpc"], input.as_bytes()));
    let generated = &answer(&messages, 1)["result"];
    let text = generated["text"].as_str().expect("a text");
    assert_eq!(generated["usage"]["completion_tokens"], 6, "{generated}");
    let told: String = messages
        .iter()
        .filter(|message| message["method"] == "generate.delta" && message["params"]["id"] == 1)
        .filter_map(|message| message["params"]["text"].as_str())
        .collect();
    assert_eq!(told, text);
    assert_eq!(answer(&messages, 2)["error"]["code"], -32601);
    let batch = messages.iter().find_map(Value::as_array).expect("a batch");
    assert_eq!(batch.iter().map(|answer| &answer["id"]).collect::<Vec<_>>(), [3, 4]);
    assert!(batch[0]["result"]["pool"].is_object(), "{batch:?}");
    assert_eq!(batch[1]["result"]["was_here"], true, "{batch:?}");
    let unknown = &answer(&messages, 5)["error"];
    assert_eq!((&unknown["code"], &unknown["data"]["kind"]), (&json!(-32002), &json!("not_found")));
    assert!(unknown["data"]["hint"].is_string(), "{unknown}");
}

#[test]
fn messages_with_a_header_are_answered_with_one() {
    let home = Home::new();
    let message = call(7, "rpc.discover", &Value::Null).to_string();
    let input = format!("Content-Length: {}\r\n\r\n{message}", message.len());
    let done = home.run_with_input(&["rpc"], input.as_bytes());
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let (head, body) = done.stdout.split_once("\r\n\r\n").expect("a header");
    assert_eq!(head, format!("Content-Length: {}", body.len()));
    let document: Value = serde_json::from_str(body).expect("JSON");
    let methods = document["result"]["methods"].as_array().expect("methods");
    assert!(methods.iter().any(|method| method["name"] == "generate"), "{document}");
}

/// The example of the guide, word for word.
#[test]
fn the_guides_example_in_python_works() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/rpc.md");
    let guide = fs_err::read_to_string(guide).expect("the guide");
    let example = guide.split_once("```python\n").and_then(|(_, rest)| rest.split_once("```\n"));
    let (example, _) = example.expect("an example");
    let home = Home::new();
    fs_err::write(home.path().join("example.py"), example).expect("file");
    if !home.typed("python3 --version").output().is_ok_and(|output| output.status.success()) {
        // Past the test's captured output: a person who runs the tests is to see it.
        writeln!(std::io::stderr(), "skipped: there is no python3 for the guide's example").expect("says so");
        return;
    }
    let child = home.typed("exec python3 example.py").spawn().expect("starts");
    let done = Running { child }.finish();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let (text, tokens) = done.stdout.split_once("\ntokens: ").expect("tokens");
    assert!(!text.is_empty() && tokens.trim().parse::<u32>().is_ok_and(|tokens| tokens > 0), "{done:?}");
}

#[test]
fn who_says_nothing_starts_no_daemon() {
    let home = Home::new();
    assert!(messages(&home.run_with_input(&["rpc"], b"")).is_empty());
    assert_eq!(home.daemon_pid(), None);
}

#[test]
fn what_is_no_json_is_an_error_and_no_http() {
    let home = Home::new();
    let messages = messages(&home.run_with_input(&["rpc"], b"GET / HTTP/1.1\r\n\r\n"));
    assert_eq!(messages[0]["error"]["code"], -32700, "{messages:?}");
}

#[test]
fn a_daemon_that_leaves_ends_it() {
    let home = Home::new();
    let mut child = home.command(&["rpc"]).stdin(Stdio::piped()).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    writeln!(stdin, "{}", call(1, "pool_status", &Value::Null)).expect("writes");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("reads");
    assert!(line.contains("\"result\""), "{line}");
    assert_eq!(home.run(&["shutdown"]).code, 0);
    let done = Running { child }.finish();
    assert_ne!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("the daemon") && done.stderr.contains("\nhint: "), "{done:?}");
    drop(stdin);
}
