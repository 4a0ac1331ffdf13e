//! A client that hides nothing: what came over the wire, byte by byte.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 when the connection ended without one.
    pub(crate) status: u16,
    head: String,
    /// All that followed the head until the connection ended.
    pub(crate) body: Vec<u8>,
    /// Whether the connection ended in a reset, or nothing more came.
    pub(crate) broke: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Where it redirects to: listener and target.
    pub(crate) fn location(&self) -> (String, String) {
        let location = self.header("location").unwrap();
        match location.strip_prefix("http://") {
            Some(rest) => {
                let (host, path) = rest.split_once('/').unwrap();
                (host.to_owned(), format!("/{path}"))
            }
            None => (String::new(), location.to_owned()),
        }
    }
}

/// One request on a connection of its own; waits for its end, or until nothing came for a while.
pub(crate) fn ask(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    ask_with(address, method, target, headers, "")
}

pub(crate) fn ask_with(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut bytes = Vec::new();
    let broke = stream.read_to_end(&mut bytes).is_err();
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Answer { status: 0, head: String::new(), body: bytes, broke };
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec(), broke }
}

pub(crate) fn get(address: SocketAddr, target: &str) -> Answer {
    ask(address, "GET", target, &[])
}
