//! Places and bytes: what one client takes, and what is left for the next.

use std::time::Duration;

use samovar_core::testing::fake::{FakeEngine, Script};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::fixture::{Fixture, SLOTS, eventually};
use crate::raw::{exchange, get, owner, post, read, request, tcp, unix};

const CHAT: &str = "/v1/chat/completions";
const MIB: usize = 1 << 20;

fn chat(more: &Value) -> Value {
    let mut body = json!({ "model": "demo", "messages": [{ "role": "user", "content": "Hi" }],
                           "max_tokens": 3, "temperature": 0, "ignore_eos": true });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

async fn metric(fixture: &Fixture, name: &str) -> f64 {
    let text = owner(fixture, "GET", "/metrics", &Value::Null).await.body;
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

async fn buffers_are_free(fixture: &Fixture) {
    let is_so = async || metric(fixture, "samovar_server_buffer_bytes").await <= 0.0;
    eventually("no bytes are buffered", is_so).await;
}

/// A request whose body has all but its last byte.
async fn half_sent(fixture: &Fixture, bytes: usize) -> TcpStream {
    let mut stream = tcp(fixture).await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("writes");
    stream.write_all(&vec![b'x'; bytes - 1]).await.expect("writes");
    stream
}

#[tokio::test]
async fn half_sent_bodies_share_one_budget_and_small_requests_are_served_beside_them() {
    let tune = |builder: samovar::Builder| builder.buffers(8 * MIB as u64);
    let fixture = Fixture::built(FakeEngine::builder(), tune, |_| ()).await;
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(half_sent(&fixture, MIB).await);
    }
    let refusals = async || metric(&fixture, "samovar_server_buffer_refusals_total").await;
    eventually("sixteen bodies are refused", async || refusals().await >= 16.0).await;
    let used = async || metric(&fixture, "samovar_server_buffer_bytes").await;
    eventually("four bodies fill the buffers", async || used().await > 3.0 * MIB as f64).await;
    let used = used().await;
    assert!(used <= 4.0 * MIB as f64, "one address has half: {used}");
    assert_eq!(post(&fixture, CHAT, &chat(&json!({}))).await.status, 200);
    let mut told = 0;
    for mut stream in flood {
        stream.write_all(b"x").await.expect("writes");
        let answer = read(stream).await;
        match answer.status {
            // It was read, and is no JSON.
            400 => {}
            503 => {
                assert_eq!(answer.error()["code"], "busy");
                assert!(answer.header("retry-after").is_some());
                told += 1;
            }
            status => panic!("{status}: {}", answer.body),
        }
    }
    assert!(told >= 16, "{told}");
    buffers_are_free(&fixture).await;
}

#[tokio::test]
async fn a_body_counts_until_its_request_is_answered() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let padded = chat(&json!({ "padding": "x".repeat(100_000) }));
    let mut client = tcp(&fixture).await;
    client.write_all(request("POST", CHAT, &[], &padded.to_string()).as_bytes()).await.expect("writes");
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    assert!(metric(&fixture, "samovar_server_buffer_bytes").await > 100_000.0);
    fixture.engine.tokens_gate().open();
    assert_eq!(read(client).await.status, 200);
    buffers_are_free(&fixture).await;
}

#[tokio::test]
async fn whole_answers_are_counted_while_they_grow() {
    let tune = |builder: samovar::Builder| builder.buffers(200_000);
    let fixture = Fixture::built(FakeEngine::builder(), tune, |_| ()).await;
    let large = chat(&json!({ "n": 8, "logprobs": true, "top_logprobs": 20, "max_tokens": 400 }));
    let answer = post(&fixture, CHAT, &large).await;
    assert_eq!((answer.status, answer.error()["code"].clone()), (503, json!("busy")));
    assert_eq!(post(&fixture, CHAT, &chat(&json!({}))).await.status, 200);
    buffers_are_free(&fixture).await;
}

