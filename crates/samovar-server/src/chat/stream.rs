//! An answer of the chat service as server-sent events.
//!
//! ```text
//!   begun       conversation, question, memory
//!   thinking │ text …
//!   done        the whole answer, as it is without `stream`
//! ```
//!
//! What fails in between is an `error` event, and the last one: the question is taken back, or the answer kept as far as it came. A stream
//! that has nothing to say for a second says in a comment what it waits for.

use samovar::{AnswerEvent, Summary};
use samovar_chat::{ChatTurn, OpenTurn};
use samovar_core::{ErrorKind, Failure};
use serde_json::{Value, json};

use super::{on_disk_now, refusal, summarise_later};
use crate::app::App;
use crate::generation::event_stream::{EventWriter, comment, named};
use crate::generation::phase::AnswerPhase;
use crate::openai::error_type;
use crate::redact::redact;

/// Turns events into bytes, and keeps the answer.
pub(super) struct ChatWriter {
    app: App,
    turn: OpenTurn,
    /// What is said of the turn at its beginning; `None` = it was said.
    begun: Option<Value>,
    /// The same, for the end.
    whole: Value,
    is_over: bool,
    bytes: Vec<u8>,
}

impl ChatWriter {
    /// The answer of this turn.
    pub(super) fn new(app: &App, mut turn: OpenTurn) -> Self {
        let begun = begun(turn.turn());
        Self {
            app: app.clone(),
            turn,
            whole: begun.clone(),
            begun: Some(begun),
            is_over: false,
            bytes: Vec::new(),
        }
    }

    fn begin(&mut self) {
        if let Some(mut begun) = self.begun.take() {
            begun["type"] = "begun".into();
            named(&mut self.bytes, "begun", &begun);
        }
    }

    fn say(&mut self, kind: &'static str, text: &str) {
        self.begin();
        named(&mut self.bytes, kind, &json!({ "type": kind, "text": text }));
    }

    fn done(&mut self, summary: &Summary) {
        self.begin();
        let (history, conversation) = (self.turn.turn().kept_in(), self.turn.turn().conversation());
        match on_disk_now(|| self.turn.finish()) {
            Ok(kept) => {
                summarise_later(&self.app, history, conversation);
                let mut object = answered(&self.whole, &mut self.turn, kept, summary);
                object["type"] = "done".into();
                named(&mut self.bytes, "done", &object);
                self.is_over = true;
            }
            Err(error) => self.fail(error.into()),
        }
    }

    fn fail(&mut self, failure: Failure) {
        // The next try fits better.
        let is_too_long = failure.kind == ErrorKind::ContextExceeded && self.turn.record().is_empty();
        if is_too_long && on_disk_now(|| self.turn.turn().narrow()).is_ok_and(|has_moved| has_moved) {
            tracing::debug!("the window moves for the next message");
        }
        let refusal = refusal(failure);
        let error = json!({
            "message": refusal.text(),
            "type": error_type(refusal.failure.kind),
            "param": refusal.failure.param,
            "code": refusal.code,
        });
        named(&mut self.bytes, "error", &json!({ "type": "error", "error": error }));
        self.is_over = true;
    }
}

impl Drop for ChatWriter {
    fn drop(&mut self) {
        // The client has left, or the answer has failed.
        if self.turn.is_open() {
            on_disk_now(|| self.turn.settle());
        }
    }
}

impl EventWriter for ChatWriter {
    fn write(&mut self, _index: usize, event: AnswerEvent) {
        self.turn.record().observe(&event);
        match event {
            AnswerEvent::Text { text, .. } if !text.is_empty() => self.say("text", &text),
            AnswerEvent::Thinking { text } if !text.is_empty() => self.say("thinking", &text),
            AnswerEvent::Done(summary) => self.done(&summary),
            AnswerEvent::Failed(failure) => self.fail(failure),
            _ => {}
        }
    }

    fn wait(&mut self, phase: &AnswerPhase) {
        comment(&mut self.bytes, phase);
    }

    fn is_over(&self) -> bool {
        self.is_over
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// What is known of a turn when it begins.
pub(super) fn begun(turn: &ChatTurn) -> Value {
    json!({
        "conversation": turn.conversation().to_string(),
        "question": turn.question().to_string(),
        "samovar": { "memory": turn.memory() },
    })
}

/// The whole answer, of a turn that has ended.
pub(super) fn answered(begun: &Value, turn: &mut OpenTurn, kept: i64, summary: &Summary) -> Value {
    let record = turn.record();
    let mut object = json!({
        "response": record.text,
        "conversation": begun["conversation"],
        "question": begun["question"],
        "message": kept.to_string(),
        // Documents will be cited here.
        "citations": [],
        "model": redact(&record.model),
        "finish": record.finish,
        "usage": summary.usage,
        "samovar": begun["samovar"],
    });
    if let Some(thinking) = &record.thinking {
        object["thinking"] = thinking.as_str().into();
    }
    object
}
