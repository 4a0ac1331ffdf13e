//! Answers of one JSON object a line.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use serde::Serialize;

/// Bytes that are put into one write at most, when more events are ready at the same time.
const WRITE_BYTES: usize = 16 << 10;

/// A response of one line an event; events that are ready together leave together.
pub(crate) fn response<T, S>(events: S) -> Response
where
    T: Serialize,
    S: Stream<Item = T> + Send + Unpin + 'static,
{
    let writes = stream::unfold(events.fuse(), |mut events| async move {
        let mut lines = line(&events.next().await?);
        while lines.len() < WRITE_BYTES
            && let Some(Some(event)) = events.next().now_or_never()
        {
            lines.extend_from_slice(&line(&event));
        }
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(lines)), events))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(writes)).into_response()
}

fn line(event: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("invariant: events are plain data");
    line.push(b'\n');
    line
}
