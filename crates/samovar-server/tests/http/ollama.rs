//! Ollama's API as its clients use it: answers and vectors.

use samovar_core::generation::Delta;
use samovar_core::testing::fake::{FakeEngine, Script};
use serde_json::{Value, json};

use crate::embedders::{Embedders, WIDTH, vector};
use crate::fixture::Fixture;
use crate::raw::{Answer, exchange, get, post, request, tcp};

pub(crate) const CHAT: &str = "/api/chat";
pub(crate) const GENERATE: &str = "/api/generate";
/// What the last object tells in numbers.
const COUNTS: [&str; 6] = [
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
];

pub(crate) fn with(mut body: Value, more: &Value) -> Value {
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

fn chat(more: &Value) -> Value {
    let body = json!({
        "model": "tiny", "messages": [{ "role": "user", "content": "Hello there" }],
        "options": { "temperature": 0, "num_predict": 6 },
    });
    with(body, more)
}

fn generate(more: &Value) -> Value {
    let options = json!({ "temperature": 0, "num_predict": 6 });
    with(json!({ "model": "tiny", "prompt": "Once upon a time", "options": options }), more)
}

/// The only object of an answer in one piece.
pub(crate) async fn whole(fixture: &Fixture, path: &str, body: &Value) -> Value {
    let answer = post(fixture, path, body).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// The error of an answer that is nothing else.
pub(crate) fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.body);
    answer.error().as_str().expect("a text").to_owned()
}

