//! A streamed answer: one event a token, written as soon as it is there. The event with `"stop": true` is the last of an answer; unlike
//! OpenAI's, the stream ends without a mark.
//!
//! ```text
//!   data: {"index":0,"content":"Once","tokens":[],"stop":false,"id_slot":-1}
//!   data: {"index":0,"content":"","tokens":[],"id_slot":-1,"stop":true,"model":"demo",…}
//!   data: {"error":{"code":500,"message":"…","type":"server_error"}}        (in its place, when it breaks off)
//! ```

use samovar::AnswerEvent;
use samovar_core::Failure;

use super::answer::Form;
use super::error::object;
use crate::generation::event_stream::{self, EventWriter, data};
use crate::generation::phase::AnswerPhase;
use crate::redact::redact;

/// Turns events into bytes.
pub(super) struct Writer {
    form: Form,
    unfinished: usize,
    bytes: Vec<u8>,
}

impl Writer {
    /// For so many answers.
    pub(super) fn new(form: Form, count: usize) -> Self {
        Self { form, unfinished: count, bytes: Vec::new() }
    }

    /// The error is the last thing that is said; other answers are cancelled with the stream.
    fn failed(&mut self, failure: Failure) {
        data(&mut self.bytes, &object(&failure.into()));
        self.unfinished = 0;
    }
}

impl EventWriter for Writer {
    fn write(&mut self, index: usize, event: AnswerEvent) {
        match event {
            // Text that is withheld, because it may belong to a stop string, comes with a later event.
            AnswerEvent::Text { text, logprob } if !text.is_empty() || logprob.is_some() => {
                data(&mut self.bytes, &self.form.piece(index, &text, logprob.as_ref()));
            }
            AnswerEvent::Done(summary) => {
                data(&mut self.bytes, &self.form.last(index, "", &[], &summary));
                self.unfinished -= 1;
            }
            AnswerEvent::Failed(failure) => self.failed(failure),
            AnswerEvent::Granted { model, .. } if self.form.model.is_empty() => {
                self.form.model = redact(&model);
            }
            _ => {}
        }
    }

    fn wait(&mut self, phase: &AnswerPhase) {
        event_stream::comment(&mut self.bytes, phase);
    }

    fn is_over(&self) -> bool {
        self.unfinished == 0
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}
