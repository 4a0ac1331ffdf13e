//! One connection: HTTP/1.1 with a bound on everything a client may send or keep waiting for.
//!
//! ```text
//!   stream ─► (TLS) ─► parser ─► Exchange ─► routes      tracker: what it is doing, for how long it may, and who may have its place
//! ```

mod body;
mod half_open;
mod stream;
mod tracker;

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use samovar_core::ByteBudget;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tower::ServiceExt;

use crate::activity::{Phase, ServerHandle};
use crate::client::Peer;
use crate::config::Limits;
use crate::tls::Tls;
use body::Exchange;
pub(crate) use half_open::HalfOpen;
pub(crate) use stream::Stream;
pub(crate) use tracker::{ConnectionTracker, Doing, State};

/// Time for the last words to a client.
const GOODBYE: Duration = Duration::from_secs(1);

/// What each connection of a listener shares.
#[derive(Clone)]
pub(crate) struct ConnectionContext {
    pub(crate) routes: Router,
    pub(crate) limits: Limits,
    /// For what requests hold.
    pub(crate) budget: ByteBudget,
    pub(crate) server: ServerHandle,
}

/// The same over TLS. The handshake counts as waiting for the first byte of a request: with that byte's time, and closed for
/// other connections as early.
pub(crate) async fn serve_secured<S>(
    stream: S,
    peer: Peer,
    tracker: &ConnectionTracker,
    context: ConnectionContext,
    tls: &Tls,
) where
    S: AsyncRead + AsyncWrite + HalfOpen + Unpin + Send + 'static,
{
    let secured = tokio::select! {
        secured = tls.handshake(stream) => secured,
        _ = tracker.over(&context.limits) => {
            tls.was_dropped();
            None
        }
        () = context.server.reached(Phase::Draining) => None,
    };
    if let Some(secured) = secured {
        serve(secured, peer, tracker, context).await;
    }
}

/// Serves one connection to its end. When the server leaves, the request that runs is answered and
/// the connection closed.
pub(crate) async fn serve<S>(stream: S, peer: Peer, tracker: &ConnectionTracker, context: ConnectionContext)
where
    S: AsyncRead + AsyncWrite + HalfOpen + Unpin + Send + 'static,
{
    let ConnectionContext { routes, limits, budget, server } = context;
    let keep_alive = HeaderValue::try_from(format!("timeout={}", limits.idle_timeout.as_secs())).ok();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let exchange = Exchange::begin(tracker, &budget, peer.name(), !request.body().is_end_stream());
        let stays = stays_open(request.version(), request.headers());
        let mut request = request.map(|body| exchange.reads(body, limits.body_bytes));
        request.extensions_mut().insert(peer.clone());
        let (routes, keep_alive) = (routes.clone(), keep_alive.clone().filter(|_| stays));
        async move {
            let mut response = answer(routes, request).await;
            if let Some(keep_alive) = keep_alive {
                response.headers_mut().insert(header::HeaderName::from_static("keep-alive"), keep_alive);
            }
            Ok::<_, Infallible>(response.map(|body| exchange.writes(body)))
        }
    });
    let io = TokioIo::new(Stream::new(stream, tracker.clone(), limits.write_stall));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The tracker has times of its own for a head and for the silence before it.
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let mut is_leaving = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = server.reached(Phase::Draining), if !is_leaving => {
                is_leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            doing = tracker.over(&limits) => match doing {
                // A request may be about to begin: it is answered, and the connection closed.
                Doing::Idle if !is_leaving && !tracker.state().is_dismissed => {
                    is_leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                doing => {
                    tracing::debug!(doing = doing.word(), "a connection is closed");
                    return;
                }
            },
        }
    }
}

/// Whether the client wants the connection kept after this request.
fn stays_open(version: Version, headers: &HeaderMap) -> bool {
    let says = |word: &str| {
        let values = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
    };
    if version == Version::HTTP_11 { !says("close") } else { says("keep-alive") }
}

