//! The bytes of a connection: a reader that takes nothing is given up, and a client that has said all it has to say is
//! told from one that has left.
//!
//! ```text
//!   end of what the client sends ─► nothing is being answered ──────────────► the end
//!                                   a body is not complete, after a moment ──► the end
//!                                   else: is its end of the line still held? ─ no ─► the end: its answer is dropped
//!                                          (asked again each second)          └ yes ─► after the answer
//! ```

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::half_open::HalfOpen;
use super::tracker::{ConnectionTracker, Doing};

/// How often a client that sends no more is asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Time for a handler to take what has come of a body.
const SETTLE: Duration = Duration::from_millis(200);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A stream whose writes fail when its reader takes nothing for too long, and whose end is that of its client.
pub(crate) struct Stream<S> {
    inner: S,
    tracker: ConnectionTracker,
    time_limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// The client sends no more.
    end: Option<End>,
}

/// What is done about a client that sends no more.
enum End {
    Seen,
    /// The parser may have the whole of a body that its handler has not taken yet.
    Settling(Boxed<()>),
    /// The body is not complete, and will never be.
    Settled,
    /// Whether it is still there.
    Asking(Boxed<bool>),
    /// Until it is asked for again, or its answer is complete.
    Resting(Boxed<()>),
}

impl<S: HalfOpen> Stream<S> {
    pub(crate) fn new(inner: S, tracker: ConnectionTracker, time_limit: Duration) -> Self {
        Self { inner, tracker, time_limit, stalled: None, end: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.stalled.take().is_some() {
                self.tracker.writes(false);
            }
            return written;
        }
        let (time_limit, tracker) = (self.time_limit, &self.tracker);
        let stalled = self.stalled.get_or_insert_with(|| {
            tracker.writes(true);
            Box::pin(tokio::time::sleep(time_limit))
        });
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing")))
    }

    /// Resolves when the end of what the client sends is the end of the connection.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let doing = self.tracker.state().doing;
            self.end = Some(match self.end.take() {
                Some(End::Settled) if doing == Doing::Body => {
                    self.end = Some(End::Settled);
                    return Poll::Ready(());
                }
                Some(End::Settling(mut settling)) => match settling.as_mut().poll(cx) {
                    Poll::Ready(()) if self.tracker.state().doing == Doing::Body => End::Settled,
                    Poll::Ready(()) => End::Seen,
                    Poll::Pending => {
                        self.end = Some(End::Settling(settling));
                        return Poll::Pending;
                    }
                },
                _ if doing == Doing::Body => End::Settling(self.wait_for_change_of(Doing::Body, SETTLE)),
                _ if doing != Doing::Serving => break,
                None | Some(End::Seen | End::Settled) => End::Asking(self.ask()),
                Some(End::Asking(mut asking)) => match asking.as_mut().poll(cx) {
                    Poll::Ready(true) => End::Resting(self.wait_for_change_of(Doing::Serving, ASK_EVERY)),
                    Poll::Ready(false) => break,
                    Poll::Pending => {
                        self.end = Some(End::Asking(asking));
                        return Poll::Pending;
                    }
                },
                Some(End::Resting(mut resting)) => match resting.as_mut().poll(cx) {
                    Poll::Ready(()) => End::Seen,
                    Poll::Pending => {
                        self.end = Some(End::Resting(resting));
                        return Poll::Pending;
                    }
                },
            });
        }
        self.end = Some(End::Seen);
        Poll::Ready(())
    }

    /// Whether the client is still there; of no interest once its answer is complete.
    fn ask(&self) -> Boxed<bool> {
        let (asked, tracker) = (self.inner.is_half_open(), self.tracker.clone());
        Box::pin(async move {
            tokio::select! {
                is_there = asked => is_there,
                () = tracker.ended(Doing::Serving) => true,
            }
        })
    }

    fn wait_for_change_of(&self, doing: Doing, most: Duration) -> Boxed<()> {
        let tracker = self.tracker.clone();
        Box::pin(async move {
            // Whichever comes first.
            let _ = tokio::time::timeout(most, tracker.ended(doing)).await;
        })
    }
}

impl<S: AsyncRead + HalfOpen + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.is_none() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
            if buffer.filled().len() > before {
                self.tracker.heard();
                return Poll::Ready(Ok(()));
            }
            if buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_end(cx).map(Ok)
    }
}

impl<S: AsyncWrite + HalfOpen + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        // The parser flushes when it has written all that it had.
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.tracker.written();
        }
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Over TLS there may be something to write.
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    fn impatient(stream: DuplexStream) -> Stream<DuplexStream> {
        Stream::new(stream, ConnectionTracker::new(), Duration::from_secs(30))
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut stream = impatient(ours);
        stream.write_all(b"12345678").await.expect("fits");
        let error = stream.write_all(b"9").await.expect_err("stalls");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(stream.tracker.state().stalled.is_some());

        let (ours, _kept) = tokio::io::duplex(8);
        let mut patient = impatient(ours);
        patient.write_all(b"12345678").await.expect("fits");
        drop(stream);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.expect("reads");
        assert_eq!(all, b"12345678");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_served_as_long_as_it_reads() {
        let (ours, mut theirs) = tokio::io::duplex(1);
        let mut stream = impatient(ours);
        let reader = tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                theirs.read_u8().await.expect("a byte");
            }
        });
        stream.write_all(b"0123456789").await.expect("is never given up");
        assert!(stream.tracker.state().stalled.is_none());
        reader.await.expect("ends");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_within_a_body_waits_a_moment_for_its_handler() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut stream = impatient(ours);
        let tracker = stream.tracker.clone();
        theirs.shutdown().await.expect("shuts");
        tracker.head_complete(true);
        let began = tokio::time::Instant::now();
        assert_eq!(stream.read(&mut [0]).await.expect("reads"), 0, "the body is cut");
        assert_eq!(began.elapsed(), SETTLE);
        assert_eq!(stream.read(&mut [0]).await.expect("reads"), 0);
        assert_eq!(began.elapsed(), SETTLE, "once is enough");
        tracker.idle_for_tests();
        tracker.head_complete(true);
        tracker.body_complete();
        let early = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut [0])).await;
        assert!(early.is_err(), "it was complete and is being answered");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_the_answer_of_a_client_that_is_still_there() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut stream = impatient(ours);
        let tracker = stream.tracker.clone();
        tracker.head_complete(false);
        theirs.shutdown().await.expect("shuts");
        let mut byte = [0];
        let early = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut byte)).await;
        assert!(early.is_err(), "it is being answered");
        tracker.idle_for_tests();
        assert_eq!(stream.read(&mut byte).await.expect("reads"), 0);
        // A request that had come before the end is answered as well.
        tracker.head_complete(false);
        let early = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut byte)).await;
        assert!(early.is_err());
    }
}
