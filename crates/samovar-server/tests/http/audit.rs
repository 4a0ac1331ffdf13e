//! The audit log and the counts of use, of requests by several APIs.

use std::path::Path;

use samovar_core::testing::fake::FakeEngine;
use samovar_server::admin::wire::{GroupBy, UsageReport};
use samovar_server::{Error, KeyFile, KeyTerms, ServeConfig, Server, read_usage};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{Fixture, eventually, runtime};
use crate::raw::{exchange, get, owner, post, request, tcp, unix};

const CHAT: &str = "/v1/chat/completions";
/// What no log may hold.
const SECRET: &str = "the-secret-of-the-samovar";

fn chat(more: &Value) -> Value {
    let mut body = json!({ "model": "demo", "messages": [{ "role": "user", "content": SECRET }],
                           "max_tokens": 3, "temperature": 0, "ignore_eos": true });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs_err::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A server with both, in this folder.
async fn audited(folder: &Path) -> Fixture {
    let (audit_log, usage_dir) = (folder.join("audit.log"), folder.join("usage"));
    Fixture::with(FakeEngine::builder(), |config| {
        (config.audit_log, config.usage_dir) = (Some(audit_log), Some(usage_dir));
    })
    .await
}

#[tokio::test]
async fn each_request_has_a_line_that_says_who_what_and_how_and_no_text() {
    let folder = tempfile::tempdir().expect("tempdir");
    let fixture = audited(folder.path()).await;
    let whole = post(&fixture, CHAT, &chat(&json!({}))).await.json();
    let choices = post(
        &fixture,
        "/v1/completions",
        &json!({ "model": "demo", "prompt": SECRET, "n": 2, "max_tokens": 4, "ignore_eos": true }),
    )
    .await;
    assert_eq!(choices.status, 200, "{}", choices.body);
    assert_eq!(post(&fixture, CHAT, &chat(&json!({ "stream": true }))).await.status, 200);
    assert_eq!(post(&fixture, CHAT, &chat(&json!({ "model": "nobody" }))).await.status, 404);
    get(&fixture, &format!("/{SECRET}")).await;
    let pin = json!({ "model": "demo", "pinned": true });
    assert_eq!(owner(&fixture, "POST", "/admin/pin", &pin).await.status, 200);

    let path = folder.path().join("audit.log");
    eventually("there are six lines", async || lines(&path).len() == 6).await;
    let lines = lines(&path);
    let field = |line: usize, name: &str| lines[line][name].clone();
    assert_eq!((field(0, "client"), field(0, "address")), ("127.0.0.1".into(), "127.0.0.1".into()));
    assert_eq!((field(0, "method"), field(0, "route")), ("POST".into(), CHAT.into()));
    assert_eq!((field(0, "model"), field(0, "outcome")), ("demo".into(), "length".into()));
    assert_eq!(field(0, "prompt_tokens"), whole["usage"]["prompt_tokens"]);
    assert_eq!(field(0, "answer_tokens"), 3);
    assert_eq!(field(1, "answer_tokens"), 8, "both choices");
    assert_eq!((field(2, "outcome"), field(2, "answer_tokens")), ("length".into(), 3.into()));
    assert_eq!((field(3, "status"), field(3, "outcome")), (404.into(), "model_not_found".into()));
    assert_eq!((field(4, "route"), field(4, "status")), ("other".into(), 404.into()));
    assert_eq!((field(5, "route"), field(5, "outcome")), ("/admin/pin".into(), "ok".into()));
    assert!(field(5, "client").as_str().expect("text").starts_with("uid "));
    let text = fs_err::read_to_string(&path).expect("reads");
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn a_client_that_leaves_is_a_line_with_what_was_computed_for_it() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("audit.log");
    let audit_log = Some(path.clone());
    let fixture = Fixture::with(FakeEngine::builder().gate_tokens(), |config| config.audit_log = audit_log);
    let fixture = fixture.await;
    let mut stream = tcp(&fixture).await;
    let text = request("POST", CHAT, &[], &chat(&json!({ "stream": true })).to_string());
    stream.write_all(text.as_bytes()).await.expect("writes");
    fixture.engine.tokens_gate().admit(1);
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("\"content\"") {
        assert_ne!(stream.read_buf(&mut said).await.expect("reads"), 0);
    }
    drop(stream);
    eventually("there is a line", async || lines(&path).len() == 1).await;
    let line = &lines(&path)[0];
    assert_eq!((&line["outcome"], &line["status"]), (&json!("cancelled"), &json!(200)));
    assert!(line["prompt_tokens"].as_u64() > Some(0), "{line}");
}

#[tokio::test]
async fn a_key_that_is_refused_is_named() {
    let folder = tempfile::tempdir().expect("tempdir");
    let (path, file) = (folder.path().join("audit.log"), KeyFile::new(folder.path().join("keys.json")));
    let key = file.add("ci", KeyTerms::default()).expect("adds");
    let fixture = Fixture::with(FakeEngine::builder(), |config| {
        (config.audit_log, config.keys) = (Some(path.clone()), Some(file.path().to_owned()));
    })
    .await;
    let value = format!("Bearer {}", key.text());
    let text = request("POST", "/admin/unload", &[("authorization", value.as_str())], "{}");
    assert_eq!(exchange(tcp(&fixture).await, text).await.status, 403);
    assert_eq!(post(&fixture, "/admin/unload", &json!({})).await.status, 401);
    eventually("there are two lines", async || lines(&path).len() == 2).await;
    let lines = lines(&path);
    let field = |line: usize, name: &str| lines[line][name].clone();
    assert_eq!((field(0, "client"), field(0, "status")), ("ci".into(), 403.into()));
    assert_eq!((field(1, "client"), field(1, "outcome")), ("127.0.0.1".into(), "refused".into()));
}

#[tokio::test]
async fn each_call_by_json_rpc_has_a_line() {
    let folder = tempfile::tempdir().expect("tempdir");
    let fixture = audited(folder.path()).await;
    let generate = chat(&json!({}));
    let mut stream = unix(&fixture.socket).await;
    for (id, method, params) in [
        (1, "generate", generate),
        (2, "clear_cache", json!({ "tier": "memory" })),
        (3, "clear_cache", json!({ "tier": "l3" })),
    ] {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        stream.write_all(format!("{call}\n").as_bytes()).await.expect("writes");
        let (mut said, end) = (Vec::new(), format!("\"id\":{id}"));
        let is_answer = |line: &str| line.contains(&end) && !line.contains("\"method\"");
        while !String::from_utf8_lossy(&said).lines().any(is_answer) {
            assert_ne!(stream.read_buf(&mut said).await.expect("reads"), 0);
        }
    }
    let path = folder.path().join("audit.log");
    eventually("there are three lines", async || lines(&path).len() == 3).await;
    let expected =
        [["generate", "length", "demo"], ["clear_cache", "ok", ""], ["clear_cache", "refused", ""]];
    for (line, [method, outcome, model]) in lines(&path).iter().zip(expected) {
        assert_eq!((&line["route"], &line["status"]), (&json!(method), &json!(0)), "{line}");
        assert_eq!(line["outcome"], outcome, "{line}");
        assert_eq!(line["model"].as_str().unwrap_or_default(), model, "{line}");
        assert_eq!(line["client"], line["address"], "{line}");
        assert!(line["address"].as_str().is_some_and(|address| address.starts_with("uid ")), "{line}");
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_an_error_at_the_start() {
    let home = tempfile::tempdir().expect("tempdir");
    let config = ServeConfig {
        listen: Some("127.0.0.1:0".parse().expect("address")),
        audit_log: Some(home.path().to_owned()),
        ..ServeConfig::default()
    };
    let error = Server::bind(runtime(&FakeEngine::new(), &home), config).await.err().expect("refused");
    assert!(matches!(error, Error::AuditLog { .. }), "{error}");
    assert!(error.hint().contains("server.audit_log"));
}

#[tokio::test]
async fn use_is_told_to_the_owner_and_outlives_the_server() {
    let folder = tempfile::tempdir().expect("tempdir");
    let fixture = audited(folder.path()).await;
    for _ in 0..2 {
        assert_eq!(post(&fixture, CHAT, &chat(&json!({}))).await.status, 200);
    }
    assert_eq!(post(&fixture, CHAT, &chat(&json!({ "model": "tiny" }))).await.status, 200);
    assert_eq!(post(&fixture, CHAT, &chat(&json!({ "model": "nobody" }))).await.status, 404);
    let asked = async |query: &str| -> UsageReport {
        let answer = owner(&fixture, "GET", &format!("/admin/usage{query}"), &Value::Null).await;
        serde_json::from_str(&answer.body).expect("a report")
    };
    // The record of a request is dropped with its connection's last write.
    eventually("three requests are counted", async || {
        asked("?by=").await.rows.first().is_some_and(|row| row.requests == 3)
    })
    .await;
    let report = asked("").await;
    let rows: Vec<_> =
        report.rows.iter().map(|row| (row.model.as_deref(), row.requests, row.answer_tokens)).collect();
    assert_eq!(rows, [(Some("demo"), 2, 6), (Some("tiny"), 1, 3)], "what was refused is not counted");
    assert_eq!(report.rows[0].client.as_deref(), Some("127.0.0.1"));
    let by_day = asked("?by=day&since_ms=1000").await;
    assert_eq!(by_day.rows[0].day, by_day.since, "today");
    let wrong = owner(&fixture, "GET", "/admin/usage?by=week", &Value::Null).await;
    assert_eq!(wrong.status, 400);
    let wrong = owner(&fixture, "GET", "/admin/usage?since_ms=x", &Value::Null).await;
    assert_eq!((wrong.status, wrong.json()["param"].as_str()), (400, Some("since_ms")));
    assert_eq!(get(&fixture, "/admin/usage").await.status, 404, "not on the network");

    let Fixture { handle, task, .. } = fixture;
    handle.shut_down(None);
    task.await.expect("ends");
    let kept =
        read_usage(&folder.path().join("usage"), None, &[GroupBy::Client, GroupBy::Model]).expect("reads");
    assert_eq!(kept.rows, report.rows);
}

#[tokio::test]
async fn a_server_that_counts_nothing_says_so() {
    let fixture = Fixture::new().await;
    let answer = owner(&fixture, "GET", "/admin/usage", &Value::Null).await;
    assert_eq!(answer.status, 501, "{}", answer.body);
    assert!(answer.json()["hint"].as_str().expect("a hint").contains("usage = true"));
}
