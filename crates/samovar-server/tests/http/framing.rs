//! Requests that are framed in every way that a parser may read wrongly: what each gets, and that nothing is read twice.

use std::fmt::Write;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::Fixture;
use crate::raw::{get, post, tcp};

const BODY: &str = r#"{"model":"demo","messages":[{"role":"user","content":"hi"}],"max_tokens":2}"#;
const POST: &str =
    "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends the bytes and no more; gives the number of answers, and their statuses and codes, neighbours that are equal as one.
async fn answered(fixture: &Fixture, bytes: &[u8]) -> (usize, String) {
    let mut stream = tcp(fixture).await;
    let (mut reader, mut writer) = stream.split();
    let mut all = Vec::new();
    let send = async {
        // The server may close before it has read everything.
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    };
    let receive = async {
        let _ = reader.read_to_end(&mut all).await;
    };
    tokio::join!(send, receive);
    let text = String::from_utf8_lossy(&all);
    assert!(!text.contains("X-Evil") && !text.contains("/smuggled"), "{text}");
    let statuses = text.match_indices("HTTP/1.").map(|(at, _)| text[at..].split(' ').nth(1).unwrap_or("?"));
    let codes = text
        .match_indices("\"code\":\"")
        .map(|(at, found)| text[at + found.len()..].split('"').next().unwrap_or("?"));
    let count = statuses.clone().count();
    let mut said: Vec<&str> = Vec::new();
    for word in statuses.chain(codes) {
        if said.last() != Some(&word) {
            said.push(word);
        }
    }
    (count, said.join(" "))
}

fn post_with(headers: &str, body: &str) -> Vec<u8> {
    format!("{POST}{headers}\r\n{body}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post_with("Transfer-Encoding: chunked\r\nConnection: close\r\n", body)
}

fn each<T>(of: impl Iterator<Item = T>, text: impl Fn(T) -> String) -> String {
    of.map(text).collect::<Vec<_>>().concat()
}

fn one_chunk() -> String {
    format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len())
}

fn asks(head: &str) -> Vec<u8> {
    head.as_bytes().to_vec()
}

fn lengths() -> Vec<(&'static str, Vec<u8>)> {
    let length = BODY.len();
    vec![
        ("length", post_with(&format!("Content-Length: {length}\r\n"), BODY)),
        ("length too short", post_with(&format!("Content-Length: {}\r\n", length - 1), BODY)),
        ("length too long", post_with(&format!("Content-Length: {}\r\n", length + 5), BODY)),
        (
            "length twice",
            post_with(&format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), BODY),
        ),
        ("lengths differ", post_with(&format!("Content-Length: {length}\r\nContent-Length: 5\r\n"), BODY)),
        ("length as a list", post_with(&format!("Content-Length: {length}, {length}\r\n"), BODY)),
        ("length with a sign", post_with(&format!("Content-Length: +{length}\r\n"), BODY)),
        ("length below zero", post_with("Content-Length: -1\r\n", BODY)),
        ("length in hex", post_with("Content-Length: 0x10\r\n", BODY)),
        ("length beyond 64 bits", post_with("Content-Length: 18446744073709551616\r\n", BODY)),
        ("length of an exabyte", post_with("Content-Length: 1000000000000000000\r\n", BODY)),
    ]
}

