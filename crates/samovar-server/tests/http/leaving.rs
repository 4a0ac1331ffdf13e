//! Clients that go, and a server that goes.

use std::time::Duration;

use samovar_core::testing::fake::{FakeEngine, Script};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fixture, SLOTS, eventually};
use crate::raw::{get, owner, post, read, request, tcp, unix};

const CHAT: &str = "/v1/chat/completions";

fn body(more: &Value) -> Value {
    // An end by chance would be mistaken for one by order.
    let mut body = json!({ "model": "demo", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 9,
                           "temperature": 0, "ignore_eos": true });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

/// A request that was sent, and whose answer has not been read yet.
async fn begun(fixture: &Fixture, more: &Value) -> TcpStream {
    let mut stream = tcp(fixture).await;
    let text = request("POST", CHAT, &[], &body(more).to_string());
    stream.write_all(text.as_bytes()).await.expect("writes");
    stream
}

async fn is_free(fixture: &Fixture) {
    let gone =
        fixture.engine.wait_until(|counts| counts.generations_running == 0 && counts.generations_queued == 0);
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the slots become free");
}

#[tokio::test]
async fn a_client_that_goes_while_decoding_frees_its_slot() {
    for stream in [true, false] {
        let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
        let mut client = begun(&fixture, &json!({ "stream": stream })).await;
        fixture.engine.tokens_gate().admit(2);
        fixture.engine.wait_until(|counts| counts.tokens == 2).await;
        if stream {
            let mut head = [0; 15];
            client.read_exact(&mut head).await.expect("a head");
            assert_eq!(&head, b"HTTP/1.1 200 OK");
        }
        drop(client);
        is_free(&fixture).await;
        let counts = fixture.engine.wait_until(|counts| counts.generations_cancelled == 1).await;
        assert_eq!(counts.generations_finished, 0, "stream: {stream}");
    }
}

#[tokio::test]
async fn a_client_that_resets_the_connection_frees_its_slot() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let client = begun(&fixture, &json!({ "stream": false })).await;
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    client.set_zero_linger().expect("lingers not");
    drop(client);
    is_free(&fixture).await;
}

#[tokio::test]
async fn a_client_that_goes_in_prefill_frees_its_slot() {
    for stream in [true, false] {
        let script = Script { prefill_time_per_token: Duration::from_secs(1), ..Script::default() };
        let fixture = Fixture::on(FakeEngine::builder().script(script)).await;
        let client = begun(&fixture, &json!({ "stream": stream })).await;
        fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
        drop(client);
        is_free(&fixture).await;
        assert_eq!(fixture.engine.counts().tokens, 0);
    }
}

#[tokio::test]
async fn a_client_that_goes_while_queued_leaves_the_queue() {
    for stream in [true, false] {
        let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
        let busy = begun(&fixture, &json!({ "n": SLOTS })).await;
        fixture.engine.wait_until(|counts| counts.generations_running == u64::from(SLOTS)).await;
        let waiting = begun(&fixture, &json!({ "stream": stream })).await;
        fixture.queued(1).await;
        drop(waiting);
        fixture.queued(0).await;
        fixture.engine.tokens_gate().open();
        assert_eq!(read(busy).await.status, 200, "the others are not disturbed");
        assert_eq!(fixture.engine.counts().generations_started, u64::from(SLOTS));
    }
}

#[tokio::test]
async fn a_client_that_goes_while_loading_does_not_stop_the_load() {
    let fixture = Fixture::on(FakeEngine::builder().gate_loads()).await;
    let client = begun(&fixture, &json!({})).await;
    fixture.engine.wait_until(|counts| counts.loads_started == 1).await;
    drop(client);
    fixture.handle_quiet().await;
    fixture.engine.loads_gate().open();
    let counts = fixture.engine.wait_until(|counts| counts.loads_finished == 1).await;
    assert_eq!((counts.loads_cancelled, counts.generations_started), (0, 0));
}

#[tokio::test]
async fn one_client_that_goes_disturbs_no_other() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let goes = begun(&fixture, &json!({ "stream": true })).await;
    let stays = begun(&fixture, &json!({ "stream": true })).await;
    fixture.engine.wait_until(|counts| counts.generations_running == 2).await;
    drop(goes);
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    fixture.engine.tokens_gate().open();
    let events = read(stays).await.events();
    assert_eq!(events.last().expect("an end")["samovar"]["timed_out"], false);
}

#[tokio::test]
async fn the_owners_client_frees_its_slot_as_well() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut client = unix(&fixture.socket).await;
    let ask = json!({ "model": "demo", "input": { "text": "Hi" }, "ignore_eos": true }).to_string();
    client.write_all(request("POST", "/admin/generate", &[], &ask).as_bytes()).await.expect("writes");
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    assert_eq!(fixture.handle.in_flight(), 1);
    drop(client);
    is_free(&fixture).await;
    fixture.handle_quiet().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_given_up() {
    let fixture = Fixture::with(FakeEngine::builder(), |config| {
        config.limits.write_stall = Duration::from_millis(200);
    })
    .await;
    let mut client = tcp(&fixture).await;
    // Enough answer to fill the buffers of the kernel and of the server.
    let ask = body(&json!({ "stream": true, "n": 8, "logprobs": true, "top_logprobs": 20, "max_tokens": 400,
                            "ignore_eos": true }));
    for _ in 0..8 {
        let text = request("POST", CHAT, &[], &ask.to_string()).replace("connection: close\r\n", "");
        client.write_all(text.as_bytes()).await.expect("writes");
    }
    fixture.engine.wait_until(|counts| counts.generations_started > 0).await;
    eventually("the connection is closed", async || connections(&fixture).await == 1).await;
    is_free(&fixture).await;
    drop(client);
}

