//! The owner's stream of events: a snapshot, what changes after it, and where it goes on.

use std::time::Duration;

use samovar_core::testing::fake::FakeEngine;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::fixture::{Fixture, SLOTS, eventually};
use crate::raw::{get, owner, parse, post, request, tcp, unix};

/// A listener, and what it has read.
struct Listener {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Listener {
    async fn begin(fixture: &Fixture, last_event_id: Option<&str>) -> Self {
        let mut stream = unix(&fixture.socket).await;
        let headers: Vec<(&str, &str)> = last_event_id.map(|id| ("last-event-id", id)).into_iter().collect();
        let text = request("GET", "/admin/events", &headers, "");
        stream.write_all(text.as_bytes()).await.expect("writes");
        Self { stream, bytes: Vec::new() }
    }

    /// Reads until this was told.
    async fn until(&mut self, text: &str) {
        let Self { stream, bytes } = self;
        let reading = async {
            while !String::from_utf8_lossy(bytes).contains(text) {
                assert_ne!(stream.read_buf(bytes).await.expect("reads"), 0, "it ended before: {text}");
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), reading).await.is_ok(), "not told: {text}");
    }

    /// The id of the last event that was read.
    fn last_id(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().expect("an id").to_owned()
    }

    /// All events, once the server has ended the stream: id, name, data.
    async fn ended(mut self) -> Vec<(String, String, Value)> {
        self.stream.read_to_end(&mut self.bytes).await.expect("reads");
        let answer = parse(&self.bytes);
        assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
        let events = answer.body.split_terminator("\n\n").filter(|event| !event.starts_with(':'));
        let event = |event: &str| {
            let field =
                |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let data = serde_json::from_str(field("data: ")).expect("JSON");
            (field("id: ").to_owned(), field("event: ").to_owned(), data)
        };
        events.map(event).collect()
    }
}

/// What a dashboard shows after all events.
fn shown(events: &[(String, String, Value)]) -> Value {
    let mut shown = Value::Null;
    for (_, name, data) in events {
        match name.as_str() {
            "snapshot" => shown = data.clone(),
            "delta" => take_in(&mut shown, data),
            "leaving" => {}
            other => panic!("{other}"),
        }
    }
    shown
}

fn take_in(shown: &mut Value, delta: &Value) {
    const ROWS: [&str; 3] = ["models", "requests", "downloads"];
    for (section, set) in delta["set"].as_object().expect("an object") {
        if ROWS.contains(&section.as_str()) {
            let rows = shown[section].as_object_mut().expect("rows");
            rows.extend(set.as_object().expect("rows").clone());
        } else {
            shown[section] = set.clone();
        }
    }
    for (section, keys) in delta["gone"].as_object().expect("an object") {
        for key in keys.as_array().expect("keys") {
            shown[section].as_object_mut().expect("rows").remove(key.as_str().expect("a key"));
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_followed_by_what_changes_until_the_server_leaves() {
    let fixture = Fixture::new().await;
    let mut listener = Listener::begin(&fixture, None).await;
    listener.until("event: snapshot").await;
    assert_eq!(owner(&fixture, "POST", "/admin/warm", &json!({ "model": "demo" })).await.status, 200);
    listener.until("\"state\":\"ready\"").await;
    fixture.handle.shut_down(Some(Duration::ZERO));
    let events = listener.ended().await;
    assert_eq!(events.first().map(|event| event.1.as_str()), Some("snapshot"));
    assert_eq!(events.last().map(|event| event.1.as_str()), Some("leaving"));
    let numbers: Vec<u64> = events
        .iter()
        .filter_map(|(id, ..)| id.split_once('-').map(|(_, number)| number.parse().expect("a number")))
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let shown = shown(&events);
    assert_eq!(shown["daemon"]["pid"], std::process::id());
    assert!(shown["pool"]["budget_bytes"].is_u64() && shown["disk"]["used_bytes"].is_u64(), "{shown}");
    let models: Vec<&Value> = shown["models"].as_object().expect("rows").values().collect();
    assert_eq!((models.len(), &models[0]["name"]), (1, &json!("demo")));
    assert!(models[0]["idle_since_unix_ms"].is_u64() && models[0].get("idle_ms").is_none(), "{}", models[0]);
    let decisions: Vec<&Value> =
        events.iter().filter_map(|event| event.2["decisions"].as_array()).flatten().collect();
    let words: Vec<&str> = decisions.iter().filter_map(|decision| decision["what"].as_str()).collect();
    assert!(words.contains(&"loading") && words.contains(&"loaded"), "{words:?}");
    assert!(decisions.iter().all(|decision| decision["at_unix_ms"].is_u64() && decision["text"].is_string()));
}

#[tokio::test]
async fn requests_are_told_with_their_place_and_their_tokens() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut listener = Listener::begin(&fixture, None).await;
    listener.until("event: snapshot").await;
    let body = json!({ "model": "demo", "prompt": "x", "max_tokens": 9, "ignore_eos": true });
    let mut clients = Vec::new();
    for _ in 0..=SLOTS {
        let mut stream = tcp(&fixture).await;
        let text = request("POST", "/v1/completions", &[], &body.to_string());
        stream.write_all(text.as_bytes()).await.expect("writes");
        clients.push(stream);
    }
    fixture.queued(1).await;
    listener.until("\"phase\":\"queued\",\"position\":1").await;
    fixture.engine.tokens_gate().admit(1);
    listener.until("\"completion_tokens\":1").await;
    listener.until("\"first_token_ms\":").await;
    fixture.engine.tokens_gate().open();
    listener.until("\"gone\":{\"requests\":[").await;
    fixture.handle_quiet().await;
    drop(clients);
    fixture.handle.shut_down(Some(Duration::ZERO));
    let events = listener.ended().await;
    assert!(events.iter().any(|event| event.2.to_string().contains("\"client\":\"127.0.0.1\"")));
    assert!(shown(&events)["daemon"]["first_token_ms_p50"].is_u64());
}

#[tokio::test]
async fn a_listener_that_comes_back_goes_on_after_its_last_event() {
    let fixture = Fixture::new().await;
    let mut first = Listener::begin(&fixture, None).await;
    first.until("\"decisions\":").await;
    let last = first.last_id();
    drop(first);
    assert_eq!(owner(&fixture, "POST", "/admin/warm", &json!({ "model": "demo" })).await.status, 200);
    let mut second = Listener::begin(&fixture, Some(&last)).await;
    second.until("\"state\":\"ready\"").await;
    let mut stranger = Listener::begin(&fixture, Some("1-1")).await;
    stranger.until("event: snapshot").await;
    fixture.handle.shut_down(Some(Duration::ZERO));
    let events = second.ended().await;
    assert!(events.iter().all(|event| event.1 != "snapshot"), "{events:?}");
    assert!(events.iter().any(|event| event.2.to_string().contains("\"demo\"")), "{events:?}");
}

#[tokio::test]
async fn a_listener_neither_counts_as_a_request_nor_keeps_the_server() {
    let fixture = Fixture::new().await;
    let mut listener = Listener::begin(&fixture, None).await;
    listener.until("event: snapshot").await;
    assert_eq!(fixture.handle.in_flight(), 0);
    assert_eq!(get(&fixture, "/admin/events").await.status, 404);
    let answer =
        post(&fixture, "/v1/completions", &json!({ "model": "demo", "prompt": "x", "max_tokens": 1 })).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    fixture.handle.shut_down(None);
    eventually("the server has gone", async || fixture.task.is_finished()).await;
    assert_eq!(listener.ended().await.last().map(|event| event.1.clone()).as_deref(), Some("leaving"));
}
