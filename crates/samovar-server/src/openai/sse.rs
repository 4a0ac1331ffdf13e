//! A response as server-sent events: one chunk a token, written as soon as it is there.
//!
//! ```text
//!   data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}
//!   data: {"choices":[{"index":0,"delta":{"content":"Once"},"finish_reason":null}]}
//!   data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"samovar":{…}}
//!   data: {"choices":[],"usage":{…}}                                    (when asked for)
//!   data: [DONE]
//! ```
//!
//! Thoughts come as `delta.reasoning_content`, calls as `delta.tool_calls`: first the id and the name, then the arguments in
//! pieces. Neither is ever taken back.
//!
//! Events that are ready together leave in one write; nothing waits for company. A stream that has nothing to say for a
//! second says in a comment, which clients pass over, what it waits for: so neither they nor proxies take it for dead.
//!
//! ```text
//!   : waiting for a slot: place 3 in the queue, about 12 s
//!   : computing the prompt
//! ```

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use samovar::{AnswerEvent, Summary};
use samovar_core::Failure;
use samovar_core::generation::TokenLogprob;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, Sleep};

use super::error::object;
use super::shape::{Envelope, Extra, Frame, Shape, UsageObject, characters};
use crate::generation::choices::Choices;
use crate::generation::opening::{Opening, never_began};
use crate::generation::phase::AnswerPhase;
use crate::redact::redact;

/// Bytes after which no further event is put into one write: with the last event it is still one piece of the connection.
const WRITE_BYTES: usize = 12 << 10;
/// A stream that has nothing to say for so long says that it is alive.
const SILENCE: Duration = Duration::from_secs(1);
/// Tells proxies of the nginx family to pass each event on at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Turns events into bytes.
pub(super) struct Writer<S> {
    frame: Frame,
    shape: S,
    includes_usage: bool,
    usage: UsageObject,
    /// What was said of each choice.
    said: Vec<Said>,
    unfinished: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
struct Said {
    has_begun: bool,
    characters: usize,
}

/// A stream of these choices, beginning with what they have said already.
pub(super) fn response<S: Shape>(choices: Choices, opening: Opening, mut writer: Writer<S>) -> Response {
    if !opening.is_over() {
        // Some proxies pass the head on with the first byte of the body only.
        writer.comment(&opening.phase);
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
struct Stream<S> {
    choices: Choices,
    /// What they have said that is not written yet.
    said: VecDeque<(usize, AnswerEvent)>,
    writer: Writer<S>,
    phase: AnswerPhase,
    /// Ends when a comment may be due; it is not set anew for each token.
    silence: Pin<Box<Sleep>>,
    wrote: Instant,
}

impl<S: Shape> Stream<S> {
    /// What is to be written next; `None` after the end.
    async fn next(&mut self) -> Option<Bytes> {
        while self.writer.bytes.is_empty() {
            if self.writer.unfinished == 0 {
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
                    None => self.writer.failed(never_began()),
                },
                () = &mut self.silence => self.break_silence(),
            }
        }
        while self.writer.bytes.len() < WRITE_BYTES
            && self.writer.unfinished > 0
            && let Some(event) = self.said.pop_front().or_else(|| self.choices.ready())
        {
            self.take(event);
        }
        self.wrote = Instant::now();
        Some(Bytes::from(std::mem::take(&mut self.writer.bytes)))
    }

    fn take(&mut self, event: (usize, AnswerEvent)) {
        self.phase.take(&event.1);
        self.writer.write(event);
    }

    fn break_silence(&mut self) {
        let now = Instant::now();
        let mut due = self.wrote + SILENCE;
        if due <= now {
            self.writer.comment(&self.phase);
            due = now + SILENCE;
        }
        self.silence.as_mut().reset(due);
    }
}

impl<S: Shape> Writer<S> {
    pub(super) fn new(frame: Frame, shape: S, count: usize, includes_usage: bool) -> Self {
        Self {
            frame,
            shape,
            includes_usage,
            usage: UsageObject::default(),
            said: vec![Said::default(); count],
            unfinished: count,
            bytes: Vec::new(),
        }
    }

    fn write(&mut self, (index, event): (usize, AnswerEvent)) {
        match event {
            AnswerEvent::Text { text, logprob } => self.text(index, &text, logprob.as_ref()),
            AnswerEvent::Done(summary) => self.done(index, &summary),
            AnswerEvent::Failed(failure) => self.failed(failure),
            AnswerEvent::Granted { model, .. } if self.frame.model.is_empty() => {
                self.frame.model = redact(&model);
            }
            event => self.part(index, &event),
        }
    }

    fn comment(&mut self, phase: &AnswerPhase) {
        self.bytes.extend_from_slice(format!(": {phase}\n\n").as_bytes());
    }

    fn text(&mut self, index: usize, text: &str, logprob: Option<&TokenLogprob>) {
        self.begin(index, true);
        let Said { characters: offset, .. } = self.said[index];
        self.said[index].characters +=
            logprob.map_or_else(|| text.chars().count(), |token| characters(&token.bytes));
        // Text that is withheld, because it may belong to a stop string, comes with a later event.
        if !text.is_empty() || logprob.is_some() {
            let piece = self.shape.piece(index, text, logprob, offset);
            self.chunk(piece, None);
        }
    }

    fn part(&mut self, index: usize, event: &AnswerEvent) {
        if let Some(part) = self.shape.part(index, event) {
            self.begin(index, false);
            self.chunk(part, None);
        }
    }

    fn begin(&mut self, index: usize, is_text: bool) {
        if !std::mem::replace(&mut self.said[index].has_begun, true)
            && let Some((first, characters)) = self.shape.first(index, is_text)
        {
            self.said[index].characters = characters;
            self.chunk(first, None);
        }
    }

    fn done(&mut self, index: usize, summary: &Summary) {
        self.begin(index, true);
        self.usage.add(index, self.frame.answers, summary.usage);
        let last = self.shape.last(index, summary.finish);
        self.chunk(last, Some(summary.into()));
        self.unfinished -= 1;
        if self.unfinished == 0 {
            self.end();
        }
    }

    fn end(&mut self) {
        if self.includes_usage {
            let mut envelope = self.frame.envelope(S::CHUNK_OBJECT, &[]);
            envelope.usage = Some(self.usage);
            data(&mut self.bytes, &envelope);
        }
        self.bytes.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// The error is the last thing that is said; other choices are cancelled with the stream.
    fn failed(&mut self, failure: Failure) {
        data(&mut self.bytes, &object(&failure.into()));
        self.bytes.extend_from_slice(b"data: [DONE]\n\n");
        self.unfinished = 0;
    }

    fn chunk(&mut self, choice: Value, samovar: Option<Extra>) {
        let choices = [choice];
        // With usage to come, every chunk before has it as null.
        let usage = self.includes_usage.then_some(None::<UsageObject>);
        let envelope = Envelope { usage, samovar, ..self.frame.envelope(S::CHUNK_OBJECT, &choices) };
        data(&mut self.bytes, &envelope);
    }
}

fn data(bytes: &mut Vec<u8>, object: &impl Serialize) {
    bytes.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut *bytes, object).expect("invariant: chunks are plain data");
    bytes.extend_from_slice(b"\n\n");
}
