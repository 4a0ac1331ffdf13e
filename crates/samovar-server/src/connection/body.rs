//! The bodies of a request and of its answer: what is read in is counted until the answer is complete.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use samovar_core::byte_budget::{ByteBudget, Charge};

use super::tracker::ConnectionTracker;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The parser is given so much of an answer at a time, so that it never holds much that its reader has not taken.
const PIECE_BYTES: usize = 16 << 10;

/// A request under way: what its body takes, and what its connection is doing. Dropped when the parser has the last
/// piece of its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    tracker: ConnectionTracker,
    held: Arc<Mutex<Charge>>,
}

impl Exchange {
    pub(super) fn begin(
        tracker: &ConnectionTracker,
        budget: &ByteBudget,
        owner: &str,
        has_body: bool,
    ) -> Self {
        tracker.head_complete(has_body);
        Self { tracker: tracker.clone(), held: Arc::new(Mutex::new(budget.charge(owner))) }
    }

    /// The request's body, counted as it comes; what comes beyond `limit_bytes` is dropped.
    pub(super) fn reads(&self, body: hyper::body::Incoming, limit_bytes: usize) -> Body {
        let (tracker, held) = (self.tracker.clone(), Arc::clone(&self.held));
        let limit_bytes = limit_bytes as u64;
        Body::new(Counted { body, tracker, held, seen_bytes: 0, limit_bytes, is_refused: false })
    }

    /// The answer's body, with which the request ends.
    pub(super) fn writes(self, body: Body) -> Body {
        Body::new(Answering { body, rest: Bytes::new(), _exchange: self })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.tracker.handed_on();
    }
}

/// The body of a request. Fails once when the budget has no room for it; what comes afterwards is not counted, and not
/// to be kept.
struct Counted<B> {
    body: B,
    tracker: ConnectionTracker,
    held: Arc<Mutex<Charge>>,
    seen_bytes: u64,
    limit_bytes: u64,
    is_refused: bool,
}

impl<B> Counted<B> {
    fn count(&mut self, bytes: u64) -> Result<(), Error> {
        if self.is_refused {
            return Ok(());
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.seen_bytes += bytes;
        let is_over = self.seen_bytes > self.limit_bytes;
        let counted = if is_over { Ok(()) } else { held.grow(bytes) };
        self.is_refused = is_over || counted.is_err();
        if self.is_refused {
            held.clear();
        }
        Ok(counted?)
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Counted<B>
where
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.tracker.body_complete();
        }
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(Into::into)?;
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        Poll::Ready(Some(self.count(bytes).map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, in pieces.
struct Answering {
    body: Body,
    /// What has not been handed on of the last frame.
    rest: Bytes,
    _exchange: Exchange,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            match frame?.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let bytes = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of_body, rest_bytes) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest_bytes);
        if let Some(most) = of_body.upper() {
            hint.set_upper(most + rest_bytes);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use samovar_core::byte_budget::Exhausted;

    use super::*;

    fn counted(exchange: &Exchange, bytes: usize, limit_bytes: u64) -> Counted<Full<Bytes>> {
        Counted {
            body: Full::new(Bytes::from(vec![b'x'; bytes])),
            tracker: exchange.tracker.clone(),
            held: Arc::clone(&exchange.held),
            seen_bytes: 0,
            limit_bytes,
            is_refused: false,
        }
    }

    #[tokio::test]
    async fn what_is_read_is_held_until_the_answer_is_complete() {
        let budget = ByteBudget::new(1 << 20);
        let tracker = ConnectionTracker::new();
        let exchange = Exchange::begin(&tracker, &budget, "a", true);
        let body = counted(&exchange, 100_000, 1 << 20);
        assert_eq!(body.collect().await.expect("reads").to_bytes().len(), 100_000);
        assert!(tracker.is_serving());
        assert_eq!(budget.used_bytes(), 100_000);
        let answer = exchange.writes(Body::from("done"));
        assert_eq!(budget.used_bytes(), 100_000);
        answer.collect().await.expect("reads");
        assert_eq!(budget.used_bytes(), 0);
        assert!(tracker.is_serving(), "it has not been written");
        tracker.written();
        assert!(!tracker.is_serving());
    }

    #[tokio::test]
    async fn a_large_answer_is_handed_on_in_pieces_and_is_under_way_until_the_last() {
        let budget = ByteBudget::new(1 << 20);
        let tracker = ConnectionTracker::new();
        let exchange = Exchange::begin(&tracker, &budget, "a", false);
        let mut answer = exchange.writes(Body::from(vec![b'x'; 2 * PIECE_BYTES + 1]));
        let mut left = 2 * PIECE_BYTES as u64 + 1;
        for bytes in [PIECE_BYTES, PIECE_BYTES, 1] {
            assert_eq!((answer.size_hint().exact(), answer.is_end_stream()), (Some(left), false));
            let frame = answer.frame().await.expect("a piece").expect("reads");
            assert_eq!(frame.into_data().expect("data").len(), bytes);
            left -= bytes as u64;
            tracker.written();
            assert!(tracker.is_serving(), "what was written is not all");
        }
        assert!(answer.is_end_stream());
        drop(answer);
        tracker.written();
        assert!(!tracker.is_serving());
    }

    #[tokio::test]
    async fn a_body_that_finds_no_room_says_so_and_holds_nothing() {
        let budget = ByteBudget::new(100_000);
        let exchange = Exchange::begin(&ConnectionTracker::new(), &budget, "a", true);
        let error = counted(&exchange, 80_000, 1 << 20).collect().await.expect_err("no room");
        assert!(error.downcast_ref::<Exhausted>().is_some());
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn what_is_too_large_to_be_kept_is_not_counted() {
        let budget = ByteBudget::new(100_000);
        let exchange = Exchange::begin(&ConnectionTracker::new(), &budget, "a", true);
        counted(&exchange, 80_000, 10_000).collect().await.expect("is passed on");
        assert_eq!((budget.used_bytes(), budget.refusals()), (0, 0));
    }
}
