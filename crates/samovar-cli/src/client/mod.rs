//! The daemon's admin API from the outside: HTTP over the Unix socket, one connection a request.
//!
//! ```text
//!   Client ── connect ──► Connection ── ask ─────► one JSON object
//!     │                       ├──────── stream ──► Lines, one JSON object each; drop = hang up = cancel
//!     │                       └──────── events ──► DaemonEvents: a snapshot, then what changes
//!     └── no daemon: `None`, so that callers decide whether to start one
//! ```
//!
//! Never starts a daemon and never prints.

mod daemon_backend;
mod events;
mod figures;
mod lines;

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use samovar::Changes;
use samovar_core::{ErrorKind, Failure};
use samovar_server::admin::wire::{
    DetokenizeBody, Detokenized, EmbedBody, GenerateBody, GenerateEvent, GroupBy, KeysInForce, ModelList,
    PackBody, PackEvent, PinBody, PrepareBody, PrepareEvent, ShutdownAnswer, ShutdownBody, TokenizeBody,
    Tokenized, UnloadBody, Unloaded, UsageReport, WarmBody, WarmEvent,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

pub(crate) use daemon_backend::DaemonBackend;
pub(crate) use events::{DaemonEvent, DaemonEvents};
pub(crate) use figures::{
    DecisionLine, Figures, LifetimeFigures, ModelFigures, StoreFigures, StoredFigures, TierFigures, Tiers,
};
pub(crate) use lines::Lines;

use crate::{exposure, home};

/// Answers that are one object come at once; a daemon that takes longer is stuck.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_MAX_BYTES: usize = 64 << 20;

/// Knows where the daemon would be.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// A daemon that accepted the connection.
#[derive(Debug)]
pub(crate) struct Connection {
    requests: SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// A connection, or `None` when no daemon listens. Nothing is sent unless it is this user's, or root's.
    ///
    /// # Errors
    /// `Forbidden` when the socket is another user's; `Storage` for anything stranger.
    pub(crate) async fn connect(&self) -> Result<Option<Connection>, Failure> {
        let Some(stream) = self.stream().await? else { return Ok(None) };
        let (requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| lost(&error.to_string()))?;
        tokio::spawn(connection);
        Ok(Some(Connection { requests }))
    }

    /// The same without HTTP.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub(crate) async fn stream(&self) -> Result<Option<UnixStream>, Failure> {
        let stream = match UnixStream::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error) => return absent_or(&self.socket, &error).map(|()| None),
        };
        let peer = stream.peer_cred().map_err(|error| lost(&home::plain(&error)))?;
        exposure::listener(&self.socket, peer.uid())?;
        Ok(Some(stream))
    }

    /// A connection to a daemon that must be there.
    ///
    /// # Errors
    /// `Unavailable` when none is.
    pub(crate) async fn connect_or_fail(&self) -> Result<Connection, Failure> {
        self.connect().await?.ok_or_else(no_daemon)
    }
}

impl Connection {
    /// The whole object, as `stats --json` prints it; [`Figures`] is the part that tables show.
    pub(crate) async fn stats(self) -> Result<Value, Failure> {
        self.get("/admin/stats").await
    }

    pub(crate) async fn models(self) -> Result<ModelList, Failure> {
        self.get("/admin/models").await
    }

    pub(crate) async fn why(self, model: &str) -> Result<Value, Failure> {
        self.get(&format!("/admin/why?model={}", percent_encoded(model))).await
    }

    pub(crate) async fn usage(self, by: &[GroupBy], back: Option<Duration>) -> Result<UsageReport, Failure> {
        let by = by.iter().map(|group| group.word()).collect::<Vec<_>>().join(",");
        let since = back.map(|back| format!("&since_ms={}", back.as_millis())).unwrap_or_default();
        self.get(&format!("/admin/usage?by={by}{since}")).await
    }

    pub(crate) async fn pin(self, body: &PinBody) -> Result<Value, Failure> {
        self.post("/admin/pin", body).await
    }

    pub(crate) async fn unload(self, body: &UnloadBody) -> Result<Unloaded, Failure> {
        self.post("/admin/unload", body).await
    }

    pub(crate) async fn shutdown(self, body: &ShutdownBody) -> Result<ShutdownAnswer, Failure> {
        self.post("/admin/shutdown", body).await
    }

    pub(crate) async fn reload(self) -> Result<Changes, Failure> {
        self.post("/admin/reload", &Value::Null).await
    }

    pub(crate) async fn reload_keys(self) -> Result<KeysInForce, Failure> {
        self.post("/admin/keys/reload", &Value::Null).await
    }

    pub(crate) async fn generate(self, body: &GenerateBody) -> Result<Lines<GenerateEvent>, Failure> {
        self.stream("/admin/generate", body).await
    }

    pub(crate) async fn embed(self, body: &EmbedBody) -> Result<Lines<GenerateEvent>, Failure> {
        self.stream("/admin/embed", body).await
    }

    pub(crate) async fn tokenize(self, body: &TokenizeBody) -> Result<Tokenized, Failure> {
        self.wait(request(Method::POST, "/admin/tokenize", encoded(body))).await
    }

    pub(crate) async fn detokenize(self, body: &DetokenizeBody) -> Result<Detokenized, Failure> {
        self.wait(request(Method::POST, "/admin/detokenize", encoded(body))).await
    }

    pub(crate) async fn warm(self, body: &WarmBody) -> Result<Lines<WarmEvent>, Failure> {
        self.stream("/admin/warm", body).await
    }

    pub(crate) async fn prepare(self, body: &PrepareBody) -> Result<Lines<PrepareEvent>, Failure> {
        self.stream("/admin/prepare", body).await
    }

