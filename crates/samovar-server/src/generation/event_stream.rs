//! An answer as server-sent events: what its choices say is written as soon as it is there.
//!
//! Events that are ready together leave in one write; nothing waits for company. A stream that has nothing to say for a second says
//! what it waits for, so that neither clients nor proxies take it for dead. How an event looks is its API's: an [`EventWriter`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use samovar::AnswerEvent;
use serde::Serialize;
use tokio::time::{Instant, Sleep};

use super::choices::Choices;
use super::opening::{Opening, never_began};
use super::phase::AnswerPhase;

/// Bytes after which no further event is put into one write: with the last event it is still one piece of the connection.
const WRITE_BYTES: usize = 12 << 10;
/// A stream that has nothing to say for so long says that it is alive.
const SILENCE: Duration = Duration::from_secs(1);
/// Tells proxies of the nginx family to pass each event on at once.
pub(crate) const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Turns what choices say into the bytes of an API.
pub(crate) trait EventWriter: Send + 'static {
    /// Writes what the choice `index` says.
    fn write(&mut self, index: usize, event: AnswerEvent);

    /// Writes that nothing is said yet, and what is waited for.
    fn wait(&mut self, phase: &AnswerPhase);

    /// Whether the last event was written.
    fn is_over(&self) -> bool;

    /// What was written and is not sent yet.
    fn bytes(&mut self) -> &mut Vec<u8>;
}

/// A comment, which clients pass over.
pub(crate) fn comment(bytes: &mut Vec<u8>, phase: &AnswerPhase) {
    bytes.extend_from_slice(format!(": {phase}\n\n").as_bytes());
}

/// An event without a name.
pub(crate) fn data(bytes: &mut Vec<u8>, object: &impl Serialize) {
    bytes.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut *bytes, object).expect("invariant: events are plain data");
    bytes.extend_from_slice(b"\n\n");
}

/// An event with a name.
pub(crate) fn named(bytes: &mut Vec<u8>, name: &str, object: &impl Serialize) {
    bytes.extend_from_slice(format!("event: {name}\n").as_bytes());
    data(bytes, object);
}

/// A stream of these choices, beginning with what they have said already.
pub(crate) fn response<W: EventWriter>(choices: Choices, opening: Opening, mut writer: W) -> Response {
    if !opening.is_over() {
        // Some proxies pass the head on with the first byte of the body only.
        writer.wait(&opening.phase);
    }
    let silence = Box::pin(tokio::time::sleep(SILENCE));
    let Opening { phase, events: said, .. } = opening;
    let stream = Stream { choices, said, writer, phase, silence, wrote: Instant::now() };
    let writes = stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (ACCEL_BUFFERING, "no"),
    ];
    (headers, Body::from_stream(writes)).into_response()
}

/// Choices on their way to a client.
struct Stream<W> {
    choices: Choices,
    /// What they have said that is not written yet.
    said: VecDeque<(usize, AnswerEvent)>,
    writer: W,
    phase: AnswerPhase,
    /// Ends when a word may be due; it is not set anew for each token.
    silence: Pin<Box<Sleep>>,
    wrote: Instant,
}

impl<W: EventWriter> Stream<W> {
    /// What is to be written next; `None` after the end.
    async fn next(&mut self) -> Option<Bytes> {
        while self.writer.bytes().is_empty() {
            if self.writer.is_over() {
                return None;
            }
            if let Some(event) = self.said.pop_front() {
                self.take(event);
                continue;
            }
            tokio::select! {
                biased;
                event = self.choices.next() => match event {
                    Some(event) => self.take(event),
                    None => self.writer.write(0, AnswerEvent::Failed(never_began())),
                },
                () = &mut self.silence => self.break_silence(),
            }
        }
        while self.writer.bytes().len() < WRITE_BYTES
            && !self.writer.is_over()
            && let Some(event) = self.said.pop_front().or_else(|| self.choices.ready())
        {
            self.take(event);
        }
        self.wrote = Instant::now();
        Some(Bytes::from(std::mem::take(self.writer.bytes())))
    }

    fn take(&mut self, (index, event): (usize, AnswerEvent)) {
        self.phase.take(&event);
        self.writer.write(index, event);
    }

    fn break_silence(&mut self) {
        let now = Instant::now();
        let mut due = self.wrote + SILENCE;
        if due <= now {
            self.writer.wait(&self.phase);
            due = now + SILENCE;
        }
        self.silence.as_mut().reset(due);
    }
}
