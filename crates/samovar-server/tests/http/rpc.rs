//! JSON-RPC over the owner's socket: every method, hostile input, cancellation, and `POST /rpc`.

use std::time::Duration;

use samovar_core::generation::Delta;
use samovar_core::testing::fake::{FakeEngine, Script};
use samovar_server::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::embedders::{Embedders, WIDTH};
use crate::fixture::Fixture;
use crate::raw::{exchange, owner, post, request, unix};

/// Calls of one connection that run at the same time.
const CALLS: u32 = 128;
/// Calls of one batch.
const BATCH_CALLS: u32 = 64;

/// A program that speaks lines.
struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Client {
    async fn new(fixture: &Fixture) -> Self {
        let (reader, writer) = unix(&fixture.socket).await.into_split();
        Self { lines: BufReader::new(reader).lines(), writer }
    }

    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.writer.write_all(bytes.as_ref()).await.expect("writes");
    }

    async fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n")).await;
    }

    async fn call(&mut self, id: impl Into<Value>, method: &str, params: &Value) {
        self.send(&call(id, method, params)).await;
    }

    /// The next message; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(Duration::from_secs(30), self.lines.next_line());
        let line = line.await.expect("within 30 s").expect("reads")?;
        Some(serde_json::from_str(&line).expect("JSON"))
    }

    /// The answer to the request of this id, and what was told of it before; other messages are passed over.
    async fn answer(&mut self, id: impl Into<Value>) -> (Value, Vec<Value>) {
        let (id, mut told) = (id.into(), Vec::new());
        loop {
            let message = self.next().await.expect("an answer");
            if message.get("method").is_none() && message.get("id") == Some(&id) {
                return (message, told);
            }
            if message["params"]["id"] == id {
                told.push(message);
            }
        }
    }

    /// The next answer, whatever its id.
    async fn answered(&mut self) -> Value {
        loop {
            let message = self.next().await.expect("an answer");
            if message.get("method").is_none() {
                return message;
            }
        }
    }

    /// What the request of this id came to.
    async fn result(&mut self, id: impl Into<Value>) -> Value {
        let (answer, _) = self.answer(id).await;
        answer.get("result").unwrap_or_else(|| panic!("{answer}")).clone()
    }

    /// The code of the error of this id, which has a kind and a hint.
    async fn code(&mut self, id: impl Into<Value>) -> i64 {
        let (answer, _) = self.answer(id).await;
        let error = answer.get("error").unwrap_or_else(|| panic!("{answer}"));
        assert!(error["data"]["kind"].is_string(), "{error}");
        error["code"].as_i64().expect("a code")
    }
}

