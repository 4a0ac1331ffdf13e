//! Bodies that are no request, or a strange one: each has an answer that says what is wrong, in words that are not ours.

use serde_json::Value;

use crate::fixture::Fixture;
use crate::raw::{Answer, exchange, post, tcp};

const CHAT: &str = "/v1/chat/completions";
/// A request without its closing bracket.
const OPEN: &str = r#"{"model":"demo","messages":[{"role":"user","content":"hi"}],"max_tokens":2"#;

async fn send(fixture: &Fixture, content_type: &str, body: &[u8]) -> Answer {
    let mut message = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    message.extend_from_slice(body);
    exchange(tcp(fixture).await, message).await
}

fn with(more: &str) -> Vec<u8> {
    format!("{OPEN},{more}}}").into_bytes()
}

fn says(content: &str) -> Vec<u8> {
    format!(r#"{{"model":"demo","messages":[{{"role":"user","content":"{content}"}}],"max_tokens":2}}"#)
        .into_bytes()
}

fn of_model(name: &str) -> Vec<u8> {
    format!(r#"{{"model":"{name}","messages":[{{"role":"user","content":"hi"}}],"max_tokens":2}}"#)
        .into_bytes()
}

fn no_json() -> Vec<Vec<u8>> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let utf16: Vec<u8> = format!("{OPEN}}}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        bytes("{}"),
        bytes(""),
        bytes(OPEN),
        format!("{OPEN}}} x").into_bytes(),
        "[".repeat(100_000).into_bytes(),
        format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000)).into_bytes(),
        "{\"a\":".repeat(100_000).into_bytes(),
        with(r#""temperature":1e999"#),
        with(&format!(r#""seed":{}"#, "9".repeat(10_000))),
        with(&format!(r#""seed":{}"#, "9".repeat(1_000_000))),
        with(r#""temperature":NaN"#),
        [b"{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"".as_slice(), b"\xff\xfe\"}]}"]
            .concat(),
        [
            b"{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"".as_slice(),
            b"\xed\xa0\x80\"}]}",
        ]
        .concat(),
        [b"{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"".as_slice(), b"\xc0\xae\"}]}"]
            .concat(),
        says("\\ud800"),
        says("\\udc00x"),
        [&b"\xef\xbb\xbf"[..], OPEN.as_bytes(), b"}"].concat(),
        utf16,
        [OPEN.as_bytes(), b"}\0"].concat(),
        says("a\0b"),
        bytes("[]"),
        bytes("\"x\""),
        bytes("5"),
        bytes("null"),
        format!("/*x*/{OPEN}}}").into_bytes(),
        bytes(r#"{"MODEL":"nope","messages":[]}"#),
        bytes(r#"{"model":"demo","messages":[{"role":"user","content":"hi","content":"no"}]}"#),
        bytes(r#"{"model":"demo","model":"demo","messages":[{"role":"user","content":"hi"}]}"#),
        bytes(r#"{"model":"demo","messages":[3]}"#),
        bytes(r#"{"model":"demo","messages":{}}"#),
        bytes(r#"{"model":[],"messages":[]}"#),
        with(r#""stream_options":3"#),
        with(r#""logit_bias":[]"#),
        with(r#""stop":[[]]"#),
        with(r#""response_format":"x""#),
    ]
}

/// Some of these are served: strange is not wrong.
fn strange() -> Vec<Vec<u8>> {
    let many = |count: usize, what: &str| vec![what; count].join(",");
    vec![
        with(&format!(r#""x":{}{}"#, "[".repeat(62), "]".repeat(62))),
        with(&format!(r#""x":"{}""#, "[".repeat(100_000))),
        with(&format!(r#""zzz":0.{}"#, "9".repeat(1_000_000))),
        with(r#""temperature":-0.0"#),
        with(r#""a":1,"a":2"#),
        says("a\\u0000b"),
        format!(
            r#"{{"model":"demo","messages":[{}],"max_tokens":2}}"#,
            many(20_000, r#"{"role":"user","content":"a"}"#)
        )
        .into_bytes(),
        format!(r#"{{"model":"demo","messages":[{}],"max_tokens":2}}"#, many(100_000, r#"{"role":""}"#))
            .into_bytes(),
        says(&"a".repeat(3_900_000)),
        says(&" ".repeat(1_000_000)),
        says(&"😀".repeat(500_000)),
        says(&"a".repeat(4 << 20)),
        with(&format!(
            r#""logit_bias":{{{}}}"#,
            (0..100_000).map(|at| format!(r#""{at}":1"#)).collect::<Vec<_>>().join(",")
        )),
        with(r#""logit_bias":{"4294967295":100,"2048":100}"#),
        with(&format!(r#""stop":[{}]"#, many(16, &format!(r#""{}""#, "a".repeat(1_024))))),
        with(r#""n":8,"max_tokens":2147483647"#),
    ]
}

const NAMES: [&str; 29] = [
    "a\\nb\\r\\nX-Evil: 1",
    "\\u001b[31mRED\\u001b]0;pwn\\u0007",
    "abc\\u202egpj.exe",
    "demo\\u0000",
    " demo ",
    "DEMO",
    "../../etc/passwd",
    "./x.gguf",
    "/etc/passwd",
    "~/x.gguf",
    "file:///etc/passwd",
    "demo/../../x",
    "..",
    ".",
    "C:\\\\x.gguf",
    "\\\\\\\\host\\\\share",
    "hf://../..",
    "hf://org/name:../../x",
    "ollama://x",
    "s3://bucket/x",
    "http://127.0.0.1:1/x",
    "demo:latest",
    "openai/demo",
    "sha256:28af202bf6c8c7c1a813889c6e704c9777735e96d6fa772f9eef1a5a48c0ff1d",
    "%2e%2e/x",
    "org/name",
    "org/name@main:Q4",
    "",
    "model\\u0000/../../etc/passwd",
];
const TYPES: [(&str, bool); 11] = [
    ("text/plain", false),
    ("application/x-www-form-urlencoded", false),
    ("multipart/form-data; boundary=x", false),
    ("application/json; charset=utf-16", true),
    ("application/json;charset=latin1", true),
    ("APPLICATION/JSON", true),
    ("application/json, text/plain", false),
    ("text/json", false),
    ("application/ld+json", true),
    ("", false),
    ("application/jsonx", false),
];

/// An error of the client's, in OpenAI's form, that tells nothing of how this server is made.
fn is_told_well(answer: &Answer, shown: &str) {
    assert!((400..500).contains(&answer.status), "{shown}: {} {}", answer.status, answer.body);
    let error = answer.error();
    let message = error["message"].as_str().expect("a message");
    for ours in ["struct ", "enum ", "Options", "WireMessage", "panicked", ".rs", "X-Evil: 1\r\n", "root:"] {
        assert!(!message.contains(ours), "{shown}: {message}");
    }
    assert!(message.len() < 4_000 && !message.contains(char::is_control), "{shown}: {message}");
    assert!(answer.headers.iter().all(|(name, _)| name != "x-evil"));
}

async fn is_well(fixture: &Fixture) {
    let body: Value = serde_json::from_str(&format!("{OPEN}}}")).expect("JSON");
    assert_eq!(post(fixture, CHAT, &body).await.status, 200);
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned()
}

#[tokio::test]
async fn what_is_no_request_is_told_what_is_wrong() {
    let fixture = Fixture::new().await;
    for bytes in no_json() {
        let answer = send(&fixture, "application/json", &bytes).await;
        is_told_well(&answer, &shown(&bytes));
    }
    is_well(&fixture).await;
}

#[tokio::test]
async fn strange_requests_are_served_or_refused_and_disturb_nobody() {
    let fixture = Fixture::new().await;
    for bytes in strange() {
        let answer = send(&fixture, "application/json", &bytes).await;
        if answer.status != 200 {
            is_told_well(&answer, &shown(&bytes));
        }
        is_well(&fixture).await;
    }
}

#[tokio::test]
async fn strange_names_of_models_name_nothing() {
    let fixture = Fixture::new().await;
    for name in NAMES {
        let answer = send(&fixture, "application/json", &of_model(name)).await;
        is_told_well(&answer, name);
    }
    let long = "a".repeat(1_000_000);
    is_told_well(&send(&fixture, "application/json", &of_model(&long)).await, "a long name");
    is_well(&fixture).await;
}

#[tokio::test]
async fn only_json_is_read() {
    let fixture = Fixture::new().await;
    for (content_type, is_json) in TYPES {
        let answer = send(&fixture, content_type, format!("{OPEN}}}").as_bytes()).await;
        assert_eq!(answer.status, if is_json { 200 } else { 415 }, "{content_type}: {}", answer.body);
    }
}
