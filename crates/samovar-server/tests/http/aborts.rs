//! Clients that go at every moment, politely and not, and those that take their time.

use std::time::Duration;

use samovar_core::testing::fake::{FakeEngine, Script};
use samovar_server::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::Fixture;
use crate::raw::{get, owner, post, request, tcp};

const CHAT: &str = "/v1/chat/completions";

fn body(stream: bool) -> Value {
    json!({ "model": "demo", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 200,
            "ignore_eos": true, "stream": stream })
}

/// How far a client goes before it leaves.
#[derive(Clone, Copy, Debug)]
enum Until {
    Connected,
    HalfHead,
    Head,
    HalfBody,
    Sent,
    FirstByte,
}

async fn go(fixture: &Fixture, until: Until, stream: bool) -> TcpStream {
    let text = request("POST", CHAT, &[], &body(stream).to_string());
    let head = text.find("\r\n\r\n").expect("a head") + 4;
    let sent = match until {
        Until::Connected => 0,
        Until::HalfHead => 30,
        Until::Head => head,
        Until::HalfBody => text.len() - 10,
        Until::Sent | Until::FirstByte => text.len(),
    };
    let mut client = tcp(fixture).await;
    client.write_all(&text.as_bytes()[..sent]).await.expect("writes");
    if matches!(until, Until::FirstByte) {
        // A refusal is an answer as well.
        client.read_u8().await.expect("an answer");
    }
    client
}

async fn is_free(fixture: &Fixture) {
    let gone =
        fixture.engine.wait_until(|counts| counts.generations_running == 0 && counts.generations_queued == 0);
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the slots become free");
    fixture.handle_quiet().await;
    fixture.queued(0).await;
}

#[tokio::test]
async fn twelve_hundred_clients_that_go_leave_nothing_behind() {
    let script = Script { time_per_token: Duration::from_micros(200), ..Script::default() };
    let fixture = Fixture::on(FakeEngine::builder().script(script)).await;
    assert_eq!(post(&fixture, CHAT, &body(false)).await.status, 200);
    let moments =
        [Until::Connected, Until::HalfHead, Until::Head, Until::HalfBody, Until::Sent, Until::FirstByte];
    for until in moments {
        for stream in [true, false] {
            for resets in [true, false] {
                for _ in 0..10 {
                    let mut crowd = Vec::new();
                    for _ in 0..5 {
                        // The answer that is whole comes at its end.
                        crowd.push(go(&fixture, until, stream || matches!(until, Until::FirstByte)).await);
                    }
                    for client in crowd {
                        if resets {
                            client.set_zero_linger().expect("lingers not");
                        }
                        drop(client);
                    }
                }
            }
        }
        is_free(&fixture).await;
        assert_eq!(get(&fixture, "/healthz").await.status, 200, "{until:?}");
    }
    assert_eq!(post(&fixture, CHAT, &body(false)).await.status, 200);
    let metrics = owner(&fixture, "GET", "/metrics", &Value::Null).await.body;
    assert!(metrics.contains("samovar_server_buffer_bytes 0"), "{metrics}");
}

#[tokio::test]
async fn who_leaves_an_agents_stream_frees_its_slot() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let body = json!({ "model": "tiny", "temperature": 0, "max_tokens": 200, "stream": true, "input": "Hello there",
                       "messages": [{ "role": "user", "content": "Hello there" }] });
    for path in ["/v1/messages", "/v1/responses"] {
        fixture.engine.tokens_gate().admit(2);
        let mut client = tcp(&fixture).await;
        let text = request("POST", path, &[], &body.to_string());
        client.write_all(text.as_bytes()).await.expect("writes");
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains("delta") {
            assert_ne!(client.read_buf(&mut bytes).await.expect("reads"), 0, "{path}");
        }
        drop(client);
        is_free(&fixture).await;
    }
}

#[tokio::test]
async fn nine_hundred_slow_clients_shut_nobody_out() {
    let fixture = Fixture::with(FakeEngine::builder(), |config| {
        config.limits = Limits { connections: 64, ..Limits::default() };
    })
    .await;
    let mut slow = Vec::new();
    for number in 0..900 {
        let until = [Until::Connected, Until::HalfHead, Until::HalfBody][number % 3];
        // The first ones are closed for the last; their descriptors are not needed any more.
        slow.push(go(&fixture, until, true).await);
        if slow.len() > 128 {
            slow.remove(0);
        }
        if number % 30 == 0 {
            assert_eq!(post(&fixture, CHAT, &body(false)).await.status, 200, "after {number}");
        }
    }
    is_free(&fixture).await;
}
