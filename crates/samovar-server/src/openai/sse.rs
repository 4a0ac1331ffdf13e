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
//! A stream that has nothing to say for a second says in a comment, which clients pass over, what it waits for.
//!
//! ```text
//!   : waiting for a slot: place 3 in the queue, about 12 s
//!   : computing the prompt
//! ```

use samovar::{AnswerEvent, Summary};
use samovar_core::Failure;
use samovar_core::generation::TokenLogprob;
use serde_json::Value;

use super::error::object;
use super::shape::{Envelope, Extra, Frame, Shape, UsageObject, characters};
use crate::generation::event_stream::{EventWriter, comment, data};
use crate::generation::phase::AnswerPhase;
use crate::redact::redact;

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

impl<S: Shape> EventWriter for Writer<S> {
    fn write(&mut self, index: usize, event: AnswerEvent) {
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

    fn wait(&mut self, phase: &AnswerPhase) {
        comment(&mut self.bytes, phase);
    }

    fn is_over(&self) -> bool {
        self.unfinished == 0
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
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
            let mut envelope = self.frame.envelope::<Value, _>(S::CHUNK_OBJECT, &[]);
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
