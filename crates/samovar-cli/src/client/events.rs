//! The daemon's stream of server-sent events, read one event at a time.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use samovar_core::Failure;
use serde_json::Value;

use super::{lost, strange};

/// A snapshot of many models is large; more than this is not one of ours.
const EVENT_MAX_BYTES: usize = 16 << 20;

/// One event of the stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DaemonEvent {
    /// Where a later stream can go on; empty for an event without one.
    pub(crate) id: String,
    /// `snapshot`, `delta` or `leaving`.
    pub(crate) name: String,
    /// What it tells.
    pub(crate) data: Value,
}

/// Events of the daemon. **Dropping it hangs up.**
pub(crate) struct DaemonEvents {
    body: Incoming,
    /// The connection closes when this is dropped.
    _requests: SendRequest<Full<Bytes>>,
    parser: Parser,
}

impl DaemonEvents {
    pub(super) fn new(body: Incoming, requests: SendRequest<Full<Bytes>>) -> Self {
        Self { body, _requests: requests, parser: Parser::default() }
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// `Unavailable` when the daemon goes away, `Internal` for bytes that are no such event.
    ///
    /// # Cancel safety
    /// Cancel safe: what arrived is kept.
    pub(crate) async fn next(&mut self) -> Result<Option<DaemonEvent>, Failure> {
        loop {
            if let Some(event) = self.parser.next()? {
                return Ok(Some(event));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.parser.rest.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(lost(&error.to_string())),
                None => return Ok(None),
            }
        }
    }
}

/// Bytes that are no whole event yet.
#[derive(Debug, Default)]
struct Parser {
    rest: Vec<u8>,
    /// So many of them have no end of an event.
    searched: usize,
}

impl Parser {
    /// The next event that is here as a whole; comments are passed over.
    fn next(&mut self) -> Result<Option<DaemonEvent>, Failure> {
        loop {
            let begin = self.searched.saturating_sub(1);
            let end = self.rest[begin..].windows(2).position(|pair| pair == b"\n\n");
            let Some(end) = end.map(|end| begin + end) else {
                self.searched = self.rest.len();
                if self.rest.len() > EVENT_MAX_BYTES {
                    return Err(strange(&format!("an event has more than {EVENT_MAX_BYTES} bytes")));
                }
                return Ok(None);
            };
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            self.searched = 0;
            if let Some(event) = read(&block)? {
                return Ok(Some(event));
            }
        }
    }
}

/// What the lines of an event say; `None` for a comment.
fn read(block: &[u8]) -> Result<Option<DaemonEvent>, Failure> {
    let text = std::str::from_utf8(block).map_err(|_| strange("it is not UTF-8 text"))?;
    let mut event = DaemonEvent::default();
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => id.clone_into(&mut event.id),
            Some(("event", name)) => name.clone_into(&mut event.name),
            Some(("data", data)) => {
                event.data = serde_json::from_str(data).map_err(|error| strange(&error.to_string()))?;
            }
            _ => {}
        }
    }
    Ok((!event.name.is_empty()).then_some(event))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_read_however_the_bytes_are_cut() {
        let stream =
            "id: 7-0\nevent: snapshot\ndata: {\"a\":\"ü\"}\n\n: still here\n\nevent: leaving\ndata: {}\n\n";
        for size in 1..stream.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for bytes in stream.as_bytes().chunks(size) {
                parser.rest.extend_from_slice(bytes);
                while let Some(event) = parser.next().expect("events") {
                    events.push(event);
                }
            }
            let snapshot =
                DaemonEvent { id: "7-0".into(), name: "snapshot".into(), data: json!({ "a": "ü" }) };
            let leaving = DaemonEvent { id: String::new(), name: "leaving".into(), data: json!({}) };
            assert_eq!(events, [snapshot, leaving], "{size}");
        }
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        let mut parser = Parser { rest: b"event: delta\ndata: {\n\n".to_vec(), searched: 0 };
        assert!(parser.next().is_err());
        let mut endless = Parser { rest: vec![b'x'; EVENT_MAX_BYTES + 1], searched: 0 };
        assert!(endless.next().is_err());
    }
}