async fn answer(routes: Router, request: axum::extract::Request) -> axum::response::Response {
    match routes.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Tells a client that comes when all connections are taken to try again, and closes.
pub(crate) async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    const BODY: &str = r#"{"error":{"message":"all connections are in use","type":"overloaded_error","param":null,"code":"busy"}}"#;
    answer_unread(stream, "503 Service Unavailable\r\nretry-after: 1", BODY).await;
}

/// Answers a request that is not read with this status, the headers after it, and this JSON, and closes.
pub(crate) async fn answer_unread<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    status: &str,
    body: &str,
) {
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let written = tokio::time::timeout(GOODBYE, stream.write_all(answer.as_bytes())).await;
    if matches!(written, Ok(Ok(()))) {
        close(stream).await;
    }
}

/// Closes once the client has: a close with unread bytes would throw away what was written last. A client that takes longer than a
/// second is not waited for.
pub(crate) async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let goodbye = async {
        stream.shutdown().await?;
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    /// The client's end of a connection through which it has asked for so many bytes.
    async fn asked_for(bytes: usize) -> (DuplexStream, ConnectionTracker) {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let routes = Router::new().route("/", axum::routing::get(move || async move { "x".repeat(bytes) }));
        let (limits, budget) = (Limits::default(), ByteBudget::new(1 << 20));
        let context = ConnectionContext { routes, limits, budget, server: ServerHandle::new() };
        let tracker = ConnectionTracker::new();
        let of_server = tracker.clone();
        tokio::spawn(async move { serve(ours, Peer::of_user(7), &of_server, context).await });
        theirs.write_all(ASK).await.expect("writes");
        (theirs, tracker)
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_kept_for_its_time_and_not_that_of_a_head() {
        let limits = Limits::default();
        let (mut client, tracker) = asked_for(5).await;
        let mut all = Vec::new();
        while !all.ends_with(b"xxxxx") {
            all.push(client.read_u8().await.expect("an answer"));
        }
        tracker.ended(Doing::Serving).await;
        tokio::time::sleep(limits.idle_timeout.saturating_sub(Duration::from_secs(1))).await;
        client.write_all(ASK).await.expect("it is kept");
        all.clear();
        let asked_again = tokio::time::Instant::now();
        client.read_to_end(&mut all).await.expect("reads");
        assert!(all.ends_with(b"xxxxx"), "it was closed before");
        assert_eq!(asked_again.elapsed(), limits.idle_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_under_way_until_its_slow_reader_has_it() {
        const BYTES: usize = 8 << 10;
        let (mut client, tracker) = asked_for(BYTES).await;
        let mut all = Vec::new();
        while !all.ends_with(&[b'x'; BYTES]) {
            // In all longer than a connection may be idle.
            tokio::time::sleep(Duration::from_secs(20)).await;
            if all.is_empty() {
                assert_eq!(tracker.state().doing, Doing::Serving);
            }
            let mut part = [0; 1024];
            let read = client.read(&mut part).await.expect("reads");
            assert!(read > 0, "it was closed after {} bytes", all.len());
            all.extend_from_slice(&part[..read]);
        }
        tracker.ended(Doing::Serving).await;
        assert_eq!(tracker.state().doing, Doing::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_too_late_is_told_to_try_again() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("writes");
        theirs.shutdown().await.expect("shuts");
        turn_away(ours).await;
        let mut said = String::new();
        theirs.read_to_string(&mut said).await.expect("reads");
        assert!(said.starts_with("HTTP/1.1 503") && said.contains("retry-after: 1"), "{said}");
    }

    #[test]
    fn who_asks_for_a_close_is_promised_nothing() {
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(header::CONNECTION, HeaderValue::from_static(value))])
        };
        assert!(stays_open(Version::HTTP_11, &HeaderMap::new()));
        assert!(!stays_open(Version::HTTP_11, &headers("Foo, Close")));
        assert!(!stays_open(Version::HTTP_10, &HeaderMap::new()));
        assert!(stays_open(Version::HTTP_10, &headers("keep-alive")));
    }
}
