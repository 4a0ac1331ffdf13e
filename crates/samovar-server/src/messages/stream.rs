//! An answer of the Messages API as server-sent events.
//!
//! ```text
//!   message_start
//!     content_block_start   thinking │ text │ tool_use, counted from 0
//!     content_block_delta   thinking_delta … signature_delta │ text_delta │ input_json_delta
//!     content_block_stop
//!   message_delta           stop_reason, usage
//!   message_stop
//! ```
//!
//! What fails in between is an `error` event, and the last one. A stream that has nothing to say for a second says in a comment what it
//! waits for, and sends a `ping`.

use samovar::{AnswerEvent, Summary};
use samovar_core::generation::Usage;
use serde_json::{Value, json};

use super::error::object;
use super::whole::{SIGNATURE, Stop, message, usage};
use crate::generation::event_stream::{EventWriter, comment, named};
use crate::generation::phase::AnswerPhase;
use crate::redact::redact;

/// The block that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Thinking,
    Text,
    /// The call of this number.
    Call(u32),
}

/// Turns events into bytes.
#[derive(Debug)]
pub(super) struct Writer {
    id: String,
    /// Empty until a slot was granted.
    model: String,
    /// Counts of the prompt, as far as they are known.
    prompt: Usage,
    /// Whether the request names texts that end the answer.
    has_stops: bool,
    has_begun: bool,
    is_over: bool,
    /// Blocks that have begun.
    blocks: u32,
    open: Option<Open>,
    bytes: Vec<u8>,
}

impl EventWriter for Writer {
    fn write(&mut self, _index: usize, event: AnswerEvent) {
        match event {
            AnswerEvent::Granted { model, .. } if self.model.is_empty() => self.model = redact(&model),
            AnswerEvent::Prefilled { usage } => self.prompt = usage,
            AnswerEvent::Thinking { text } if !text.is_empty() => {
                self.go_on(Open::Thinking, || json!({ "type": "thinking", "thinking": "", "signature": "" }));
                self.delta(&json!({ "type": "thinking_delta", "thinking": text }));
            }
            AnswerEvent::Text { text, .. } if !text.is_empty() => {
                self.go_on(Open::Text, || json!({ "type": "text", "text": "" }));
                self.delta(&json!({ "type": "text_delta", "text": text }));
            }
            AnswerEvent::ToolCall { index, id, name } => {
                self.go_on(
                    Open::Call(index),
                    || json!({ "type": "tool_use", "id": id, "name": name, "input": {} }),
                );
            }
            // A call that was left never goes on.
            AnswerEvent::ToolArguments { index, text } if self.open == Some(Open::Call(index)) => {
                self.delta(&json!({ "type": "input_json_delta", "partial_json": text }));
            }
            AnswerEvent::Done(summary) => self.done(&summary),
            AnswerEvent::Failed(failure) => {
                named(&mut self.bytes, "error", &object(&failure.into()));
                self.is_over = true;
            }
            _ => {}
        }
    }

    fn wait(&mut self, phase: &AnswerPhase) {
        comment(&mut self.bytes, phase);
        named(&mut self.bytes, "ping", &json!({ "type": "ping" }));
    }

    fn is_over(&self) -> bool {
        self.is_over
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Writer {
    /// An answer of which this is known.
    pub(super) fn new(id: String, model: String, prompt: Option<Usage>, has_stops: bool) -> Self {
        Self {
            id,
            model,
            prompt: prompt.unwrap_or_default(),
            has_stops,
            has_begun: false,
            is_over: false,
            blocks: 0,
            open: None,
            bytes: Vec::new(),
        }
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.has_begun, true) {
            let message = message(&self.id, &self.model, Vec::new(), None, self.prompt);
            self.event("message_start", &json!({ "type": "message_start", "message": message }));
        }
    }

    /// Begins a block, unless it is the one that is open.
    fn go_on(&mut self, block: Open, begun: impl FnOnce() -> Value) {
        if self.open == Some(block) {
            return;
        }
        self.begin();
        self.close();
        self.open = Some(block);
        let event = json!({ "type": "content_block_start", "index": self.blocks, "content_block": begun() });
        self.blocks += 1;
        self.event("content_block_start", &event);
    }

    fn delta(&mut self, delta: &Value) {
        let index = self.blocks.saturating_sub(1);
        let event = json!({ "type": "content_block_delta", "index": index, "delta": delta });
        self.event("content_block_delta", &event);
    }

    fn close(&mut self) {
        let Some(block) = self.open.take() else { return };
        if block == Open::Thinking {
            self.delta(&json!({ "type": "signature_delta", "signature": SIGNATURE }));
        }
        let index = self.blocks.saturating_sub(1);
        self.event("content_block_stop", &json!({ "type": "content_block_stop", "index": index }));
    }

    fn done(&mut self, summary: &Summary) {
        self.begin();
        self.close();
        let Stop { reason, sequence } = Stop::of(summary, self.has_stops);
        let delta = json!({ "stop_reason": reason, "stop_sequence": sequence });
        let event = json!({ "type": "message_delta", "delta": delta, "usage": usage(summary.usage) });
        self.event("message_delta", &event);
        self.event("message_stop", &json!({ "type": "message_stop" }));
        self.is_over = true;
    }

    fn event(&mut self, name: &str, object: &Value) {
        named(&mut self.bytes, name, object);
    }
}