#[tokio::test]
async fn a_whole_answer_counts_until_its_reader_has_it() {
    let fixture = Fixture::new().await;
    let large = json!({ "n": 8, "logprobs": true, "top_logprobs": 20, "max_tokens": 400 });
    let client = reads_nothing(&fixture, &large).await;
    fixture.engine.wait_until(|counts| counts.generations_finished == 8).await;
    fixture.handle_quiet().await;
    assert!(metric(&fixture, "samovar_server_buffer_bytes").await > 1e6);
    assert_eq!(read(client).await.status, 200);
    buffers_are_free(&fixture).await;
}

#[tokio::test]
async fn a_body_counts_once_for_each_answer_to_it() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let padded = chat(&json!({ "padding": "x".repeat(100_000), "n": 2 }));
    let mut client = tcp(&fixture).await;
    client.write_all(request("POST", CHAT, &[], &padded.to_string()).as_bytes()).await.expect("writes");
    fixture.engine.wait_until(|counts| counts.generations_running == 2).await;
    assert!(metric(&fixture, "samovar_server_buffer_bytes").await > 200_000.0);
    fixture.engine.tokens_gate().open();
    assert_eq!(read(client).await.status, 200);
    buffers_are_free(&fixture).await;
}

/// Sends a request that has to wait, with these headers; gives its client, and its place in the queue when it came.
async fn waits(fixture: &Fixture, headers: &[(&str, &str)], more: &Value) -> (TcpStream, usize) {
    let mut stream = streams(fixture, headers, more).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("text");
    let place = head.lines().find_map(|line| line.strip_prefix("x-queue-position: "));
    let place = match place {
        Some(place) => place.to_owned(),
        None => told_later(&mut stream).await,
    };
    (stream, place.parse().expect("a number"))
}

/// The place that a comment of the stream tells, where the head left before there was one.
async fn told_later(stream: &mut TcpStream) -> String {
    let mut line = String::new();
    loop {
        let byte = stream.read_u8().await.expect("a comment that tells the place");
        if byte != b'\n' {
            line.push(char::from(byte));
            continue;
        }
        if let Some(told) = line.strip_prefix(": waiting for a slot: place ") {
            return told.split(' ').next().unwrap_or(told).to_owned();
        }
        line.clear();
    }
}

#[tokio::test]
async fn one_with_a_key_of_its_own_waits_for_one_of_a_crowd_without() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut clients = Vec::new();
    for _ in 0..SLOTS {
        clients.push(streams(&fixture, &[], &json!({})).await);
    }
    fixture.engine.wait_until(|counts| counts.generations_running == u64::from(SLOTS)).await;
    for place in 1..=8 {
        let (client, told) = waits(&fixture, &[], &json!({})).await;
        assert_eq!(told, place, "they come one after the other");
        clients.push(client);
    }
    let (own, place) = waits(&fixture, &[("authorization", "Bearer sk-own")], &json!({})).await;
    assert!(place <= 2, "{place}");
    let (late, place) = waits(&fixture, &[], &json!({})).await;
    assert_eq!(place, 10, "one more of the crowd waits for all");
    clients.extend([own, late]);
    fixture.queued(10).await;
    fixture.engine.tokens_gate().open();
    for mut client in clients {
        let mut all = String::new();
        client.read_to_string(&mut all).await.expect("reads");
        assert!(all.contains("data: [DONE]"), "{all}");
    }
}

#[tokio::test]
async fn one_on_a_connection_of_its_own_waits_for_one_of_many_on_another() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let many = streams(&fixture, &[], &json!({ "n": 8 })).await;
    fixture.engine.wait_until(|counts| counts.generations_running == u64::from(SLOTS)).await;
    fixture.queued(8 - u64::from(SLOTS)).await;
    let (single, place) = waits(&fixture, &[], &json!({})).await;
    assert!(place <= 2, "{place}");
    fixture.engine.tokens_gate().open();
    for mut client in [many, single] {
        let mut all = String::new();
        client.read_to_string(&mut all).await.expect("reads");
        assert!(all.contains("data: [DONE]"), "{all}");
    }
}