fn call(id: impl Into<Value>, method: &str, params: &Value) -> Value {
    let id: Value = id.into();
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn generate(max_tokens: u32) -> Value {
    json!({ "model": "demo", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": max_tokens,
            "ignore_eos": true, "temperature": 0 })
}

#[tokio::test]
async fn models_are_cached_warmed_listed_and_cleared() {
    let fixture = Fixture::new().await;
    let mut client = Client::new(&fixture).await;
    client.call(1, "cache_model", &json!({ "model": "demo" })).await;
    let cached = client.result(1).await;
    assert_eq!((&cached["was_here"], &cached["model"]["name"]), (&json!(true), &json!("demo")));
    client.call(2, "warm_cache", &json!(["demo", true])).await;
    let (warmed, _) = client.answer(2).await;
    assert_eq!(warmed["result"]["is_pinned"], true, "{warmed}");
    assert_eq!(fixture.engine.counts().loads_finished, 1);
    client.call(3, "pool_status", &Value::Null).await;
    let status = client.result(3).await;
    assert_eq!((&status["models"][0]["name"], &status["pool"]["loads"]), (&json!("demo"), &json!(1)));
    client.call(4, "get_cache_stats", &json!({})).await;
    let stats = client.result(4).await;
    let same = owner(&fixture, "GET", "/admin/stats", &Value::Null).await.json();
    let keys = |object: &Value| object.as_object().expect("object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&stats), keys(&same));
    let unpinned = json!({ "model": "demo", "pinned": false });
    assert_eq!(owner(&fixture, "POST", "/admin/pin", &unpinned).await.status, 200);
    client.call(5, "clear_cache", &json!({ "tier": "disk", "dry_run": true })).await;
    assert_eq!(client.result(5).await["collected"]["is_dry_run"], true);
    client.call(6, "clear_cache", &Value::Null).await;
    assert_eq!(client.result(6).await, json!({ "tier": "memory", "instances": 1 }));
    client.call(7, "clear_cache", &json!({ "model": "demo" })).await;
    assert_eq!(client.result(7).await["tier"], "memory");
    for (id, params) in [
        (8, json!({ "tier": "memory", "dry_run": true })),
        (9, json!({ "tier": "disk", "model": "demo" })),
        (10, json!({ "tier": "l3" })),
        (11, json!({ "all": true })),
    ] {
        client.call(id, "clear_cache", &params).await;
        assert_eq!(client.code(id).await, -32602, "{params}");
    }
    for (id, method) in [(12, "cache_model"), (13, "warm_cache")] {
        client.call(id, method, &json!({ "model": "no-such-model" })).await;
        assert_eq!(client.code(id).await, -32002, "{method}");
    }
}

#[tokio::test]
async fn a_load_is_told_on_its_way() {
    let fixture = Fixture::on(FakeEngine::builder().gate_loads()).await;
    let mut client = Client::new(&fixture).await;
    client.call("load", "warm_cache", &json!({ "model": "demo" })).await;
    fixture.engine.wait_until(|counts| counts.loads_started == 1).await;
    let waiting = client.next().await.expect("a notification");
    assert_eq!((&waiting["method"], waiting.get("id")), (&json!("warm_cache.progress"), None));
    assert_eq!(waiting["params"]["id"], "load");
    assert!(waiting["params"]["waiting"].is_object(), "{waiting}");
    fixture.engine.loads_gate().open();
    assert_eq!(client.result("load").await["model"], "demo");
}

#[tokio::test]
async fn tokens_are_told_as_they_come_and_the_result_has_them_all() {
    let fixture = Fixture::new().await;
    let mut client = Client::new(&fixture).await;
    client.call("a", "generate", &generate(6)).await;
    let (answer, told) = client.answer("a").await;
    let result = &answer["result"];
    let texts = told.iter().filter(|message| message["method"] == "generate.delta");
    let text: String = texts.filter_map(|message| message["params"]["text"].as_str()).collect();
    assert_eq!(result["text"], text);
    assert_eq!((&result["finish"], &result["model"]), (&json!("length"), &json!("demo")));
    assert_eq!(result["usage"]["completion_tokens"], 6);
    let chat = post(&fixture, "/v1/chat/completions", &generate(6)).await.json();
    assert_eq!(chat["choices"][0]["message"]["content"], text);
    let mut silent = generate(6);
    silent["stream"] = false.into();
    client.call("b", "generate", &silent).await;
    let (answer, told) = client.answer("b").await;
    assert_eq!((&answer["result"]["text"], told.len()), (&json!(text), 0));
    // No limit of 16, which OpenAI's API has for texts.
    let script =
        json!({ "model": "demo", "prompt": "Once", "ignore_eos": true, "temperature": 0, "max_tokens": 20 });
    client.call("c", "generate", &script).await;
    assert_eq!(client.result("c").await["usage"]["completion_tokens"], 20);
}

#[tokio::test]
async fn thoughts_and_calls_of_tools_are_told_apart() {
    let deltas = vec![
        vec![Delta::Thinking("so".to_owned())],
        vec![
            Delta::Call { index: 0, id: "call_0".to_owned(), name: "clock".to_owned() },
            Delta::Arguments { index: 0, text: "{}".to_owned() },
        ],
    ];
    let fixture = Fixture::on(FakeEngine::builder().script(Script { deltas, ..Script::default() })).await;
    let mut client = Client::new(&fixture).await;
    let tools = json!([{ "type": "function", "function": { "name": "clock" } }]);
    let params = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "Hi" }], "tools": tools,
                         "temperature": 0 });
    client.call(1, "generate", &params).await;
    let (answer, told) = client.answer(1).await;
    let result = &answer["result"];
    assert_eq!((&result["thinking"], &result["finish"]), (&json!("so"), &json!("tool_calls")));
    let function = json!({ "name": "clock", "arguments": "{}" });
    assert_eq!(result["tool_calls"], json!([{ "id": "call_0", "type": "function", "function": function }]));
    let told: Vec<&Value> =
        told.iter().filter(|told| told["method"] == "generate.delta").map(|told| &told["params"]).collect();
    let expected = [
        json!({ "id": 1, "thinking": "so" }),
        json!({ "id": 1, "tool_call": { "index": 0, "id": "call_0", "name": "clock" } }),
        json!({ "id": 1, "tool_arguments": { "index": 0, "text": "{}" } }),
    ];
    assert_eq!(told, expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn wrong_parameters_of_generate_are_named() {
    let fixture = Fixture::new().await;
    let mut client = Client::new(&fixture).await;
    let mut id = 0;
    for (more, param) in [
        (json!({ "temperature": 9 }), Some("temperature")),
        (json!({ "n": 2 }), Some("n")),
        (json!({ "messages": "Hi" }), Some("messages")),
        (json!({ "prompt": "Hi" }), None),
        (json!({ "json_schema": {} }), Some("json_schema")),
        (json!({ "model": null }), Some("model")),
    ] {
        let mut params = generate(4);
        params.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        id += 1;
        client.call(id, "generate", &params).await;
        let (answer, _) = client.answer(id).await;
        assert_eq!(answer["error"]["code"], -32602, "{more}: {answer}");
        assert_eq!(answer["error"]["data"]["param"].as_str(), param, "{more}: {answer}");
    }
    client.call("by position", "generate", &json!(["demo"])).await;
    assert_eq!(client.code("by position").await, -32602);
    for prompt in [json!(["a", "b"]), json!([]), json!(7)] {
        client.call("prompt", "generate", &json!({ "model": "demo", "prompt": prompt })).await;
        assert_eq!(client.code("prompt").await, -32602, "{prompt}");
    }
}

#[tokio::test]
async fn inputs_become_vectors() {
    let embedders = Embedders::new().await;
    let mut client = Client::new(&embedders).await;
    let params = json!({ "model": "embedder", "input": ["a fox", "an owl"] });
    client.call(1, "embed", &params).await;
    let result = client.result(1).await;
    let vectors = result["embeddings"].as_array().expect("vectors");
    assert_eq!(vectors.len(), 2);
    assert!(vectors.iter().all(|vector| vector.as_array().map(Vec::len) == Some(WIDTH as usize)), "{result}");
    assert!(result["usage"]["prompt_tokens"].as_u64() > Some(0), "{result}");
    let openai = post(&embedders, "/v1/embeddings", &params).await.json();
    assert_eq!(vectors[1], openai["data"][1]["embedding"]);
    client.call(2, "embed", &json!({ "model": "embedder", "input": "a ".repeat(1_000) })).await;
    assert_eq!(client.code(2).await, -32001);
}

#[tokio::test]
async fn a_cancelled_request_ends_and_says_so() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    fixture.engine.tokens_gate().admit(2);
    let mut client = Client::new(&fixture).await;
    client.call("long", "generate", &generate(200)).await;
    while client.next().await.expect("a delta")["method"] != "generate.delta" {}
    client.call("stop", "cancel", &json!({ "id": "long" })).await;
    let answers = [client.answered().await, client.answered().await];
    let of = |id: &str| answers.iter().find(|answer| answer["id"] == id).expect("an answer");
    assert_eq!(of("stop")["result"], json!({ "cancelled": true }));
    assert_eq!(of("long")["error"]["code"], -32009);
    fixture.engine.wait_until(|counts| counts.generations_running == 0).await;
    fixture.handle_quiet().await;
    client.call("again", "cancel", &json!(["long"])).await;
    assert_eq!(client.result("again").await, json!({ "cancelled": false }));
    client.call("wrong", "cancel", &json!([[]])).await;
    assert_eq!(client.code("wrong").await, -32602);
}

