//! What a hostile or careless client may send, and what it gets.

use std::time::Duration;

use samovar_core::testing::fake::FakeEngine;
use samovar_server::{Error, ServeConfig, Server};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{Fixture, runtime};
use crate::raw::{exchange, get, owner, post, request, tcp};

const CHAT: &str = "/v1/chat/completions";

fn body() -> String {
    json!({ "model": "demo", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2 }).to_string()
}

#[tokio::test]
async fn strangers_pages_are_turned_away_before_any_route() {
    let fixture = Fixture::new().await;
    let table: [(&[(&str, &str)], u16); 10] = [
        (&[("host", "evil.example")], 403),
        (&[("host", "127.0.0.1.evil.example")], 403),
        (&[("origin", "https://evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("content-type", "text/plain")], 415),
        (&[("content-type", "application/x-www-form-urlencoded")], 415),
        (&[("origin", "http://localhost:3000"), ("sec-fetch-site", "cross-site")], 200),
        (&[("origin", "vscode-webview://abc")], 200),
        (&[("host", "127.0.0.1:1234")], 200),
    ];
    for (headers, status) in table {
        let answer = exchange(tcp(&fixture).await, request("POST", CHAT, headers, &body())).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
        if status != 200 {
            assert_eq!(answer.error()["param"], serde_json::Value::Null);
            assert_eq!(
                answer.header("access-control-allow-origin").is_some(),
                status == 415 && headers.len() > 1
            );
        }
    }
    for path in ["/healthz", "/metrics", "/v1/models", "/nowhere"] {
        let answer =
            exchange(tcp(&fixture).await, request("GET", path, &[("host", "evil.example")], "")).await;
        assert_eq!(answer.status, 403, "{path}");
    }
}

#[tokio::test]
async fn allowed_pages_may_read_answers() {
    let fixture = Fixture::new().await;
    let origin = ("origin", "http://localhost:3000");
    let asked = [
        origin,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-stainless-lang,x-evil"),
    ];
    let preflight = exchange(tcp(&fixture).await, request("OPTIONS", CHAT, &asked, "")).await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type, x-stainless-lang"));
    let answer = exchange(tcp(&fixture).await, request("POST", CHAT, &[origin], &body())).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert!(answer.header("access-control-expose-headers").expect("names").contains("x-request-id"));
    let evil = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let refused = exchange(tcp(&fixture).await, request("OPTIONS", CHAT, &evil, "")).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn configured_hosts_and_origins_are_welcome() {
    let fixture = Fixture::with(FakeEngine::builder(), |config| {
        config.allowed_hosts.push("box.lan".into());
        config.allowed_origins.push("https://chat.example".into());
    })
    .await;
    let headers = [("host", "box.lan:80"), ("origin", "https://chat.example")];
    let answer = exchange(tcp(&fixture).await, request("GET", "/v1/models", &headers, "")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn unknown_routes_and_wrong_methods_are_json() {
    let fixture = Fixture::new().await;
    let unknown = get(&fixture, "/v1/nothing").await;
    assert_eq!((unknown.status, unknown.error()["code"].as_str()), (404, Some("unknown_route")));
    let wrong = get(&fixture, CHAT).await;
    assert_eq!((wrong.status, wrong.error()["code"].as_str()), (405, Some("wrong_method")));
    assert_eq!(wrong.header("allow"), Some("POST"));
    for (method, path, right) in
        [("GET", CHAT, "POST"), ("POST", "/v1/models", "GET"), ("DELETE", "/v1/models/demo", "GET")]
    {
        let wrong = exchange(tcp(&fixture).await, request(method, path, &[], "")).await;
        assert_eq!(wrong.status, 405, "{method} {path}: {}", wrong.body);
        assert!(wrong.body.contains(&format!("send it by {right})")), "{method} {path}: {}", wrong.body);
    }
    let owners = owner(&fixture, "GET", "/admin/nothing", &serde_json::Value::Null).await;
    assert_eq!((owners.status, owners.json()["kind"].as_str()), (404, Some("not_found")));
    for path in ["/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/models/%ff", "//", "//?"] {
        let answer = get(&fixture, path).await;
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
    }
}

#[tokio::test]
async fn bad_json_is_a_400_that_names_the_place() {
    let fixture = Fixture::new().await;
    let deep = format!("{{\"messages\":{}{}}}", "[".repeat(100), "]".repeat(100));
    let very_deep = "[".repeat(2 << 20);
    let table: [&[u8]; 9] = [
        b"",
        b"{",
        b"nul",
        b"{\"model\": \"demo\",}",
        b"{\"model\": NaN}",
        b"{\"model\": \"\xff\xfe\"}",
        b"[1,2,3]",
        deep.as_bytes(),
        very_deep.as_bytes(),
    ];
    for bytes in table {
        let mut message = request("POST", CHAT, &[], "").into_bytes();
        let head = String::from_utf8(message).expect("ASCII");
        message = head.replace("content-length: 0", &format!("content-length: {}", bytes.len())).into_bytes();
        message.extend_from_slice(bytes);
        let answer = exchange(tcp(&fixture).await, message).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
        assert_eq!(answer.status, 400, "{shown}: {}", answer.body);
        let error = answer.error();
        assert_eq!(error["type"], "invalid_request_error", "{shown}");
        let text = error["message"].as_str().expect("text");
        assert!(text.contains("column") || text.contains("byte"), "{shown}: {text}");
    }
}

#[tokio::test]
async fn large_bodies_and_heads_are_refused() {
    let fixture = Fixture::new().await;
    let large = "x".repeat((4 << 20) + 1);
    let answer = exchange(tcp(&fixture).await, request("POST", CHAT, &[], &large)).await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    let larger = "x".repeat(12 << 20);
    let answer = exchange(tcp(&fixture).await, request("POST", CHAT, &[], &larger)).await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    let huge = request("POST", CHAT, &[], "").replace("content-length: 0", "content-length: 99999999999");
    assert_eq!(exchange(tcp(&fixture).await, huge).await.status, 413);
    let chunked = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n400001\r\n{}\r\n0\r\n\r\n",
        "x".repeat(0x40_0001)
    );
    assert_eq!(exchange(tcp(&fixture).await, chunked).await.status, 413);
    let head = "h".repeat(40 << 10);
    let answer = exchange(tcp(&fixture).await, request("GET", "/healthz", &[("x-long", &head)], "")).await;
    assert_eq!(answer.status, 431);
    let many: Vec<(String, &str)> = (0..200).map(|at| (format!("x-{at}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let answer = exchange(tcp(&fixture).await, request("GET", "/healthz", &many, "")).await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn what_is_no_http_is_a_400_and_the_server_lives_on() {
    let fixture = Fixture::new().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let answer = exchange(tcp(&fixture).await, bytes).await;
        assert_eq!(answer.status, 400, "{:?}", String::from_utf8_lossy(bytes));
    }
    let no_host = exchange(tcp(&fixture).await, "GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert_eq!(no_host.status, 400);
    assert_eq!(get(&fixture, "/healthz").await.status, 200);
}

#[tokio::test]
async fn slow_heads_and_bodies_are_not_waited_for() {
    let fixture = Fixture::with(FakeEngine::builder(), |config| {
        config.limits.head_timeout = Duration::from_millis(500);
    })
    .await;
    let mut slow = tcp(&fixture).await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: loc").await.expect("writes");
    let mut nothing = Vec::new();
    slow.read_to_end(&mut nothing).await.expect("is closed");
    assert!(nothing.is_empty() || nothing.starts_with(b"HTTP/1.1 408"), "{nothing:?}");

    // Its head may take its time, so that only the body can be late.
    let fixture = Fixture::with(FakeEngine::builder(), |config| {
        config.limits.body_timeout = Duration::from_millis(100);
    })
    .await;
    let mut slow = tcp(&fixture).await;
    let head = request("POST", CHAT, &[], "").replace("content-length: 0", "content-length: 100");
    slow.write_all(head.as_bytes()).await.expect("writes");
    let answer = crate::raw::read(slow).await;
    assert_eq!(answer.status, 408, "{}", answer.body);
    assert_eq!(answer.error()["code"], "body_timeout");
}

#[tokio::test]
async fn connections_beyond_the_bound_are_told_to_come_back() {
    let fixture =
        Fixture::with(FakeEngine::builder().gate_tokens(), |config| config.limits.connections = 2).await;
    let mut kept = Vec::new();
    for running in 1..=2 {
        let mut stream = tcp(&fixture).await;
        stream.write_all(request("POST", CHAT, &[], &body()).as_bytes()).await.expect("writes");
        fixture.engine.wait_until(|counts| counts.generations_running == running).await;
        kept.push(stream);
    }
    let third = get(&fixture, "/healthz").await;
    assert_eq!(third.status, 503);
    assert_eq!(third.header("retry-after"), Some("1"));
    // The owner has a socket of its own.
    assert_eq!(owner(&fixture, "GET", "/healthz", &serde_json::Value::Null).await.status, 200);
    fixture.engine.tokens_gate().open();
    for stream in kept {
        assert_eq!(crate::raw::read(stream).await.status, 200);
    }
}

#[tokio::test]
async fn two_requests_on_one_connection_are_answered_in_order() {
    let fixture = Fixture::new().await;
    let first = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let second = request("GET", "/nowhere", &[], "");
    let mut stream = tcp(&fixture).await;
    stream.write_all(format!("{first}{second}").as_bytes()).await.expect("writes");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("reads");
    let (ok, missing) = (text.find("200 OK").expect("200"), text.find("404 Not Found").expect("404"));
    assert!(ok < missing);
}

#[tokio::test]
async fn a_server_that_others_reach_needs_to_be_asked_for() {
    let engine = FakeEngine::new();
    let home = tempfile::tempdir().expect("tempdir");
    let everywhere =
        ServeConfig { listen: Some("0.0.0.0:0".parse().expect("address")), ..ServeConfig::default() };
    let refused = Server::bind(runtime(&engine, &home), everywhere.clone()).await.err().expect("refuses");
    assert!(matches!(refused, Error::Exposed(_)));
    assert!(refused.hint().contains("--insecure-no-auth"));
    let asked_for = ServeConfig { insecure_no_auth: true, ..everywhere };
    assert!(Server::bind(runtime(&engine, &home), asked_for).await.is_ok());
    let nowhere = Server::bind(runtime(&engine, &home), ServeConfig::default()).await.err();
    assert!(matches!(nowhere, Some(Error::Nowhere)));
}

#[tokio::test]
async fn a_port_or_socket_that_is_taken_says_what_to_do() {
    let fixture = Fixture::new().await;
    let home = tempfile::tempdir().expect("tempdir");
    let same_port = ServeConfig { listen: Some(fixture.address), ..ServeConfig::default() };
    let error = Server::bind(runtime(&fixture.engine, &home), same_port).await.err().expect("refuses");
    assert!(error.hint().contains("another program"), "{error}");
    let same_socket = ServeConfig { socket: Some(fixture.socket.clone()), ..ServeConfig::default() };
    let error = Server::bind(runtime(&fixture.engine, &home), same_socket).await.err().expect("refuses");
    assert!(matches!(error, Error::AlreadyServed(_)), "{error}");
    let long = ServeConfig { socket: Some(home.path().join("x".repeat(200))), ..ServeConfig::default() };
    let error = Server::bind(runtime(&fixture.engine, &home), long).await.err().expect("refuses");
    assert!(error.hint().contains("100 bytes"), "{error}: {}", error.hint());
    assert_eq!(post(&fixture, CHAT, &serde_json::from_str(&body()).expect("JSON")).await.status, 200);
}