/// A streamed request whose answer has not been read yet.
async fn streams(fixture: &Fixture, headers: &[(&str, &str)], more: &Value) -> TcpStream {
    let mut stream = tcp(fixture).await;
    let mut body = chat(more);
    body["stream"] = true.into();
    stream.write_all(request("POST", CHAT, headers, &body.to_string()).as_bytes()).await.expect("writes");
    stream
}

/// A client whose kernel takes next to nothing, and that reads nothing of what it asked for.
async fn reads_nothing(fixture: &Fixture, more: &Value) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(2_048).expect("a small buffer");
    let mut stream = socket.connect(fixture.address).await.expect("connects");
    let body = chat(more).to_string();
    stream.write_all(request("POST", CHAT, &[], &body).as_bytes()).await.expect("writes");
    stream
}

#[tokio::test]
async fn readers_that_stop_hold_no_slots() {
    let fixture = Fixture::new().await;
    let large = json!({ "stream": true, "n": 8, "logprobs": true, "top_logprobs": 20, "max_tokens": 400 });
    let mut stopped = Vec::new();
    for _ in 0..3 {
        stopped.push(reads_nothing(&fixture, &large).await);
    }
    let counts = fixture.engine.wait_until(|counts| counts.generations_finished == 24);
    tokio::time::timeout(Duration::from_secs(30), counts).await.expect("decoding waits for no reader");
    assert_eq!(post(&fixture, CHAT, &chat(&json!({}))).await.status, 200);
    assert!(fixture.handle.in_flight() >= 3, "the answers are still there to be read");
    let events = read(stopped.pop().expect("a client")).await.events();
    let ends = events.iter().filter(|event| event["choices"][0]["finish_reason"] == "length").count();
    assert_eq!(ends, 8, "who reads late reads all");
    drop(stopped);
    fixture.handle_quiet().await;
    buffers_are_free(&fixture).await;
}