#[tokio::test]
async fn requests_are_answered_in_the_order_in_which_they_end() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut client = Client::new(&fixture).await;
    client.call("long", "generate", &generate(4)).await;
    client.call("short", "pool_status", &Value::Null).await;
    assert_eq!(client.answered().await["id"], "short");
    fixture.engine.tokens_gate().open();
    assert_eq!(client.answered().await["id"], "long");
}

#[tokio::test]
async fn an_id_in_use_is_refused_without_an_answer_of_that_id() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut client = Client::new(&fixture).await;
    for id in [json!("x"), json!(1), json!(1.5), json!(null)] {
        client.call(id.clone(), "generate", &generate(4)).await;
        client.call(id.clone(), "pool_status", &Value::Null).await;
        let refused = client.answered().await;
        assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(-32600), &Value::Null), "{id}");
        client.call("cancel", "cancel", &json!({ "id": id })).await;
        let answers = [client.answered().await, client.answered().await];
        let cancelled = answers.iter().find(|answer| answer["id"] == id).expect("an answer");
        assert_eq!(cancelled["error"]["code"], -32009, "{id}");
        // It may be used again.
        client.call(id.clone(), "pool_status", &Value::Null).await;
        let (answer, _) = client.answer(id).await;
        assert!(answer["result"].is_object(), "{answer}");
    }
}

