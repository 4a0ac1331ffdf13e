//! The owner's API, spoken with the types that its client uses.

use samovar::AnswerEvent;
use samovar_core::Failure;
use samovar_core::testing::fake::FakeEngine;
use samovar_server::admin::wire::{
    DaemonStats, GenerateBody, GenerateEvent, ModelList, Unloaded, WaitEvent, WarmEvent, WhyAnswer,
};
use serde_json::{Value, json};

use crate::embedders::{Embedders, WIDTH};
use crate::fixture::{Fixture, eventually};
use crate::raw::{get, owner, post};

fn events<T: serde::de::DeserializeOwned>(lines: Vec<Value>) -> Vec<T> {
    lines.into_iter().map(|line| serde_json::from_value(line).expect("an event")).collect()
}

#[tokio::test]
async fn its_routes_do_not_exist_on_the_network() {
    let fixture = Fixture::new().await;
    for path in ["/admin/stats", "/admin/models", "/admin/why?model=demo"] {
        assert_eq!(get(&fixture, path).await.status, 404, "{path}");
    }
    for path in ["generate", "embed", "tokenize", "detokenize", "warm", "pin", "unload", "shutdown"] {
        let answer = post(&fixture, &format!("/admin/{path}"), &json!({ "model": "demo" })).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    assert!(!fixture.handle.is_draining());
}

#[tokio::test]
async fn generates_with_everything_that_happens_on_the_way() {
    let fixture = Fixture::new().await;
    let request = samovar::Request::text("demo", "Once upon a time").max_tokens(5);
    let request = request.sampling(samovar_core::Sampling::greedy());
    let body = serde_json::to_value(GenerateBody::try_from(request).expect("text")).expect("JSON");
    let answer = owner(&fixture, "POST", "/admin/generate", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let events: Vec<GenerateEvent> = events(answer.lines());
    let names: Vec<&str> = events
        .iter()
        .map(|event| match event {
            GenerateEvent::Waiting(_) => "waiting",
            GenerateEvent::Granted { model, .. } => {
                assert_eq!(model, "demo");
                "granted"
            }
            GenerateEvent::Prefilling { .. } => "prefilling",
            GenerateEvent::Prefilled { .. } => "prefilled",
            GenerateEvent::Text { .. } => "text",
            GenerateEvent::Thinking { .. } => "thinking",
            GenerateEvent::ToolCall { .. } => "tool call",
            GenerateEvent::ToolArguments { .. } => "tool arguments",
            GenerateEvent::Embedded(_) => "embedded",
            GenerateEvent::Done(summary) => {
                assert_eq!(summary.usage.completion_tokens, 5);
                "done"
            }
            GenerateEvent::Failed(failure) => panic!("{failure}"),
        })
        .collect();
    let after_waiting = names.iter().position(|name| *name != "waiting").expect("an event");
    assert_eq!(names[after_waiting..after_waiting + 3], ["granted", "prefilled", "text"]);
    assert_eq!(names.last(), Some(&"done"));
}

#[tokio::test]
async fn vectors_and_scores_are_an_event_of_each_input() {
    let embedders = Embedders::new().await;
    let ask = async |body: Value| -> Vec<GenerateEvent> {
        let answer = owner(&embedders, "POST", "/admin/embed", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        events(answer.lines())
    };
    let values = |events: &[GenerateEvent]| {
        let of = |event: &GenerateEvent| match event {
            GenerateEvent::Embedded(embedded) => Some((embedded.index, embedded.values.len())),
            _ => None,
        };
        let mut all: Vec<(u32, usize)> = events.iter().filter_map(of).collect();
        all.sort_unstable();
        all
    };
    let told = ask(json!({ "model": "embedder", "input": { "texts": ["a fox", "an owl"] } })).await;
    assert_eq!(values(&told), [(0, WIDTH as usize), (1, WIDTH as usize)]);
    assert!(matches!(told.last(), Some(GenerateEvent::Done(_))), "{told:?}");
    let cut = json!({ "model": "embedder", "input": { "tokens": [[5, 6]] }, "dimensions": 3 });
    assert_eq!(values(&ask(cut).await), [(0, 3)]);
    let pairs = json!({ "query": "a fox", "documents": ["an owl", "a fox"] });
    assert_eq!(
        values(&ask(json!({ "model": "reranker", "input": { "rerank": pairs } })).await),
        [(0, 1), (1, 1)]
    );
    let long = "a ".repeat(1_000);
    let told = ask(json!({ "model": "embedder", "input": { "texts": ["a fox", long] } })).await;
    let Some(GenerateEvent::Failed(failure)) = told.last() else { panic!("{told:?}") };
    assert_eq!(failure.kind, samovar_core::ErrorKind::ContextExceeded);
    let wrong = json!({ "model": "embedder", "input": { "texts": ["a"] }, "dimension": 3 });
    assert_eq!(owner(&embedders, "POST", "/admin/embed", &wrong).await.status, 400);
}

#[tokio::test]
async fn token_ids_are_read_and_written() {
    let fixture = Fixture::new().await;
    let body = json!({ "model": "demo", "texts": ["a fox", ""], "add_special": false });
    let answer = owner(&fixture, "POST", "/admin/tokenize", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let tokens = answer.json()["tokens"].clone();
    assert_eq!(tokens.as_array().map(Vec::len), Some(2), "{tokens}");
    let body = json!({ "model": "demo", "tokens": tokens });
    let texts = owner(&fixture, "POST", "/admin/detokenize", &body).await.json();
    assert_eq!(texts["texts"], json!(["a fox", ""]));
}

#[tokio::test]
async fn a_failure_is_the_last_event_and_may_name_files() {
    let fixture = Fixture::new().await;
    let missing = fixture.home.path().join("missing.gguf");
    let body = json!({ "model": missing, "input": { "text": "x" } });
    let events: Vec<GenerateEvent> = events(owner(&fixture, "POST", "/admin/generate", &body).await.lines());
    let Some(GenerateEvent::Failed(failure)) = events.last() else { panic!("{events:?}") };
    assert_eq!(failure.kind, samovar_core::ErrorKind::NotFound);
    assert!(failure.message.contains(missing.to_str().expect("UTF-8")), "{failure}");
    assert!(failure.hint.is_some());
}

#[tokio::test]
async fn wrong_bodies_are_failures_with_a_status() {
    let fixture = Fixture::new().await;
    let table = [
        ("/admin/generate", json!({ "model": "demo" }), None),
        ("/admin/generate", json!({ "model": "demo", "input": { "text": "x" }, "temprature": 1 }), None),
        (
            "/admin/generate",
            json!({ "model": "demo", "input": { "text": "x" }, "sampling": { "temperature": 9 } }),
            Some("temperature"),
        ),
        ("/admin/unload", json!({}), Some("model")),
        ("/admin/unload", json!({ "model": "demo", "all": true }), Some("model")),
        ("/admin/pin", json!({ "model": "demo", "pinned": 3 }), Some("pinned")),
    ];
    for (path, body, param) in table {
        let answer = owner(&fixture, "POST", path, &body).await;
        assert_eq!(answer.status, 400, "{path} {body}: {}", answer.body);
        let failure: Failure = serde_json::from_str(&answer.body).expect("a failure");
        assert_eq!(failure.kind, samovar_core::ErrorKind::InvalidRequest);
        if let Some(param) = param {
            assert_eq!(failure.param.as_deref(), Some(param), "{path} {body}");
        }
    }
    let unknown = owner(&fixture, "POST", "/admin/pin", &json!({ "model": "nobody", "pinned": true })).await;
    assert_eq!(unknown.status, 404, "{}", unknown.body);
}

#[tokio::test]
async fn warms_with_progress_pins_unloads_and_explains() {
    let fixture = Fixture::on(FakeEngine::builder().gate_loads()).await;
    fixture.engine.loads_gate().open();
    let warm = owner(&fixture, "POST", "/admin/warm", &json!({ "model": "demo", "pin": true })).await;
    let events: Vec<WarmEvent> = events(warm.lines());
    assert!(matches!(events.last(), Some(WarmEvent::Done { took_ms }) if *took_ms > 0.0), "{events:?}");
    let (waits, _) = events.split_at(events.len() - 1);
    assert!(waits.iter().all(|event| matches!(event, WarmEvent::Waiting(_))), "{events:?}");

    let stats = owner(&fixture, "GET", "/admin/stats", &Value::Null).await.json();
    assert_eq!(stats["pool"]["loads"], 1);
    assert_eq!(stats["models"][0]["name"], "demo");
    assert_eq!(stats["models"][0]["is_pinned"], true);
    assert_eq!(stats["pid"], std::process::id());
    assert_eq!(stats["listen"], fixture.address.to_string());
    for field in [
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
        assert!(stats["pool"][field].is_u64(), "{field}: {}", stats["pool"]);
    }
    let typed: DaemonStats = serde_json::from_value(stats).expect("reads back");
    assert_eq!(typed.socket.as_deref(), Some(fixture.socket.as_path()));

    let pin = json!({ "model": "demo", "pinned": false });
    assert_eq!(owner(&fixture, "POST", "/admin/pin", &pin).await.status, 200);
    let unloaded = owner(&fixture, "POST", "/admin/unload", &json!({ "model": "demo" })).await;
    let unloaded: Unloaded = serde_json::from_str(&unloaded.body).expect("an answer");
    assert_eq!(unloaded.instances, 1);
    // The pool hears of the end a moment after the engine has brought it about.
    let is_absent = async || {
        owner(&fixture, "GET", "/admin/stats", &Value::Null).await.json()["models"][0]["state"] == "absent"
    };
    eventually("the model is absent", is_absent).await;
    assert_eq!(fixture.engine.counts().live_instances, 0);
    let none = owner(&fixture, "POST", "/admin/unload", &json!({ "all": true })).await;
    assert_eq!(none.json()["instances"], 0);

    let why = owner(&fixture, "GET", "/admin/why?model=demo", &Value::Null).await;
    let why: WhyAnswer = serde_json::from_str(&why.body).expect("an answer");
    assert!(why.decisions.iter().any(|decision| decision.what.contains("load")), "{why:?}");
    assert!(why.decisions.iter().all(|decision| !decision.text.is_empty()));
    assert_eq!(owner(&fixture, "GET", "/admin/why", &Value::Null).await.status, 400);
}

#[tokio::test]
async fn a_load_goes_on_when_nobody_watches_any_more() {
    let fixture = Fixture::on(FakeEngine::builder().gate_loads()).await;
    let mut watcher = crate::raw::unix(&fixture.socket).await;
    let order = crate::raw::request("POST", "/admin/warm", &[], &json!({ "model": "demo" }).to_string());
    tokio::io::AsyncWriteExt::write_all(&mut watcher, order.as_bytes()).await.expect("writes");
    fixture.engine.wait_until(|counts| counts.loads_started == 1).await;
    drop(watcher);
    fixture.engine.loads_gate().open();
    let counts = fixture.engine.wait_until(|counts| counts.loads_finished == 1).await;
    assert_eq!(counts.loads_cancelled, 0);
}

#[tokio::test]
async fn lists_models_with_their_paths() {
    let fixture = Fixture::new().await;
    let list = owner(&fixture, "GET", "/admin/models", &Value::Null).await;
    let list: ModelList = serde_json::from_str(&list.body).expect("a list");
    assert_eq!(list.models[0].name, "demo");
    assert!(list.models[0].path.is_file());
}

#[test]
fn requests_survive_the_wire() {
    let plain = samovar::Request::chat("demo", [samovar::Message::user("Rain?")]);
    let body = serde_json::to_value(GenerateBody::try_from(plain.clone()).expect("text")).expect("JSON");
    let fields: Vec<&String> = body.as_object().expect("object").keys().collect();
    assert_eq!(fields, ["model", "input", "sampling", "ignore_eos"], "what is not said does not travel");
    let weather =
        samovar::Tool::new("weather").description("Tells it").parameters(json!({ "type": "object" }));
    let requests = [
        plain.clone(),
        plain.clone().tools([weather.strict(), samovar::Tool::new("clock")]).one_tool_call(),
        plain.clone().tool_choice(samovar::ToolChoice::Named("clock".to_owned())),
        plain.clone().tool_choice(samovar::ToolChoice::None).schema(json!({ "type": "object" })),
        plain.clone().json().thinking_budget(7),
        plain.regex("a+").thinking(samovar::Effort::Low),
    ];
    for request in requests {
        let body = GenerateBody::try_from(request.clone()).expect("text");
        let line = serde_json::to_string(&body).expect("JSON");
        let back: GenerateBody = serde_json::from_str(&line).expect("reads");
        assert_eq!(back.into_request(samovar::Origin::Owner), request, "{line}");
    }
}

#[test]
fn events_survive_the_wire() {
    let events = [
        AnswerEvent::Waiting(samovar::Wait::Queued { position: 2, estimate_ms: Some(40) }),
        AnswerEvent::Waiting(samovar::Wait::Loading { fraction: 0.5, instance: 1, of: 2 }),
        AnswerEvent::Waiting(samovar::Wait::Resuming),
        AnswerEvent::Text { text: "é\n".into(), logprob: None },
        AnswerEvent::Thinking { text: "so\n".into() },
        AnswerEvent::ToolCall { index: 1, id: "call_1".into(), name: "f".into() },
        AnswerEvent::ToolArguments { index: 1, text: "{\"a\":\n".into() },
        AnswerEvent::Embedded(samovar::Embedded {
            index: 3,
            tokens: 7,
            was_cut: true,
            values: vec![0.1, -1.5e-8, f32::MIN_POSITIVE],
        }),
        AnswerEvent::Failed(Failure::new(samovar_core::ErrorKind::Busy, "full").with_retry_after_ms(5)),
    ];
    for event in events {
        let line = serde_json::to_string(&GenerateEvent::of(event.clone()).expect("travels")).expect("JSON");
        assert!(!line.contains('\n'), "{line}");
        let back: GenerateEvent = serde_json::from_str(&line).expect("reads");
        assert_eq!(AnswerEvent::from(back), event);
    }
    // A daemon of an older version says nothing of thoughts.
    let usage = json!({ "prompt_tokens": 7, "cached_tokens": 0, "completion_tokens": 0 });
    let older = serde_json::from_value(json!({ "prefilled": { "usage": usage } })).expect("reads");
    assert!(matches!(older, GenerateEvent::Prefilled { usage } if usage.thinking_tokens == 0), "{older:?}");
    let resuming = serde_json::to_value(GenerateEvent::Waiting(WaitEvent::Resuming)).expect("JSON");
    assert_eq!(resuming, json!({ "waiting": "resuming" }));
}