/// Open connections, this question's own counted.
async fn connections(fixture: &Fixture) -> u64 {
    let text = owner(fixture, "GET", "/metrics", &Value::Null).await.body;
    let line = text.lines().find(|line| line.starts_with("samovar_http_connections ")).expect("the gauge");
    line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number")
}

#[tokio::test]
async fn a_server_that_leaves_lets_requests_end() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let streamed = begun(&fixture, &json!({ "stream": true })).await;
    let whole = begun(&fixture, &json!({})).await;
    fixture.engine.wait_until(|counts| counts.generations_running == 2).await;
    let told = owner(&fixture, "POST", "/admin/shutdown", &Value::Null).await;
    assert_eq!(told.status, 200, "{}", told.body);
    assert_eq!(told.json()["requests_in_flight"], 2);
    assert_eq!(told.json()["pid"], std::process::id());
    let is_closed = async || TcpStream::connect(fixture.address).await.is_err();
    eventually("the server accepts no connection", is_closed).await;
    assert!(fixture.handle.is_draining());
    fixture.engine.tokens_gate().open();
    let events = read(streamed).await.events();
    assert_eq!(events.last().expect("an end")["samovar"]["timed_out"], false);
    let whole = read(whole).await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.json()["samovar"]["timed_out"], false);
    fixture.task.await.expect("ends");
    assert!(!fixture.socket.exists());
    assert_eq!(fixture.engine.counts().live_instances, 0);
}

#[tokio::test]
async fn a_server_that_cannot_wait_gives_out_what_there_is() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let streamed = begun(&fixture, &json!({ "stream": true })).await;
    let whole = begun(&fixture, &json!({})).await;
    fixture.engine.wait_until(|counts| counts.generations_running == 2).await;
    let waiting = begun(&fixture, &json!({})).await;
    fixture.queued(1).await;
    fixture.engine.tokens_gate().admit(4);
    fixture.engine.wait_until(|counts| counts.tokens == 4).await;
    let grace = json!({ "grace_ms": 100 });
    assert_eq!(owner(&fixture, "POST", "/admin/shutdown", &grace).await.status, 200);
    let last = read(streamed).await.events().pop().expect("an end");
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert_eq!(last["samovar"]["timed_out"], true);
    let whole = read(whole).await.json();
    assert_eq!(whole["samovar"]["timed_out"], true);
    let waiting = read(waiting).await;
    assert_eq!(waiting.status, 503, "{}", waiting.body);
    assert!(waiting.header("retry-after").is_some());
    fixture.task.await.expect("ends");
}

#[tokio::test]
async fn a_server_that_cannot_wait_says_so_to_a_client_that_watches_a_load() {
    let fixture = Fixture::on(FakeEngine::builder().gate_loads()).await;
    let mut watcher = unix(&fixture.socket).await;
    let order = json!({ "model": "demo" }).to_string();
    watcher.write_all(request("POST", "/admin/warm", &[], &order).as_bytes()).await.expect("writes");
    fixture.engine.wait_until(|counts| counts.loads_started == 1).await;
    fixture.handle.shut_down(Some(Duration::ZERO));
    let last = read(watcher).await.lines().pop().expect("a line");
    assert_eq!(last["failed"]["kind"], "unavailable", "{last}");
    fixture.engine.loads_gate().open();
    fixture.task.await.expect("ends");
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let fixture = Fixture::new().await;
    let mut idle = tcp(&fixture).await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("writes");
    idle.read_u8().await.expect("an answer");
    let _silent = tcp(&fixture).await;
    assert_eq!(post(&fixture, CHAT, &body(&json!({}))).await.status, 200);
    fixture.handle.shut_down(None);
    tokio::time::timeout(Duration::from_secs(30), fixture.task).await.expect("in time").expect("ends");
}

#[tokio::test]
async fn readiness_is_told_apart_from_life() {
    let fixture = Fixture::new().await;
    assert_eq!(get(&fixture, "/healthz").await.json(), json!({ "status": "ok" }));
    assert_eq!(get(&fixture, "/readyz").await.json(), json!({ "status": "ready" }));
    // A request whose head is under way when the end begins is still answered.
    let mut late = tcp(&fixture).await;
    late.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n").await.expect("writes");
    let busy = fixture.busy().await;
    fixture.handle.shut_down(None);
    eventually("the server leaves", async || fixture.handle.is_draining()).await;
    late.write_all(b"connection: close\r\n\r\n").await.expect("writes");
    let answer = read(late).await;
    assert_eq!((answer.status, answer.json()), (503, json!({ "status": "draining" })));
    drop(busy);
}