#[tokio::test]
async fn connections_that_say_nothing_leave_when_others_come() {
    let fixture = Fixture::with(FakeEngine::builder(), |config| config.limits.connections = 8).await;
    let mut silent = Vec::new();
    for _ in 0..30 {
        silent.push(tcp(&fixture).await);
        let answer = get(&fixture, "/healthz").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert!(metric(&fixture, "samovar_http_connections_dismissed_total").await >= 22.0);
    let mut byte = [0];
    assert_eq!(silent[0].read(&mut byte).await.unwrap_or(0), 0, "the oldest was closed");
}

#[tokio::test]
async fn idle_connections_leave_for_others_and_busy_ones_stay() {
    let fixture =
        Fixture::with(FakeEngine::builder().gate_tokens(), |config| config.limits.connections = 2).await;
    let mut busy = tcp(&fixture).await;
    busy.write_all(request("POST", CHAT, &[], &chat(&json!({})).to_string()).as_bytes())
        .await
        .expect("writes");
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    for _ in 0..5 {
        let mut idle = tcp(&fixture).await;
        idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("writes");
        idle.read_u8().await.expect("an answer");
    }
    fixture.engine.tokens_gate().open();
    assert_eq!(read(busy).await.status, 200);
}

#[tokio::test]
async fn half_heads_and_half_bodies_leave_when_all_places_are_taken() {
    let fixture = Fixture::with(FakeEngine::builder(), |config| config.limits.connections = 4).await;
    let mut held = Vec::new();
    for number in 0..20 {
        if number % 2 == 0 {
            held.push(half_sent(&fixture, 1_000).await);
        } else {
            let mut stream = tcp(&fixture).await;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").await.expect("writes");
            held.push(stream);
        }
        assert_eq!(get(&fixture, "/healthz").await.status, 200, "after {number}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_promised_its_time() {
    let fixture = Fixture::new().await;
    let mut client = tcp(&fixture).await;
    let mut text = String::new();
    for _ in 0..2 {
        client.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("writes");
        while text.matches("\"ok\"").count() == 0 {
            let mut bytes = [0; 1_024];
            let read = client.read(&mut bytes).await.expect("reads");
            assert!(read > 0, "it was closed after {text}");
            text.push_str(std::str::from_utf8(&bytes[..read]).expect("text"));
        }
        assert!(text.to_lowercase().contains("keep-alive: timeout=75"), "{text}");
        text.clear();
    }
    let closing = get(&fixture, "/healthz").await;
    assert_eq!(closing.header("keep-alive"), None);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let fixture = Fixture::with(FakeEngine::builder(), |config| {
        config.limits.idle_timeout = Duration::from_millis(50);
    })
    .await;
    let mut client = tcp(&fixture).await;
    client.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("writes");
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.expect("is closed");
    assert!(all.starts_with(b"HTTP/1.1 200"), "{all:?}");
}

#[tokio::test]
async fn a_client_that_has_said_everything_is_answered() {
    let fixture = Fixture::new().await;
    for stream in [false, true] {
        let text = request("POST", CHAT, &[], &chat(&json!({ "stream": stream })).to_string());
        let mut network = tcp(&fixture).await;
        network.write_all(text.as_bytes()).await.expect("writes");
        network.shutdown().await.expect("shuts its half");
        assert_eq!(read(network).await.status, 200);
        let mut socket = unix(&fixture.socket).await;
        socket.write_all(text.as_bytes()).await.expect("writes");
        socket.shutdown().await.expect("shuts its half");
        assert_eq!(read(socket).await.status, 200);
    }
}

#[tokio::test]
async fn a_client_that_leaves_after_it_shut_its_half_frees_its_slot() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut client = tcp(&fixture).await;
    let text = request("POST", CHAT, &[], &chat(&json!({})).to_string());
    client.write_all(text.as_bytes()).await.expect("writes");
    client.shutdown().await.expect("shuts its half");
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    drop(client);
    let gone = fixture.engine.wait_until(|counts| counts.generations_running == 0);
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it is looked at");
}

#[tokio::test]
async fn no_client_of_the_network_has_a_model_parked_at_once() {
    let fixture = Fixture::new().await;
    assert_eq!(post(&fixture, CHAT, &chat(&json!({ "keep_alive": 0 }))).await.status, 200);
    let state = || async {
        owner(&fixture, "GET", "/admin/stats", &Value::Null).await.json()["models"][0]["state"].clone()
    };
    eventually("the model is ready", async || state().await == "ready").await;
    let order = json!({ "model": "demo", "input": { "text": "Hi" }, "max_tokens": 1, "keep_alive": 0 });
    assert_eq!(owner(&fixture, "POST", "/admin/generate", &order).await.status, 200);
    eventually("the model is parked", async || state().await == "parked").await;
    assert_eq!(fixture.engine.counts().parks, 1, "only the owner had it parked");
}

#[tokio::test]
async fn packed_bodies_are_refused_by_name() {
    let fixture = Fixture::new().await;
    let headers = [("content-encoding", "gzip")];
    let answer =
        exchange(tcp(&fixture).await, request("POST", CHAT, &headers, &chat(&json!({})).to_string())).await;
    assert_eq!((answer.status, answer.error()["code"].clone()), (415, json!("content_encoding")));
    let headers = [("content-encoding", "identity")];
    let answer =
        exchange(tcp(&fixture).await, request("POST", CHAT, &headers, &chat(&json!({})).to_string())).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn after_a_failed_load_others_are_told_when_to_come_back() {
    let failure = samovar_core::Failure::new(samovar_core::ErrorKind::EngineFailed, "it died");
    let script = Script { load_failure: Some(failure), ..Script::default() };
    let fixture = Fixture::on(FakeEngine::builder().script(script)).await;
    let first = post(&fixture, CHAT, &chat(&json!({}))).await;
    assert!(first.status >= 500, "{}", first.body);
    for _ in 0..10 {
        let next = post(&fixture, CHAT, &chat(&json!({}))).await;
        assert_eq!((next.status, next.error()["code"].clone()), (503, json!("unavailable")));
        assert!(next.header("retry-after").is_some());
        assert!(next.body.contains("it died"), "{}", next.body);
    }
}
