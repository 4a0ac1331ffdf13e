//! The beginning of a connection on a TLS port: a handshake, or an answer to a client that speaks plain HTTP.
//!
//! How long it may take is not decided here: its caller drops it.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Tls;
use super::first_byte::FirstByte;
use crate::connection;

/// With this byte each record of a handshake begins.
const HANDSHAKE_RECORD: u8 = 0x16;
/// Bytes of an answer that are encrypted before their reader has taken those before them.
const BUFFER_BYTES: usize = 32 << 10;
/// Time for the handshake of a client that is only told to come again.
const TURN_AWAY_LIMIT: Duration = Duration::from_secs(1);
const PLAIN_HTTP: &str = r#"{"error":{"message":"this port speaks HTTPS: write https:// instead of http://","type":"invalid_request_error","param":null,"code":"https_required"}}"#;

/// A connection after its handshake.
pub(crate) type Secured<S> = TlsStream<FirstByte<S>>;

impl Tls {
    /// The connection once client and server have agreed on keys; none when they have not, and the connection is closed.
    /// A client that speaks plain HTTP is told to use https.
    pub(crate) async fn handshake<S>(&self, mut stream: S) -> Option<Secured<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // A client that leaves before its first byte has begun no handshake.
        let first = stream.read_u8().await.ok()?;
        if first != HANDSHAKE_RECORD {
            let is_http = first.is_ascii_uppercase();
            self.count(if is_http { "plain_http" } else { "failed" });
            if is_http {
                connection::answer_unread(stream, "400 Bad Request", PLAIN_HTTP).await;
            }
            return None;
        }
        let acceptor = TlsAcceptor::from(self.current().await);
        let stream = FirstByte::new(stream, first);
        let accept = acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(BUFFER_BYTES)));
        match accept.into_fallible().await {
            Ok(secured) => {
                self.count("done");
                Some(secured)
            }
            Err((error, stream)) => {
                self.count("failed");
                tracing::debug!(%error, "a TLS handshake failed");
                // A close with unread bytes would throw the alert away that says why.
                connection::close(stream).await;
                None
            }
        }
    }

    /// Tells a client that comes when all connections are taken to try again, and closes.
    pub(crate) async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) {
        if let Ok(Some(secured)) = tokio::time::timeout(TURN_AWAY_LIMIT, self.handshake(stream)).await {
            connection::turn_away(secured).await;
        }
    }

    /// A handshake was dropped, for its time was over or its connection was closed for another.
    pub(crate) fn was_dropped(&self) {
        self.count("dropped");
    }

    fn count(&self, outcome: &'static str) {
        self.inner.metrics.tls_handshake(outcome);
    }
}
