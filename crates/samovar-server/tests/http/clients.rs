//! Who asks, as the pool is told: by address, unless the owner trusts a header.

use samovar::PoolConfig;
use samovar_core::testing::FakeEngine;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fixture::{Fixture, SLOTS};
use crate::raw::{exchange, read, request, tcp};

const PATH: &str = "/v1/chat/completions";
const HEADER: &str = "X-OpenWebUI-User-Id";

fn asks(client: &str) -> String {
    let body = json!({ "model": "demo", "messages": [{ "role": "user", "content": "hi" }], "user": client });
    request("POST", PATH, &[(HEADER, client)], &body.to_string())
}

async fn begun(fixture: &Fixture, client: &str) -> TcpStream {
    let mut stream = tcp(fixture).await;
    stream.write_all(asks(client).as_bytes()).await.expect("writes");
    stream
}

/// One client has all slots and the queue of two; what another one hears, and the last of the first.
async fn beside_a_greedy_one(client_header: Option<&str>) -> (TcpStream, TcpStream) {
    let pool = PoolConfig { queue_per_model: 2, ..PoolConfig::default() };
    let header = client_header.map(str::to_owned);
    let engine = FakeEngine::builder().gate_tokens();
    let fixture = Fixture::pooled(engine, pool, |config| config.client_header = header).await;
    let mut crowd = Vec::new();
    for running in 1..=u64::from(SLOTS) {
        crowd.push(begun(&fixture, "greedy").await);
        fixture.engine.wait_until(|counts| counts.generations_running == running).await;
    }
    crowd.push(begun(&fixture, "greedy").await);
    fixture.queued(1).await;
    let last = begun(&fixture, "greedy").await;
    fixture.queued(2).await;
    let refused = exchange(tcp(&fixture).await, asks("greedy")).await;
    assert_eq!(refused.status, 503, "{}", refused.body);

    let modest = begun(&fixture, "modest").await;
    // The one of the two that is refused hears it now; the others wait for the gate.
    tokio::select! {
        _ = modest.readable() => {}
        _ = last.readable() => {}
    }
    fixture.engine.tokens_gate().open();
    for stream in crowd {
        assert_eq!(read(stream).await.status, 200);
    }
    (modest, last)
}

#[tokio::test]
async fn a_client_that_fills_the_queue_gives_way_to_one_that_a_trusted_header_names() {
    let (modest, last) = beside_a_greedy_one(Some(HEADER)).await;
    assert_eq!(read(modest).await.status, 200);
    let refused = read(last).await;
    assert_eq!((refused.status, refused.error()["code"].clone()), (503, json!("busy")));
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn without_the_setting_neither_header_nor_body_names_a_client() {
    let (modest, last) = beside_a_greedy_one(None).await;
    assert_eq!(read(modest).await.status, 503);
    assert_eq!(read(last).await.status, 200);
}

#[tokio::test]
async fn what_can_not_be_a_headers_name_is_refused_at_the_start() {
    let home = tempfile::tempdir().expect("tempdir");
    let engine = FakeEngine::builder().build();
    let config = samovar_server::ServeConfig {
        listen: Some("127.0.0.1:0".parse().expect("address")),
        client_header: Some("no header".into()),
        ..samovar_server::ServeConfig::default()
    };
    let refused = samovar_server::Server::bind(crate::fixture::runtime(&engine, &home), config).await;
    let error = refused.err().expect("refused");
    assert!(error.to_string().contains("\"no header\""), "{error}");
}