fn encodings() -> Vec<(&'static str, Vec<u8>)> {
    let (chunk, length) = (one_chunk(), BODY.len());
    let smuggling = format!("{chunk}{SMUGGLED}");
    let with = |header: &str, body: &str| post_with(&format!("{header}\r\n"), body);
    vec![
        ("length and chunks", with("Content-Length: 5\r\nTransfer-Encoding: chunked", &smuggling)),
        ("chunks and length", with("Transfer-Encoding: chunked\r\nContent-Length: 5", &smuggling)),
        ("encoding xchunked", with("Transfer-Encoding: xchunked", BODY)),
        (
            "encoding identity",
            with(&format!("Transfer-Encoding: identity\r\nContent-Length: {length}"), BODY),
        ),
        ("chunked, identity", with("Transfer-Encoding: chunked, identity", &chunk)),
        ("gzip, chunked", with("Transfer-Encoding: gzip, chunked", &chunk)),
        ("encoding after a tab", with("Transfer-Encoding:\tchunked", &chunk)),
        ("blank before the colon", with("Transfer-Encoding : chunked", &chunk)),
        ("encoding on the next line", with("Transfer-Encoding:\r\n chunked", &chunk)),
        ("encoding twice", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", &chunk)),
    ]
}

fn chunks() -> Vec<(&'static str, Vec<u8>)> {
    let length = BODY.len();
    let bytewise: String = each(BODY.chars(), |c| format!("1\r\n{c}\r\n"));
    let extended: String = each(BODY.chars(), |c| format!("1;{}\r\n{c}\r\n", "x".repeat(15_000)));
    vec![
        ("one chunk", chunked(&one_chunk())),
        ("a chunk a byte", chunked(&format!("{bytewise}0\r\n\r\n"))),
        ("chunk extension", chunked(&format!("{length:x};a=b\r\n{BODY}\r\n0\r\n\r\n"))),
        (
            "chunk extension of 2 MB",
            chunked(&format!("{length:x};{}\r\n{BODY}\r\n0\r\n\r\n", "a".repeat(2 << 20))),
        ),
        ("many chunk extensions", chunked(&format!("{extended}0\r\n\r\n"))),
        ("chunk of 64 bits", chunked(&format!("FFFFFFFFFFFFFFFF\r\n{BODY}"))),
        ("chunk of more", chunked(&format!("FFFFFFFFFFFFFFFFF\r\n{BODY}"))),
        ("chunk below zero", chunked(&format!("-1\r\n{BODY}"))),
        ("chunk with 0x", chunked(&format!("0x{length:x}\r\n{BODY}\r\n0\r\n\r\n"))),
        ("chunk with bare line feeds", chunked(&format!("{length:x}\n{BODY}\n0\n\n"))),
        ("chunk without its end", chunked(&format!("{length:x}\r\n{BODY}XX0\r\n\r\n"))),
        (
            "trailers of 1 MB",
            chunked(&format!("{length:x}\r\n{BODY}\r\n0\r\n{}\r\n", "A: b\r\n".repeat(200_000))),
        ),
        ("trailer", chunked(&format!("{length:x}\r\n{BODY}\r\n0\r\nX-T: 1\r\n\r\n"))),
        ("half a chunk", chunked(&format!("{length:x}\r\n{}", &BODY[..10]))),
    ]
}

fn heads() -> Vec<(&'static str, Vec<u8>)> {
    let length = BODY.len();
    let whole = String::from_utf8(post_with(&format!("Content-Length: {length}\r\n"), BODY)).expect("text");
    let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let health = |more: &str| format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{more}\r\n").into_bytes();
    let many = |count: usize| each(0..count, |at| format!("h{at}: x\r\n"));
    let streamed = whole.replace("\"max_tokens\":2}", "\"max_tokens\":2,\"stream\":true}");
    let streamed = streamed.replace(&format!("Length: {length}"), &format!("Length: {}", length + 14));
    vec![
        ("three in a row", whole.repeat(3).into_bytes()),
        ("a hundred in a row", get.repeat(100).into_bytes()),
        ("expects 100", post_with(&format!("Expect: 100-continue\r\nContent-Length: {length}\r\n"), BODY)),
        (
            "expects 100 for text",
            asks(&format!(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
             Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
            )),
        ),
        (
            "expects something else",
            post_with(&format!("Expect: 200-ok\r\nContent-Length: {length}\r\n"), BODY),
        ),
        ("version 1.0", whole.replace("HTTP/1.1", "HTTP/1.0").into_bytes()),
        ("version 1.0 without host", asks("GET /v1/models HTTP/1.0\r\n\r\n")),
        (
            "version 1.0 kept alive and streamed",
            streamed.replace("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n").into_bytes(),
        ),
        ("version 0.9", asks("GET /\r\n\r\n")),
        ("version 1.2", asks("GET /healthz HTTP/1.2\r\nHost: localhost\r\n\r\n")),
        ("version 2", asks("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0")),
        (
            "upgrade to 2",
            health("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"),
        ),
        (
            "upgrade to a web socket",
            asks(
                "GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
            ),
        ),
        ("TLS", [&b"\x16\x03\x01\0\xc8\x01\0\0\xc4\x03\x03"[..], &[0; 200]].concat()),
        ("bare line feeds", asks("GET /healthz HTTP/1.1\nHost: localhost\n\n")),
        ("carriage returns alone", asks("GET /healthz HTTP/1.1\rHost: localhost\r\r")),
        ("NUL in a header", health("X: a\0b\r\n")),
        (
            "no text in a header",
            [&b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: \xff\xfe\r\n\r\n"[..]].concat(),
        ),
        ("carriage return in an id", health("x-request-id: a\rb\r\n")),
        ("97 headers", health(&many(97))),
        ("5,000 headers", health(&many(5_000))),
        ("header of 1 MB", health(&format!("X: {}\r\n", "a".repeat(1 << 20)))),
        (
            "target of 1 MB",
            asks(&format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(1 << 20))),
        ),
        (
            "query of 20 KB",
            asks(&format!("GET /healthz?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(20_000))),
        ),
        ("another's target", asks("GET http://evil.example/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        ("another's host", asks("GET http://localhost/v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n")),
        (
            "user in a target",
            asks("GET http://localhost@evil.example/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ),
        ("CONNECT", asks("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        ("OPTIONS *", asks("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        ("TRACE", asks("TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        ("method in small letters", asks("get /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        ("unknown method", asks("FOO /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        ("a thousand empty lines", asks(&format!("{}{get}", "\r\n".repeat(1_000)))),
        ("GET with a body", health("Content-Length: 5\r\n").into_iter().chain(*b"hello").collect()),
        ("HEAD", asks("HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")),
    ]
}

const PATHS: [&str; 21] = [
    "/admin/stats",
    "//admin/stats",
    "/admin/../admin/stats",
    "/v1/../admin/stats",
    "/%61dmin/stats",
    "/admin%2fstats",
    "/Admin/stats",
    "/admin/stats/",
    "/v1/models/..%2f..%2fadmin%2fstats",
    "/v1/models/%00",
    "/v1/models/%ff",
    "/v1/models/a%0d%0aX-Evil:1",
    "/v1/models//etc/passwd",
    "/v1/models/%2fetc%2fpasswd",
    "/v1/models/demo/",
    "/v1/models/./demo",
    "/v1/models/hf%3A%2F%2Forg%2Fname",
    "/.env",
    "/metrics/../admin/stats",
    "/debug/pprof",
    "/v1/models?x=../..",
];
/// Requests that are sent at once, and each of which has an answer.
const IN_A_ROW: [(&str, usize); 2] = [("three in a row", 3), ("a hundred in a row", 100)];
const ORDERS: [&str; 6] = ["shutdown", "unload", "pin", "generate", "warm", "pack"];

#[tokio::test]
async fn every_framing_has_its_answer_and_disturbs_nobody() {
    let fixture = Fixture::new().await;
    let mut told = String::new();
    for (name, bytes) in [lengths(), encodings(), chunks(), heads()].concat() {
        let (count, answer) = answered(&fixture, &bytes).await;
        writeln!(told, "{name}: {answer}").expect("a string");
        let asked = IN_A_ROW.iter().find(|(row, _)| *row == name);
        assert!(asked.is_none_or(|(_, asked)| count == *asked), "{name}: {count} answers");
        assert_eq!(get(&fixture, "/healthz").await.status, 200, "after {name}");
    }
    for path in PATHS {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (count, answer) = answered(&fixture, request.as_bytes()).await;
        assert_eq!(count, 1, "GET {path}");
        writeln!(told, "GET {path}: {answer}").expect("a string");
    }
    for order in ORDERS {
        let path = format!("/admin/{order}");
        assert_eq!(post(&fixture, &path, &serde_json::json!({})).await.status, 404, "{path}");
    }
    assert!(!fixture.handle.is_draining());
    assert_eq!(
        post(&fixture, "/v1/chat/completions", &serde_json::from_str(BODY).expect("JSON")).await.status,
        200
    );
    insta::assert_snapshot!(told);
}
