//! One connection: HTTP/1.1 with a bound on everything a client may send or keep waiting for.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;
use tower::ServiceExt;

use crate::activity::{Phase, ServerHandle};
use crate::client::Peer;
use crate::config::Limits;

/// Serves one connection to its end. When the server leaves, the request that runs is answered and
/// the connection closed.
pub(crate) async fn serve<S>(stream: S, peer: Peer, routes: Router, limits: Limits, server: &ServerHandle)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let routes = routes.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        async move { Ok::<_, Infallible>(answer(routes, request).await) }
    });
    let io = TokioIo::new(Impatient::new(stream, limits.write_stall));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = server.reached(Phase::Draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(routes: Router, request: axum::extract::Request) -> axum::response::Response {
    match routes.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Tells a client that comes when all connections are taken to try again, and closes.
pub(crate) async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    const BODY: &str = r#"{"error":{"message":"all connections are in use","type":"overloaded_error","param":null,"code":"busy"}}"#;
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    let goodbye = async {
        stream.write_all(head.as_bytes()).await?;
        stream.shutdown().await?;
        // A close with unread bytes would throw the answer away.
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    // Whoever takes longer than a second is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
}

/// A stream whose writes fail when its reader takes nothing for too long.
struct Impatient<S> {
    stream: S,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    const fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, stalled: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut stream = Impatient::new(ours, Duration::from_secs(30));
        stream.write_all(b"12345678").await.expect("fits");
        let error = stream.write_all(b"9").await.expect_err("stalls");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (ours, _kept) = tokio::io::duplex(8);
        let mut patient = Impatient::new(ours, Duration::from_secs(30));
        patient.write_all(b"12345678").await.expect("fits");
        drop(stream);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.expect("reads");
        assert_eq!(all, b"12345678");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_served_as_long_as_it_reads() {
        let (ours, mut theirs) = tokio::io::duplex(1);
        let mut stream = Impatient::new(ours, Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                theirs.read_u8().await.expect("a byte");
            }
        });
        stream.write_all(b"0123456789").await.expect("is never given up");
        reader.await.expect("ends");
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
}
