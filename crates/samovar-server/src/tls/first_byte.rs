//! A stream whose first byte was read to see what its client speaks, and that is read again from there.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::connection::HalfOpen;

/// A stream whose first byte was read already, and is read again.
#[derive(Debug)]
pub(crate) struct FirstByte<S> {
    inner: S,
    first: Option<u8>,
}

impl<S> FirstByte<S> {
    pub(super) fn new(inner: S, first: u8) -> Self {
        Self { inner, first: Some(first) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstByte<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstByte<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: HalfOpen> HalfOpen for FirstByte<S> {
    fn is_half_open(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        self.inner.is_half_open()
    }
}

/// A client that says that it sends no more, by TLS or below it, is looked for as on a plain connection.
impl<S: HalfOpen> HalfOpen for TlsStream<S> {
    fn is_half_open(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        self.get_ref().0.is_half_open()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn the_first_byte_is_read_again_before_the_others() {
        let mut stream = FirstByte::new(&b"ello"[..], b'h');
        assert_eq!(stream.read(&mut []).await.expect("reads"), 0, "no room takes no byte");
        let mut all = String::new();
        stream.read_to_string(&mut all).await.expect("reads");
        assert_eq!(all, "hello");
    }
}
