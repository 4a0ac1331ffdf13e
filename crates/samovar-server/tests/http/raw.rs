//! An HTTP client that sends exactly what a test wrote.

use std::path::Path;

use samovar_core::testing::fake::FakeEngine;
use samovar_core::{ErrorKind, Failure};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::fixture::Fixture;

/// An answer, complete.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }

    /// The objects of a stream of events, without its comments; `[DONE]` comes last.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.header("content-type"), Some("text/event-stream; charset=utf-8"), "{}", self.body);
        let mut events: Vec<&str> = self.body.split("\n\n").collect();
        assert_eq!(events.pop(), Some(""), "the stream ends with an empty line");
        assert_eq!(events.pop(), Some("data: [DONE]"));
        let object = |event: &str| {
            serde_json::from_str(event.strip_prefix("data: ").expect("data")).expect("an object")
        };
        events.into_iter().filter(|event| !event.starts_with(": ")).map(object).collect()
    }

    /// The objects of a stream of events that have names, without comments and pings; each has its event's name as its type.
    pub(crate) fn named_events(&self) -> Vec<Value> {
        assert_eq!(self.header("content-type"), Some("text/event-stream; charset=utf-8"), "{}", self.body);
        let events =
            self.body.strip_suffix("\n\n").expect("the stream ends with an empty line").split("\n\n");
        let named = events.filter(|event| !event.starts_with(": ")).map(|event| {
            let named = event.strip_prefix("event: ").and_then(|event| event.split_once("\ndata: "));
            let (name, data) = named.expect("a name and data");
            let object: Value = serde_json::from_str(data).expect("an object");
            assert_eq!(object["type"], name);
            object
        });
        named.filter(|event| event["type"] != "ping").collect()
    }

    /// What the comments of a stream say.
    pub(crate) fn comments(&self) -> Vec<&str> {
        self.body.split("\n\n").filter_map(|event| event.strip_prefix(": ")).collect()
    }

    /// The objects of an answer of one a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.header("content-type"), Some("application/x-ndjson"), "{}", self.body);
        self.body.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
    }

    pub(crate) fn error(&self) -> Value {
        let mut body = self.json();
        assert_eq!(body.as_object().expect("object").len(), 1, "{body}");
        body["error"].take()
    }
}

/// What a client writes for a request that ends the connection.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    let has = |name: &str| headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name));
    if !has("host") {
        text.push_str("host: localhost\r\n");
    }
    if method == "POST" && !has("content-type") {
        text.push_str("content-type: application/json\r\n");
    }
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    text + &format!("content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

pub(crate) async fn tcp(fixture: &Fixture) -> TcpStream {
    TcpStream::connect(fixture.address).await.expect("connects")
}

pub(crate) async fn unix(socket: &Path) -> UnixStream {
    UnixStream::connect(socket).await.expect("connects")
}

/// Sends bytes as they are and reads until the server closes.
pub(crate) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: impl AsRef<[u8]>,
) -> Answer {
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes.as_ref()).await;
    read(stream).await
}

pub(crate) async fn read(mut stream: impl AsyncRead + Unpin) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    parse(&bytes)
}

pub(crate) async fn post(fixture: &Fixture, path: &str, body: &Value) -> Answer {
    exchange(tcp(fixture).await, request("POST", path, &[], &body.to_string())).await
}

pub(crate) async fn get(fixture: &Fixture, path: &str) -> Answer {
    exchange(tcp(fixture).await, request("GET", path, &[], "")).await
}

/// The answer to a request whose model fails to load after the stream has said `begun`.
pub(crate) async fn broken_load(path: &str, body: &Value, begun: &str) -> Answer {
    let fixture = Fixture::on(FakeEngine::builder().gate_loads()).await;
    let failure = Failure::new(ErrorKind::InvalidModel, "no such tensor in /srv/m.gguf");
    fixture.engine.fail_next_loads(1, failure);
    let mut stream = tcp(&fixture).await;
    let text = request("POST", path, &[], &body.to_string());
    stream.write_all(text.as_bytes()).await.expect("writes");
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(begun) {
        assert_ne!(stream.read_buf(&mut bytes).await.expect("reads"), 0);
    }
    fixture.engine.loads_gate().open();
    stream.read_to_end(&mut bytes).await.expect("reads");
    parse(&bytes)
}

/// To the owner's socket.
pub(crate) async fn owner(fixture: &Fixture, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    exchange(unix(&fixture.socket).await, request(method, path, &[], &body)).await
}

pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
    let head = std::str::from_utf8(&bytes[..end]).expect("UTF-8");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").expect("a header"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let is_chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = &bytes[end + 4..];
    let body = if is_chunked { dechunk(body) } else { body.to_vec() };
    Answer {
        status: status.parse().expect("a number"),
        headers,
        body: String::from_utf8(body).expect("UTF-8"),
    }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").expect("a chunk's size");
        let size = std::str::from_utf8(&bytes[..end]).expect("ASCII");
        let size = usize::from_str_radix(size, 16).expect("hex");
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
}
