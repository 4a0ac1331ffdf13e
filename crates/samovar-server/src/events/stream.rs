//! `GET /admin/events`: one listener's stream. It ends when the daemon leaves, or its key is not valid any more; it counts as no request
//! that uses a model.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::time::timeout;

use super::feed::Listener;
use super::producer;
use crate::activity::{Phase, ServerHandle};
use crate::admin::Refused;
use crate::app::App;
use crate::generation::event_stream::ACCEL_BUFFERING;
use crate::generation::running::end_of_key;
use crate::keys::Account;

/// A stream without news for so long sends a comment, so that neither clients nor proxies take it for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// `GET /admin/events`.
pub(crate) async fn events(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refused> {
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let shared = Arc::downgrade(&app.shared);
    let listener = app.events.listen(last, || drop(crate::task::spawn(producer::produce(shared)))).await?;
    let (server, account) = (app.server.clone(), app.account.clone());
    let stream = Stream { listener, server, account, has_ended: false };
    let writes = stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (ACCEL_BUFFERING, "no"),
    ];
    Ok((headers, Body::from_stream(writes)).into_response())
}

struct Stream {
    listener: Listener,
    server: ServerHandle,
    /// The key that it was asked for with.
    account: Option<Arc<Account>>,
    has_ended: bool,
}

impl Stream {
    /// What is to be written next; `None` after the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        tokio::select! {
            biased;
            () = self.server.reached(Phase::Draining) => {
                self.has_ended = true;
                Some(Bytes::from_static(b"event: leaving\ndata: {}\n\n"))
            }
            _ = end_of_key(self.account.as_deref()) => None,
            frame = timeout(HEARTBEAT, self.listener.next()) => {
                Some(frame.unwrap_or(Bytes::from_static(b": still here\n\n")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::events::Feed;

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_news_says_that_it_is_alive_and_ends_when_the_server_leaves() {
        let feed = Arc::new(Feed::new(1));
        let producer = Arc::clone(&feed);
        let look = || producer.take_in(crate::events::state::State::default());
        let listener = feed.listen(None, look).await.expect("there is room");
        let server = ServerHandle::new();
        let mut stream = Stream { listener, server: server.clone(), account: None, has_ended: false };
        let first = stream.next().await.expect("a snapshot");
        assert!(first.starts_with(b"id: 1-0\nevent: snapshot\n"), "{first:?}");
        let began = Instant::now();
        assert!(stream.next().await.expect("a comment").starts_with(b":"));
        assert_eq!(began.elapsed(), HEARTBEAT);
        server.enter(Phase::Draining);
        assert!(stream.next().await.expect("the last event").starts_with(b"event: leaving\n"));
        assert!(stream.next().await.is_none());
    }
}