/// The lines of a stream and its last one, which alone is done.
async fn streamed(fixture: &Fixture, path: &str, body: &Value) -> (Vec<Value>, Value) {
    let answer = post(fixture, path, body).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    let mut lines = answer.lines();
    let last = lines.pop().expect("a line");
    for line in &lines {
        assert_eq!((&line["model"], &line["done"]), (&body["model"], &json!(false)), "{line}");
        assert!(line["created_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert!(line.get("done_reason").is_none() && line.get("eval_count").is_none(), "{line}");
    }
    assert_eq!(last["done"], true, "{last}");
    assert!(COUNTS.iter().all(|count| last[count].is_u64()), "{last}");
    (lines, last)
}

#[tokio::test]
async fn a_client_finds_that_the_server_is_there() {
    let fixture = Fixture::new().await;
    let answer = get(&fixture, "/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "Ollama is running"));
    let head = exchange(tcp(&fixture).await, request("HEAD", "/", &[], "")).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let answer = get(&fixture, "/api/version").await;
    let version = answer.json()["version"].as_str().expect("a text").to_owned();
    assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{version}");
    assert_eq!(answer.header("x-samovar-version"), Some(env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_chat_is_streamed_by_default_and_says_the_same_whole() {
    let fixture = Fixture::new().await;
    let (lines, last) = streamed(&fixture, CHAT, &chat(&json!({}))).await;
    let mut said = String::new();
    for line in lines.iter().chain([&last]) {
        assert_eq!(line["message"]["role"], "assistant", "{line}");
        said.push_str(line["message"]["content"].as_str().expect("a text"));
    }
    assert!(!said.is_empty() && last["message"]["content"] == "");
    assert_eq!((&last["done_reason"], &last["eval_count"]), (&json!("length"), &json!(6)));
    let whole = whole(&fixture, CHAT, &chat(&json!({ "stream": false }))).await;
    assert_eq!(whole["message"], json!({ "role": "assistant", "content": said }));
    assert_eq!((&whole["done"], &whole["done_reason"]), (&json!(true), &json!("length")));
    assert!(COUNTS.iter().all(|count| whole[count].is_u64()), "{whole}");
    assert_eq!(whole["prompt_eval_count"], last["prompt_eval_count"]);
}

/// A line with what differs from run to run replaced.
fn steady(line: &str) -> String {
    let mut line: Value = serde_json::from_str(line).expect("an object");
    assert!(line["created_at"].is_string(), "{line}");
    line["created_at"] = "TIME".into();
    if let Some(context) = line.get_mut("context") {
        assert!(context.as_array().is_some_and(|numbers| numbers.iter().all(Value::is_u64)), "{context}");
        *context = "NUMBERS".into();
    }
    for count in COUNTS.into_iter().filter(|count| *count != "eval_count") {
        if let Some(value) = line.get_mut(count) {
            assert!(value.is_u64(), "{count}: {value}");
            *value = "N".into();
        }
    }
    line.to_string()
}

#[tokio::test]
async fn every_line_is_as_clients_know_it() {
    let text = |text: &str| vec![Delta::Text(text.to_owned())];
    let deltas = vec![vec![Delta::Thinking("so".to_owned())], text("Hi"), text(" there")];
    let fixture = Fixture::on(FakeEngine::builder().script(Script { deltas, ..Script::default() })).await;
    let end = r#""total_duration":"N","load_duration":"N","prompt_eval_count":"N","prompt_eval_duration":"N","eval_count":3,"eval_duration":"N"}"#;
    let begin = r#"{"model":"tiny","created_at":"TIME","#;
    let done = r#""done":true,"done_reason":"stop","#;
    let chats_end = format!(r#""message":{{"role":"assistant","content":""}},{done}{end}"#);
    let texts_end = format!(r#""response":"",{done}"context":"NUMBERS",{end}"#);
    let chats = [
        r#""message":{"role":"assistant","content":"","thinking":"so"},"done":false}"#,
        r#""message":{"role":"assistant","content":"Hi"},"done":false}"#,
        r#""message":{"role":"assistant","content":" there"},"done":false}"#,
        chats_end.as_str(),
    ];
    let texts = [
        r#""response":"","thinking":"so","done":false}"#,
        r#""response":"Hi","done":false}"#,
        r#""response":" there","done":false}"#,
        texts_end.as_str(),
    ];
    for (path, body, expected) in [(CHAT, chat(&json!({})), &chats), (GENERATE, generate(&json!({})), &texts)]
    {
        let answer = post(&fixture, path, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
        let lines: Vec<String> = answer.body.lines().map(steady).collect();
        assert_eq!(lines, expected.map(|line| format!("{begin}{line}")));
    }
}

#[tokio::test]
async fn a_prompt_is_answered_as_a_chat_of_one_message_and_raw_as_it_is() {
    let fixture = Fixture::new().await;
    let (lines, last) = streamed(&fixture, GENERATE, &generate(&json!({}))).await;
    let said: String = lines.iter().map(|line| line["response"].as_str().expect("a text")).collect();
    assert_eq!((&last["response"], &last["eval_count"]), (&json!(""), &json!(6)));
    assert!(last["context"].is_array(), "{last}");
    let once = whole(&fixture, GENERATE, &generate(&json!({ "stream": false }))).await;
    assert_eq!(once["response"], said);
    let messages = json!([{ "role": "user", "content": "Once upon a time" }]);
    let same = whole(&fixture, CHAT, &chat(&json!({ "stream": false, "messages": messages }))).await;
    assert_eq!(same["prompt_eval_count"], once["prompt_eval_count"]);
    let raw = whole(&fixture, GENERATE, &generate(&json!({ "stream": false, "raw": true }))).await;
    assert!(raw.get("context").is_none(), "{raw}");
    assert!(raw["prompt_eval_count"].as_u64() < once["prompt_eval_count"].as_u64(), "{raw}");
    let system = generate(&json!({ "stream": false, "system": "Be brief" }));
    let system = whole(&fixture, GENERATE, &system).await;
    assert!(system["prompt_eval_count"].as_u64() > once["prompt_eval_count"].as_u64(), "{system}");
}

#[tokio::test]
async fn thoughts_are_apart_and_calls_are_whole_with_objects() {
    let deltas = vec![
        vec![Delta::Thinking("so".to_owned())],
        vec![
            Delta::Call { index: 0, id: "call_0".to_owned(), name: "weather".to_owned() },
            Delta::Arguments { index: 0, text: "{\"city\":".to_owned() },
        ],
        vec![Delta::Arguments { index: 0, text: "\"Turku\"}".to_owned() }],
        vec![
            Delta::Call { index: 1, id: "call_1".to_owned(), name: "clock".to_owned() },
            Delta::Arguments { index: 1, text: "{}".to_owned() },
        ],
    ];
    let script = Script { deltas, ..Script::default() };
    let fixture = Fixture::on(FakeEngine::builder().script(script)).await;
    let tools = json!([
        { "type": "function", "function": { "name": "weather", "description": "Tells it",
          "parameters": { "type": "object", "properties": { "city": { "type": "string" } } } } },
        { "type": "function", "function": { "name": "clock" } },
    ]);
    let calls = [
        json!({ "id": "call_0", "function": { "index": 0, "name": "weather", "arguments": { "city": "Turku" } } }),
        json!({ "id": "call_1", "function": { "index": 1, "name": "clock", "arguments": {} } }),
    ];
    let body = chat(&json!({ "tools": tools, "options": { "num_predict": 12 } }));
    let (lines, last) = streamed(&fixture, CHAT, &body).await;
    let messages: Vec<&Value> = lines.iter().map(|line| &line["message"]).collect();
    let expected = [
        json!({ "role": "assistant", "content": "", "thinking": "so" }),
        json!({ "role": "assistant", "content": "", "tool_calls": [calls[0]] }),
        json!({ "role": "assistant", "content": "", "tool_calls": [calls[1]] }),
    ];
    assert_eq!(messages, expected.iter().collect::<Vec<_>>());
    assert_eq!(last["done_reason"], "stop");
    let whole = whole(&fixture, CHAT, &with(body.clone(), &json!({ "stream": false }))).await;
    let expected = json!({ "role": "assistant", "content": "", "thinking": "so", "tool_calls": calls });
    assert_eq!(whole["message"], expected);

    // The conversation goes on with the results, which name their tools.
    let messages = json!([
        { "role": "user", "content": "Rain?" },
        { "role": "assistant", "content": "", "tool_calls": [{ "function": calls[0]["function"] }] },
        { "role": "tool", "content": "Rain", "tool_name": "weather" },
    ]);
    let (lines, _) = streamed(&fixture, CHAT, &with(body, &json!({ "messages": messages }))).await;
    assert!(lines.iter().all(|line| line["message"].get("tool_calls").is_none()), "{lines:?}");
}

#[tokio::test]
async fn a_form_is_obeyed_and_thinking_is_for_models_that_can() {
    let fixture = Fixture::new().await;
    for format in [json!("json"), json!({ "type": "object" })] {
        let body = chat(&json!({ "stream": false, "format": format, "think": false }));
        assert_eq!(whole(&fixture, CHAT, &body).await["message"]["content"], "{}");
    }
    let error = refused(&post(&fixture, CHAT, &chat(&json!({ "think": "high" }))).await, 400);
    assert!(error.contains("\"tiny\" does not support thinking"), "{error}");
}

#[tokio::test]
async fn an_answer_repeats_the_name_that_was_asked_for() {
    let fixture = Fixture::new().await;
    let answer = whole(&fixture, CHAT, &chat(&json!({ "model": "tiny:latest", "stream": false }))).await;
    assert_eq!(answer["model"], "tiny:latest");
    let error = refused(&post(&fixture, CHAT, &chat(&json!({ "model": "tiny:other" }))).await, 404);
    assert!(error.contains("not found") && error.contains("tiny:other"), "{error}");
}

#[tokio::test]
async fn probabilities_are_told_line_by_line_and_whole() {
    let fixture = Fixture::new().await;
    let body = generate(&json!({ "logprobs": true, "top_logprobs": 2 }));
    let (lines, _) = streamed(&fixture, GENERATE, &body).await;
    let streamed: Vec<&Value> =
        lines.iter().filter_map(|line| line["logprobs"].as_array()).flatten().collect();
    assert!(!streamed.is_empty(), "{lines:?}");
    for one in &streamed {
        assert!(one["token"].is_string() && one["logprob"].is_number(), "{one}");
        assert_eq!(one["top_logprobs"].as_array().map(Vec::len), Some(2), "{one}");
    }
    let whole = whole(&fixture, GENERATE, &with(body, &json!({ "stream": false }))).await;
    assert_eq!(whole["logprobs"], json!(streamed));
    let none = generate(&json!({ "stream": false }));
    let none = post(&fixture, GENERATE, &none).await.json();
    assert!(none.get("logprobs").is_none(), "{none}");
}

#[tokio::test]
async fn errors_are_texts_with_a_status_before_the_first_token_and_a_line_after_it() {
    let fixture = Fixture::new().await;
    for (path, body, part) in [
        (CHAT, json!({}), "model is required"),
        (CHAT, json!({ "model": "" }), "model is required"),
        (CHAT, json!({ "model": 3 }), "`model` cannot be used"),
        (CHAT, chat(&json!({ "messages": "hi" })), "`messages` cannot be used"),
        (CHAT, chat(&json!({ "messages": [{ "role": "user", "content": 3 }] })), "messages[0].content"),
        (CHAT, chat(&json!({ "messages": [{ "role": "x", "content": "" }] })), "invalid role"),
        (CHAT, chat(&json!({ "stream": "no" })), "`stream` cannot be used"),
        (CHAT, chat(&json!({ "options": { "temperature": "hot" } })), "options.temperature"),
        (CHAT, chat(&json!({ "options": { "num_ctx": 1e300 } })), "num_ctx"),
        (CHAT, chat(&json!({ "format": "xml" })), "invalid format"),
        (CHAT, chat(&json!({ "think": 3 })), "invalid think value"),
        (CHAT, chat(&json!({ "keep_alive": "soon" })), "`keep_alive` cannot be used"),
        (CHAT, chat(&json!({ "tools": [{ "type": "function" }] })), "tools[0]"),
        (CHAT, chat(&json!({ "tools": [{ "function": { "name": "a b" } }] })), "name of a tool"),
        (GENERATE, generate(&json!({ "images": ["aGk="] })), "images are not supported"),
        (GENERATE, generate(&json!({ "suffix": "}" })), "does not support insert"),
        (GENERATE, generate(&json!({ "context": [1] })), "is not a list that this server wrote"),
        (GENERATE, generate(&json!({ "context": ["1"] })), "`context[0]` cannot be used"),
        (GENERATE, generate(&json!({ "context": [1], "raw": true })), "raw mode"),
        (GENERATE, json!([]), "must be a JSON object"),
        ("/api/show", json!({}), "model is required"),
        ("/api/embed", json!({ "model": "tiny", "input": [3] }), "`input` cannot be used"),
    ] {
        let error = refused(&post(&fixture, path, &body).await, 400);
        assert!(error.contains(part) && error.len() < 1_000, "{body}: {error}");
    }
    for (path, status) in [("/api/nothing", 404), ("/api/tags", 405)] {
        let error = refused(&post(&fixture, path, &json!({})).await, status);
        assert!(error.contains(path), "{error}");
    }
    assert_eq!(fixture.engine.counts().loads_started, 0);
    let script = Script { crash_after_tokens: Some(3), ..Script::default() };
    let fixture = Fixture::on(FakeEngine::builder().script(script)).await;
    let answer = post(&fixture, CHAT, &chat(&json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut lines = answer.lines();
    let error = lines.pop().expect("a line");
    assert!(error["error"].is_string() && error.as_object().is_some_and(|error| error.len() == 1), "{error}");
    assert!(!lines.is_empty() && lines.iter().all(|line| line["done"] == false), "{lines:?}");
}

#[tokio::test]
async fn vectors_are_normalised_by_the_newer_route_alone() {
    let server = Embedders::new().await;
    let body = json!({ "model": "embedder:latest", "input": ["the fox", "owl"], "dimensions": 8 });
    let answer = whole(&server, "/api/embed", &body).await;
    assert_eq!(answer["model"], "embedder:latest");
    assert!(answer["total_duration"].is_u64() && answer["load_duration"].is_u64(), "{answer}");
    assert!(answer["prompt_eval_count"].as_u64().is_some_and(|count| count > 0), "{answer}");
    let vectors: Vec<Vec<f32>> =
        answer["embeddings"].as_array().expect("vectors").iter().map(vector).collect();
    assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8]);
    let length = |vector: &[f32]| vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!(vectors.iter().all(|vector| (length(vector) - 1.0).abs() < 1e-4), "{vectors:?}");
    let one = whole(&server, "/api/embed", &json!({ "model": "embedder", "input": "the fox" })).await;
    let one = vector(&one["embeddings"][0]);
    let old = whole(&server, "/api/embeddings", &json!({ "model": "embedder", "prompt": "the fox" })).await;
    let old = vector(&old["embedding"]);
    assert_eq!(old.len(), WIDTH as usize);
    let scale = length(&old);
    assert!((scale - 1.0).abs() > 1e-3, "{scale}");
    assert!(one.iter().zip(&old).all(|(one, old)| (one * scale - old).abs() < 1e-3));
    for nothing in [json!({ "input": "" }), json!({ "input": [] }), json!({})] {
        let answer = whole(&server, "/api/embed", &with(json!({ "model": "embedder" }), &nothing)).await;
        assert_eq!(answer["embeddings"], json!([]), "{answer}");
    }
    let chat = with(chat(&json!({})), &json!({ "model": "embedder" }));
    let error = refused(&post(&server, CHAT, &chat).await, 400);
    assert!(error.contains("\"embedder\" does not support chat"), "{error}");
    let long = json!({ "model": "embedder", "input": "owl ".repeat(200), "truncate": false });
    refused(&post(&server, "/api/embed", &long).await, 400);
    whole(&server, "/api/embed", &with(long, &json!({ "truncate": true }))).await;
}
