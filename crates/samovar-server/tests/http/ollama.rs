//! Ollama's API as its clients use it.

use std::time::Duration;

use samovar::ModelSettings;
use samovar_core::generation::Delta;
use samovar_core::testing::fake::{FakeEngine, Script};
use samovar_server::ServeConfig;
use serde_json::{Value, json};

use crate::embedders::{Embedders, WIDTH, vector};
use crate::fixture::{Fixture, eventually};
use crate::raw::{Answer, exchange, get, owner, post, request, tcp};

const CHAT: &str = "/api/chat";
const GENERATE: &str = "/api/generate";
/// What the last object tells in numbers.
const COUNTS: [&str; 6] = [
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
];

fn with(mut body: Value, more: &Value) -> Value {
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
async fn whole(fixture: &Fixture, path: &str, body: &Value) -> Value {
    let answer = post(fixture, path, body).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// The error of an answer that is nothing else.
fn refused(answer: &Answer, status: u16) -> String {
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
async fn a_request_without_a_prompt_loads_the_model_and_answers_with_one_object() {
    let fixture = Fixture::new().await;
    let answer = whole(&fixture, GENERATE, &json!({ "model": "tiny" })).await;
    assert_eq!((&answer["response"], &answer["done"]), (&json!(""), &json!(true)));
    assert_eq!((&answer["done_reason"], &answer["model"]), (&json!("load"), &json!("tiny")));
    let answer = whole(&fixture, CHAT, &json!({ "model": "tiny", "messages": [] })).await;
    assert_eq!((&answer["message"]["content"], &answer["done_reason"]), (&json!(""), &json!("load")));
    let counts = fixture.engine.counts();
    assert_eq!((counts.loads_started, counts.generations_started), (1, 0));
}

#[tokio::test]
async fn the_owner_unloads_a_model_and_a_client_of_the_network_does_not() {
    let fixture = Fixture::new().await;
    whole(&fixture, GENERATE, &json!({ "model": "tiny" })).await;
    let unload = json!({ "model": "tiny", "keep_alive": 0 });
    assert_eq!(whole(&fixture, GENERATE, &unload).await["done_reason"], "unload");
    let loaded = get(&fixture, "/api/ps").await.json();
    assert_eq!(loaded["models"][0]["name"], "tiny:latest", "{loaded}");
    let answer = owner(&fixture, "POST", GENERATE, &unload).await;
    assert_eq!((answer.status, &answer.json()["done_reason"]), (200, &json!("unload")));
    eventually("the model is unloaded", async || fixture.engine.counts().live_instances == 0).await;
    assert_eq!(get(&fixture, "/api/ps").await.json(), json!({ "models": [] }));
    let absent = json!({ "model": "demo", "keep_alive": 0 });
    assert_eq!(whole(&fixture, GENERATE, &absent).await["done_reason"], "unload");
    assert_eq!(fixture.engine.counts().loads_started, 1, "nothing is loaded so as to leave");
}

#[tokio::test]
async fn a_floor_of_nothing_lets_no_stranger_unload_what_it_may_not_name() {
    let adjust = |config: &mut ServeConfig| config.limits.keep_alive_floor = Duration::ZERO;
    let fixture = Fixture::with(FakeEngine::builder(), adjust).await;
    whole(&fixture, GENERATE, &json!({ "model": "tiny" })).await;
    let path = fixture.home.path().join("tiny-model.gguf");
    for path in [path.display().to_string(), format!("{}.absent", path.display())] {
        let unload = json!({ "model": path, "keep_alive": 0 });
        let error = refused(&post(&fixture, GENERATE, &unload).await, 403);
        assert!(error.contains("may not name files"), "{error}");
    }
}

#[tokio::test]
async fn every_list_has_what_clients_read() {
    let fixture = Fixture::new().await;
    let tags = get(&fixture, "/api/tags").await.json();
    let tags = tags["models"].as_array().expect("models").clone();
    let names: Vec<&str> = tags.iter().filter_map(|row| row["name"].as_str()).collect();
    assert!(names.contains(&"tiny:latest") && names.contains(&"demo:latest"), "{names:?}");
    for row in &tags {
        assert_eq!(row["name"], row["model"]);
        let digest = row["digest"].as_str().expect("a digest");
        assert!(digest.len() == 64 && digest.chars().all(|digit| digit.is_ascii_hexdigit()), "{row}");
        assert!(row["size"].is_u64() && row["modified_at"].is_string(), "{row}");
        let details = row["details"].as_object().expect("details");
        assert!(details.values().all(|value| value.is_string() || value.is_array()), "{row}");
    }
    whole(&fixture, GENERATE, &json!({ "model": "tiny:latest", "keep_alive": "10m" })).await;
    let row = get(&fixture, "/api/ps").await.json()["models"][0].clone();
    assert_eq!((&row["context_length"], &row["size_vram"]), (&json!(512), &json!(0)), "{row}");
    assert!(row["expires_at"].is_string() && row["size"].is_u64(), "{row}");
    let digest = tags.iter().find(|tag| tag["name"] == "tiny:latest").expect("is there")["digest"].clone();
    assert_eq!(row["digest"], digest);
    for body in [json!({ "model": "tiny" }), json!({ "name": "tiny:latest", "verbose": true })] {
        let shown = post(&fixture, "/api/show", &body).await;
        let home = fixture.home.path().to_str().expect("UTF-8");
        assert!(!shown.body.contains(home), "{}", shown.body);
        let shown = shown.json();
        assert_eq!(shown["capabilities"], json!(["completion"]));
        assert_eq!(shown["model_info"]["general.architecture"], "llama");
        assert!(shown["model_info"]["llama.context_length"].is_u64(), "{shown}");
        assert!(shown["parameters"].as_str().is_some_and(|lines| lines.contains("num_ctx")), "{shown}");
        assert!(shown["template"].is_string() && shown["details"]["family"] == "llama", "{shown}");
    }
}

#[tokio::test]
async fn what_the_settings_say_of_a_name_is_shown_and_no_name_is_listed_twice() {
    let mut settings = ModelSettings::default().context_tokens(512).slots(1);
    settings.system = Some("Rhyme.".to_owned());
    settings.stop = vec!["zzz".to_owned()];
    settings.sampling.top_k = Some(7);
    settings.max_tokens = Some(5);
    let tune = |builder: samovar::Builder| {
        let demo = || "demo".parse().expect("a reference");
        builder.alias("poet", demo(), settings).alias("poet:latest", demo(), ModelSettings::default())
    };
    let fixture = Fixture::built(FakeEngine::builder(), tune, |_| ()).await;
    let shown = whole(&fixture, "/api/show", &json!({ "model": "poet" })).await;
    assert_eq!(shown["system"], "Rhyme.");
    let parameters = shown["parameters"].as_str().expect("a text");
    for part in ["top_k", "7", "stop", "\"zzz\"", "num_predict", "5"] {
        assert!(parameters.contains(part), "{parameters}");
    }
    let file = shown["modelfile"].as_str().expect("a text");
    assert!(file.contains("SYSTEM \"\"\"Rhyme.\"\"\"\n"), "{file}");
    let tags = get(&fixture, "/api/tags").await.json();
    let rows = tags["models"].as_array().expect("models").iter();
    assert_eq!(rows.filter(|row| row["name"] == "poet:latest").count(), 1, "{tags}");
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
async fn a_larger_context_grows_the_model_and_one_that_fits_does_nothing() {
    let settings = ModelSettings::default().context_tokens(64).slots(1);
    let tune = |builder: samovar::Builder| {
        builder.alias("small", "demo".parse().expect("a reference"), settings).context_ceiling(4_096)
    };
    let fixture = Fixture::built(FakeEngine::builder(), tune, |_| ()).await;
    let ask = |tokens: u32| {
        let options = json!({ "num_predict": 1, "num_ctx": tokens });
        json!({ "model": "small", "prompt": "Hi", "raw": true, "stream": false, "options": options })
    };
    for tokens in [32, 64] {
        whole(&fixture, GENERATE, &ask(tokens)).await;
    }
    assert_eq!(fixture.engine.counts().resumes, 0);
    whole(&fixture, GENERATE, &ask(256)).await;
    let counts = fixture.engine.counts();
    assert_eq!((counts.loads_started, counts.resumes), (1, 1), "it grew, its weights staying in memory");
    // The model was trained with 512.
    whole(&fixture, GENERATE, &ask(100_000)).await;
}

#[tokio::test]
async fn a_larger_context_than_the_owner_allows_is_served_with_what_is_allowed() {
    let settings = ModelSettings::default().context_tokens(64).slots(1);
    let tune = |builder: samovar::Builder| {
        builder.alias("small", "demo".parse().expect("a reference"), settings).context_ceiling(256)
    };
    let fixture = Fixture::built(FakeEngine::builder(), tune, |_| ()).await;
    let ask = |more: Value| {
        let body = json!({ "model": "small", "prompt": "Hi", "raw": true, "stream": false,
                           "options": { "num_predict": 1, "num_ctx": 8_192 } });
        with(body, &more)
    };
    let pin = owner(&fixture, "POST", "/admin/pin", &json!({ "model": "small", "pinned": true })).await;
    assert_eq!(pin.status, 200, "{}", pin.body);
    whole(&fixture, GENERATE, &ask(json!({}))).await;
    let context = async || get(&fixture, "/api/ps").await.json()["models"][0]["context_length"].clone();
    assert_eq!(context().await, 64, "a pinned model grows for its owner alone");
    let unpin = owner(&fixture, "POST", "/admin/pin", &json!({ "model": "small", "pinned": false })).await;
    assert_eq!(unpin.status, 200, "{}", unpin.body);
    let leave = ask(json!({ "prompt": "", "keep_alive": 0 }));
    assert_eq!(whole(&fixture, GENERATE, &leave).await["done_reason"], "unload");
    assert_eq!(context().await, 64, "what leaves does not grow first");
    // A request that only loads it, and one that asks.
    for more in [json!({ "prompt": "" }), json!({})] {
        whole(&fixture, GENERATE, &ask(more)).await;
        assert_eq!(context().await, 256, "as far as the owner allows");
    }
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

#[tokio::test]
async fn the_owner_pulls_a_model_and_hears_how_far_it_is() {
    let fixture = Fixture::new().await;
    let path = fixture.home.path().join("tiny-model.gguf");
    let model = format!("file://{}", path.display());
    let refused = refused(&post(&fixture, "/api/pull", &json!({ "model": model })).await, 403);
    assert!(refused.contains("samovar pull"), "{refused}");
    let answer = owner(&fixture, "POST", "/api/pull", &json!({ "model": model })).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let lines = answer.lines();
    assert!(lines.iter().all(|line| line["status"].is_string()), "{lines:?}");
    assert_eq!(lines.last().expect("a line")["status"], "success");
    let again = owner(&fixture, "POST", "/api/pull", &json!({ "model": model, "stream": false })).await;
    assert_eq!((again.status, again.json()), (200, json!({ "status": "success" })));
    let absent = json!({ "model": format!("{model}.absent.gguf") });
    let lines = owner(&fixture, "POST", "/api/pull", &absent).await.lines();
    assert!(lines.last().expect("a line")["error"].is_string(), "{lines:?}");
    let wrong = owner(&fixture, "POST", "/api/pull", &json!({ "model": "a b" })).await;
    assert_eq!(wrong.status, 400, "{}", wrong.body);
}

#[tokio::test]
async fn nothing_that_comes_over_the_network_changes_the_models_of_the_machine() {
    let fixture = Fixture::new().await;
    for path in ["/api/create", "/api/copy", "/api/pull"] {
        let body = json!({ "model": "llama3.2:1b" });
        let error = refused(&post(&fixture, path, &body).await, 403);
        assert!(error.contains("the owner can"), "{error}");
    }
    refused(&post(&fixture, "/api/push", &json!({ "model": "tiny" })).await, 501);
    let delete =
        request("DELETE", "/api/delete", &[("content-type", "application/json")], r#"{"model":"tiny"}"#);
    let error = refused(&exchange(tcp(&fixture).await, delete).await, 403);
    assert!(error.contains("samovar rm"), "{error}");
    let here = whole(&fixture, "/api/pull", &json!({ "model": "tiny", "stream": false })).await;
    assert_eq!(here, json!({ "status": "success" }));
    let lines = post(&fixture, "/api/pull", &json!({ "name": "tiny:latest" })).await.lines();
    assert_eq!(lines.last().expect("a line")["status"], "success");
}