#[tokio::test]
async fn a_batch_of_everything_is_answered_once_and_told_apart() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut client = Client::new(&fixture).await;
    let batch = json!([
        call("long", "generate", &generate(100)),
        call("status", "pool_status", &Value::Null),
        { "jsonrpc": "2.0", "method": "pool_status" },
        7,
        call("none", "no_such_method", &Value::Null),
        call("stop", "cancel", &json!({ "id": "long" })),
    ]);
    client.send(&batch).await;
    let answers = loop {
        let message = client.next().await.expect("an answer");
        if message.is_array() {
            break message;
        }
        assert_eq!(message["method"], "generate.progress", "{message}");
    };
    let ids: Vec<&Value> = answers.as_array().expect("answers").iter().map(|answer| &answer["id"]).collect();
    let expected = [json!("long"), json!("status"), Value::Null, json!("none"), json!("stop")];
    assert_eq!(ids, expected.iter().collect::<Vec<_>>());
    let codes = [&answers[0], &answers[2], &answers[3]].map(|answer| answer["error"]["code"].clone());
    assert_eq!(codes, [json!(-32009), json!(-32600), json!(-32601)]);
    assert_eq!(answers[4]["result"]["cancelled"], true);
}

#[tokio::test]
async fn the_end_of_a_connection_ends_its_requests() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut client = Client::new(&fixture).await;
    for id in 0..4 {
        client.call(id, "generate", &generate(100)).await;
    }
    fixture.engine.wait_until(|counts| counts.generations_running > 0).await;
    drop(client);
    fixture.engine.wait_until(|counts| counts.generations_running == 0).await;
    fixture.handle_quiet().await;
    fixture.queued(0).await;
}

#[tokio::test]
async fn who_has_no_more_to_say_is_answered_first() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut client = Client::new(&fixture).await;
    // The last line needs no end.
    client.write(call(1, "generate", &generate(3)).to_string()).await;
    client.writer.shutdown().await.expect("shuts");
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    fixture.engine.tokens_gate().open();
    assert_eq!(client.result(1).await["usage"]["completion_tokens"], 3);
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn what_no_program_would_send_is_an_error_and_the_next_line_is_served() {
    let limits = Limits { body_bytes: 64 << 10, ..Limits::default() };
    let fixture = Fixture::with(FakeEngine::builder(), |config| config.limits = limits).await;
    let mut client = Client::new(&fixture).await;
    let long = format!("{{\"jsonrpc\":\"2.0\",\"x\":\"{}\"}}", "x".repeat(100 << 10));
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let many = format!("[{}1]", "1,".repeat(BATCH_CALLS as usize));
    let named =
        |id: &str| format!("{{\"jsonrpc\":\"2.0\",\"method\":\"pool_status\",\"id\":{id}}}").into_bytes();
    let cases: Vec<(Vec<u8>, i64)> = vec![
        (long.into_bytes(), -32600),
        (deep.into_bytes(), -32700),
        (many.into_bytes(), -32600),
        (b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}".to_vec(), -32700),
        (b"{\"jsonrpc\":\"2.0\"".to_vec(), -32700),
        (b"[".to_vec(), -32700),
        (b"{}".to_vec(), -32600),
        (b"{\"jsonrpc\":\"1.0\",\"method\":\"pool_status\"}".to_vec(), -32600),
        (b"{\"jsonrpc\":\"2.0\",\"method\":\"pool_status\",\"params\":7}".to_vec(), -32600),
        (b"{\"jsonrpc\":\"2.0\",\"result\":7}".to_vec(), -32600),
        (b"\"pool_status\"".to_vec(), -32600),
        (b"null".to_vec(), -32600),
        (named("true"), -32600),
        (named("{}"), -32600),
        (named(&format!("\"{}\"", "x".repeat(1_000))), -32600),
    ];
    for (line, code) in cases {
        client.write(&line).await;
        client.write("\r\n\n \n").await;
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        let answer = client.next().await.expect("an answer");
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &Value::Null), "{shown}");
        assert!(answer["error"]["data"]["hint"].is_string(), "{shown}: {answer}");
        client.call(1, "pool_status", &Value::Null).await;
        assert!(client.result(1).await.is_object(), "{shown}");
    }
}