    pub(crate) async fn pack(self, body: &PackBody) -> Result<Lines<PackEvent>, Failure> {
        self.stream("/admin/pack", body).await
    }

    /// What happens in the daemon, after the event with this id where the daemon still has what came after it; a snapshot first
    /// where it has not.
    pub(crate) async fn events(mut self, last_id: Option<&str>) -> Result<DaemonEvents, Failure> {
        let mut request = request(Method::GET, "/admin/events", Bytes::new());
        if let Some(id) = last_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            request.headers_mut().insert("last-event-id", id);
        }
        let response = self.requests.send_request(request).await.map_err(|error| lost(&error.to_string()))?;
        Ok(DaemonEvents::new(accepted(response).await?.into_body(), self.requests))
    }

    /// Whether the daemon takes requests; false when it is leaving.
    pub(crate) async fn takes_requests(self) -> bool {
        self.text("/readyz").await.is_ok()
    }

    /// The text that a path answers with.
    pub(crate) async fn text(mut self, path: &str) -> Result<String, Failure> {
        let request = request(Method::GET, path, Bytes::new());
        let response = self.requests.send_request(request).await.map_err(|error| lost(&error.to_string()))?;
        let bytes = whole(accepted(response).await?).await?;
        String::from_utf8(bytes.to_vec()).map_err(|_| strange("it is not UTF-8 text"))
    }

    async fn get<T: DeserializeOwned>(self, path: &str) -> Result<T, Failure> {
        self.ask(request(Method::GET, path, Bytes::new())).await
    }

    async fn post<T: DeserializeOwned>(self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.ask(request(Method::POST, path, encoded(body))).await
    }

    async fn ask<T: DeserializeOwned>(self, request: Request<Full<Bytes>>) -> Result<T, Failure> {
        tokio::time::timeout(ANSWER_LIMIT, self.wait(request)).await.unwrap_or_else(|_| {
            Err(Failure::new(
                ErrorKind::Unavailable,
                format!("the daemon did not answer within {} s", ANSWER_LIMIT.as_secs()),
            )
            .with_hint("see its log, or stop it and try again: `samovar doctor` says where both are"))
        })
    }

    /// The same, however long it takes: the answer may need a model.
    async fn wait<T: DeserializeOwned>(mut self, request: Request<Full<Bytes>>) -> Result<T, Failure> {
        let response = self.requests.send_request(request).await.map_err(|error| lost(&error.to_string()))?;
        let bytes = whole(accepted(response).await?).await?;
        serde_json::from_slice(&bytes).map_err(|error| strange(&error.to_string()))
    }

    async fn stream<T: DeserializeOwned>(
        mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Lines<T>, Failure> {
        let request = request(Method::POST, path, encoded(body));
        let response = self.requests.send_request(request).await.map_err(|error| lost(&error.to_string()))?;
        Ok(Lines::new(accepted(response).await?.into_body(), self.requests))
    }
}

fn request(method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(path).header("host", "samovar.local");
    let builder = if body.is_empty() { builder } else { builder.header("content-type", "application/json") };
    builder.body(Full::new(body)).expect("invariant: method, path and headers are well-formed")
}

fn encoded(body: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(body).expect("invariant: the wire types serialize"))
}

async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let bytes = whole(response).await?;
    Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| strange(&format!("it answered {status}"))))
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES);
    Ok(body.collect().await.map_err(|error| lost(&error.to_string()))?.to_bytes())
}

/// No process listens: no socket, or one that a dead daemon left behind.
fn absent_or(socket: &Path, error: &std::io::Error) -> Result<(), Failure> {
    use std::io::ErrorKind as Io;
    match error.kind() {
        // Reset: the listener closed while we were in its queue.
        Io::NotFound | Io::ConnectionRefused | Io::ConnectionReset | Io::NotADirectory => Ok(()),
        Io::WouldBlock => Err(Failure::new(ErrorKind::Busy, "too many commands wait for the daemon already")
            .with_hint("try again in a moment")),
        Io::PermissionDenied => Err(Failure::new(
            ErrorKind::Forbidden,
            format!("the daemon's socket {} is not yours", socket.display()),
        )
        .with_hint(
            "another user's daemon answers only that user; set SAMOVAR_HOME to a directory of your own",
        )),
        _ => Err(home::storage("reach the daemon at", socket, error)),
    }
}

/// What read-only verbs say when there is no daemon.
pub(crate) fn no_daemon() -> Failure {
    Failure::new(ErrorKind::Unavailable, "no daemon is running")
        .with_hint("`samovar run` starts one, or `samovar serve` in a terminal of its own")
}

/// What became of a connection that broke.
pub(crate) fn lost(reason: &str) -> Failure {
    Failure::new(ErrorKind::Unavailable, format!("the connection to the daemon broke: {reason}"))
        .with_hint("try again; `samovar doctor` says where its log is")
}

fn strange(reason: &str) -> Failure {
    Failure::new(ErrorKind::Internal, format!("the daemon's answer could not be read: {reason}"))
        .with_hint("it may be of another version: `samovar shutdown`, then try again")
}

/// A query value: everything but letters, digits and `-._~` as `%XX`.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("invariant: writing to a String succeeds");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_survive_every_character() {
        assert_eq!(percent_encoded("a/b c&ü"), "a%2Fb%20c%26%C3%BC");
    }

    #[tokio::test]
    async fn a_missing_or_dead_socket_means_no_daemon() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let socket = folder.path().join("s");
        let client = Client::new(socket.clone());
        assert!(client.connect().await.expect("no failure").is_none());
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("bind"));
        assert!(socket.exists());
        assert!(client.connect().await.expect("no failure").is_none());
        let failure = client.connect_or_fail().await.expect_err("no daemon there");
        assert_eq!(failure.kind, ErrorKind::Unavailable);
    }
}
