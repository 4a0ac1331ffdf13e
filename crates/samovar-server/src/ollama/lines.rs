//! An answer as one object a line: one for each token, written as soon as it is there, and a last one with counts and times.
//!
//! ```text
//!   {"model":"tiny","created_at":"…","message":{"role":"assistant","content":"Once"},"done":false}
//!   {"model":"tiny","created_at":"…","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",…}
//! ```
//!
//! A call of a tool is one line, when all of its arguments are there. A failure is the last line: `{"error": "…"}`.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use samovar::{AnswerEvent, ToolCall};
use samovar_core::Failure;
use serde_json::Value;

use super::error;
use super::shape::{Frame, Part, call, logprob};
use crate::buffer_charge::BufferCharge;
use crate::generation::choices::Choices;
use crate::generation::event_stream::ACCEL_BUFFERING;
use crate::generation::opening::never_began;

/// Bytes after which no further event is put into one write.
const WRITE_BYTES: usize = 12 << 10;

/// A stream of this answer, beginning with what was said already.
pub(super) fn response(choices: Choices, said: VecDeque<(usize, AnswerEvent)>, frame: Frame) -> Response {
    let writer = Writer::new(frame, choices.holds());
    let stream = Stream { choices, said, writer };
    let writes = stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-cache"),
        (ACCEL_BUFFERING, "no"),
    ];
    (headers, Body::from_stream(writes)).into_response()
}

/// An answer on its way to a client.
struct Stream {
    choices: Choices,
    /// What was said that is not written yet.
    said: VecDeque<(usize, AnswerEvent)>,
    writer: Writer,
}

impl Stream {
    /// What is to be written next; `None` after the end.
    async fn next(&mut self) -> Option<Bytes> {
        while self.writer.bytes.is_empty() {
            if self.writer.has_ended {
                return None;
            }
            let event = self.choices.next_after(&mut self.said).await;
            self.writer.take(event.map_or_else(|| AnswerEvent::Failed(never_began()), |(_, event)| event));
        }
        while self.writer.bytes.len() < WRITE_BYTES
            && !self.writer.has_ended
            && let Some((_, event)) = self.said.pop_front().or_else(|| self.choices.ready())
        {
            self.writer.take(event);
        }
        Some(Bytes::from(std::mem::take(&mut self.writer.bytes)))
    }
}

/// Turns events into lines.
struct Writer {
    frame: Frame,
    /// Counts the arguments of the call that is not complete yet, and what is kept of the answer.
    held: BufferCharge,
    /// The answer so far, where the last line holds it.
    answer: String,
    call: Option<ToolCall>,
    /// Calls that are written.
    calls: usize,
    bytes: Vec<u8>,
    has_ended: bool,
}

impl Writer {
    fn new(frame: Frame, held: BufferCharge) -> Self {
        let (answer, bytes) = (String::new(), Vec::new());
        Self { frame, held, answer, call: None, calls: 0, bytes, has_ended: false }
    }

    fn take(&mut self, event: AnswerEvent) {
        match event {
            // Text that is withheld, because it may belong to a stop string, comes with a later event.
            AnswerEvent::Text { text, logprob: None } if text.is_empty() => {}
            AnswerEvent::Text { text, logprob } => {
                if self.frame.remembers() {
                    if let Err(failure) = self.held.keep(&text, None) {
                        return self.failed(failure);
                    }
                    self.answer.push_str(&text);
                }
                let logprobs = logprob.iter().map(self::logprob).collect();
                self.piece(Part { text, logprobs, ..Part::default() });
            }
            AnswerEvent::Thinking { text } => self.piece(Part { thinking: text, ..Part::default() }),
            AnswerEvent::ToolCall { id, name, .. } => {
                self.end_call();
                self.call = Some(ToolCall::new(id, name, ""));
            }
            AnswerEvent::ToolArguments { text, .. } => match self.held.keep(&text, None) {
                Ok(()) => {
                    if let Some(call) = &mut self.call {
                        call.arguments.push_str(&text);
                    }
                }
                Err(failure) => self.failed(failure),
            },
            AnswerEvent::Done(summary) => {
                self.end_call();
                let last = self.frame.last(Part::default(), &summary, &self.answer);
                self.line(&last);
                self.has_ended = true;
            }
            AnswerEvent::Failed(failure) => self.failed(failure),
            _ => {}
        }
    }

    /// Writes the call that has begun: it is complete when something else begins.
    fn end_call(&mut self) {
        if let Some(call) = self.call.take()
            && let Some(call) = self::call(self.calls, &call)
        {
            self.calls += 1;
            let piece = self.frame.piece(Part { calls: vec![call], ..Part::default() });
            self.line(&piece);
        }
    }

    fn piece(&mut self, part: Part) {
        self.end_call();
        let piece = self.frame.piece(part);
        self.line(&piece);
    }

    fn failed(&mut self, failure: Failure) {
        let error = error::object(&failure.into());
        self.line(&error);
        self.has_ended = true;
    }

    fn line(&mut self, object: &Value) {
        serde_json::to_writer(&mut self.bytes, object).expect("invariant: lines are plain data");
        self.bytes.push(b'\n');
    }
}