#[tokio::test]
async fn calls_beyond_the_bound_are_refused_and_can_be_cancelled() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut client = Client::new(&fixture).await;
    for id in 0..=CALLS {
        client.call(id, "generate", &generate(4)).await;
    }
    assert_eq!(client.code(CALLS).await, -32007);
    client.call("stop", "cancel", &json!({ "id": 0 })).await;
    assert_eq!(client.result("stop").await["cancelled"], true);
    fixture.engine.tokens_gate().open();
}

#[tokio::test]
async fn messages_with_a_header_are_answered_with_one() {
    let fixture = Fixture::new().await;
    let mut stream = unix(&fixture.socket).await;
    let framed = |message: &Value| {
        let message = message.to_string();
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{message}", message.len())
    };
    let discover = call(1, "rpc.discover", &Value::Null);
    let both = framed(&discover) + "content-length: 3\r\n\r\n{} " + "\r\n" + "Content-Length: x\r\n\r\n";
    stream.write_all(both.as_bytes()).await.expect("writes");
    // A header that cannot be read ends the connection.
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("reads");
    let mut messages: Vec<Value> = Vec::new();
    let mut rest = said.as_str();
    while let Some(after) = rest.strip_prefix("Content-Length: ") {
        let (length, after) = after.split_once("\r\n\r\n").expect("a header");
        let (message, after) = after.split_at(length.parse().expect("a number"));
        messages.push(serde_json::from_str(message).expect("JSON"));
        rest = after;
    }
    assert_eq!(rest, "");
    let code = |code: i64| messages.iter().any(|message| message["error"]["code"] == code);
    assert!(code(-32600) && code(-32700), "{messages:?}");
    let document = messages.iter().find(|message| message["id"] == 1).expect("a document");
    assert!(document["result"]["methods"].is_array());
}

#[tokio::test]
async fn post_answers_one_message() {
    let fixture = Fixture::new().await;
    let ask = async |body: &Value| owner(&fixture, "POST", "/rpc", body).await;
    let answer = ask(&call(1, "generate", &generate(3))).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.json()["result"]["usage"]["completion_tokens"], 3);
    let batch = json!([call(1, "pool_status", &Value::Null), call(2, "none", &Value::Null)]);
    assert_eq!(ask(&batch).await.json()[1]["error"]["code"], -32601);
    let notification = ask(&json!({ "jsonrpc": "2.0", "method": "pool_status" })).await;
    assert_eq!((notification.status, notification.body.as_str()), (204, ""));
    let text = request(
        "POST",
        "/rpc",
        &[("accept", "application/x-ndjson")],
        &call(1, "generate", &generate(3)).to_string(),
    );
    let lines = exchange(unix(&fixture.socket).await, text).await.lines();
    let deltas = lines.iter().filter(|line| line["method"] == "generate.delta").count();
    assert!(deltas > 0 && lines.last().is_some_and(|last| last["id"] == 1), "{lines:?}");
    let broken = exchange(unix(&fixture.socket).await, request("POST", "/rpc", &[], "{\"jsonrpc\"")).await;
    assert_eq!((broken.status, broken.json()["error"]["code"].as_i64()), (200, Some(-32700)));
    let deep = exchange(unix(&fixture.socket).await, request("POST", "/rpc", &[], &"[".repeat(100))).await;
    assert_eq!((deep.status, deep.json()["error"]["code"].as_i64()), (400, Some(-32700)));
    let typed = request("POST", "/rpc", &[("content-type", "text/plain")], "{}");
    let typed = exchange(unix(&fixture.socket).await, typed).await;
    assert_eq!((typed.status, typed.json()["jsonrpc"].as_str()), (415, Some("2.0")));
    assert_eq!(post(&fixture, "/rpc", &call(1, "pool_status", &Value::Null)).await.status, 404);
}

#[tokio::test]
async fn a_server_that_leaves_answers_what_runs_and_closes() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let (mut busy, mut idle) = (Client::new(&fixture).await, Client::new(&fixture).await);
    busy.call("long", "generate", &generate(3)).await;
    idle.call(1, "pool_status", &Value::Null).await;
    idle.result(1).await;
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    fixture.handle.shut_down(None);
    assert_eq!(idle.next().await, None);
    busy.call("late", "pool_status", &Value::Null).await;
    assert_eq!(busy.code("late").await, -32010);
    fixture.engine.tokens_gate().open();
    assert_eq!(busy.result("long").await["usage"]["completion_tokens"], 3);
    assert_eq!(busy.next().await, None);
}
