//! The objects of an answer: those of `/api/generate` have a `response`, those of `/api/chat` a `message`.

use samovar::{Summary, ToolCall};
use samovar_core::generation::{FinishReason, TokenLogprob};
use serde_json::{Map, Value, json};

use super::context::Conversation;
use crate::moment;
use crate::redact::redact;

/// What stands for a probability of zero, as JSON has no infinity.
const IMPOSSIBLE: f32 = -9999.0;

/// Which route answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Generate,
    Chat,
}

impl Shape {
    /// What a model is asked to do.
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Chat => "chat",
        }
    }
}

/// What one object adds to an answer, or all of it.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) text: String,
    pub(super) thinking: String,
    pub(super) calls: Vec<Value>,
    pub(super) logprobs: Vec<Value>,
}

/// What all objects of an answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    model: String,
    shape: Shape,
    /// What was said before the answer, where a client may send it all back.
    said: Option<Conversation>,
}

impl Frame {
    /// For answers of the model that a client calls so.
    pub(super) fn new(asked: &str, shape: Shape) -> Self {
        Self { model: redact(asked), shape, said: None }
    }

    /// The same, whose last object holds the conversation so far.
    pub(super) fn after(self, said: Option<Conversation>) -> Self {
        Self { said, ..self }
    }

    /// Whether the last object holds what was answered.
    pub(super) const fn remembers(&self) -> bool {
        self.said.is_some()
    }

    /// An object that others follow.
    pub(super) fn piece(&self, part: Part) -> Value {
        self.object(part, false).into()
    }

    /// The last object, or the only one, of an answer of this text.
    pub(super) fn last(&self, part: Part, summary: &Summary, answer: &str) -> Value {
        let mut object = self.object(part, true);
        let (usage, timings) = (summary.usage, summary.timings);
        object.insert("done_reason".to_owned(), done_reason(summary.finish).into());
        if let Some(said) = &self.said {
            object.insert("context".to_owned(), said.written(answer).into());
        }
        let end: [(&str, Value); 6] = [
            ("total_duration", ns(timings.total_ms).into()),
            ("load_duration", ns(timings.fetch_ms + timings.load_ms).into()),
            ("prompt_eval_count", usage.prompt_tokens.into()),
            ("prompt_eval_duration", ns(timings.prefill_ms).into()),
            ("eval_count", usage.completion_tokens.into()),
            ("eval_duration", ns(timings.decode_ms).into()),
        ];
        object.extend(end.map(|(name, value)| (name.to_owned(), value)));
        object.into()
    }

    /// The only object of an answer for which nothing was computed.
    pub(super) fn nothing(&self, reason: &str) -> Value {
        let mut object = self.object(Part::default(), true);
        object.insert("done_reason".to_owned(), reason.into());
        object.into()
    }

    fn object(&self, part: Part, is_done: bool) -> Map<String, Value> {
        let Part { text, thinking, calls, logprobs } = part;
        let mut object = Map::new();
        object.insert("model".to_owned(), self.model.clone().into());
        object.insert("created_at".to_owned(), moment::now().into());
        match self.shape {
            Shape::Generate => {
                object.insert("response".to_owned(), text.into());
                if !thinking.is_empty() {
                    object.insert("thinking".to_owned(), thinking.into());
                }
            }
            Shape::Chat => {
                let mut message = json!({ "role": "assistant", "content": text });
                if !thinking.is_empty() {
                    message["thinking"] = thinking.into();
                }
                if !calls.is_empty() {
                    message["tool_calls"] = calls.into();
                }
                object.insert("message".to_owned(), message);
            }
        }
        object.insert("done".to_owned(), is_done.into());
        if !logprobs.is_empty() {
            object.insert("logprobs".to_owned(), logprobs.into());
        }
        object
    }
}

const fn done_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop | FinishReason::ToolCalls => "stop",
        FinishReason::Length | FinishReason::TimedOut => "length",
    }
}

/// Milliseconds as Ollama writes lengths of time: in whole nanoseconds.
pub(super) fn ns(ms: f64) -> u64 {
    (ms * 1e6) as u64
}

/// A call as Ollama's clients read it, whole and with its arguments as an object; `None` for one that was cut off, or whose arguments
/// are none.
pub(super) fn call(index: usize, call: &ToolCall) -> Option<Value> {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.as_str() };
    let arguments: Map<String, Value> = serde_json::from_str(arguments).ok()?;
    let function = json!({ "index": index, "name": call.name, "arguments": arguments });
    Some(json!({ "id": call.id, "function": function }))
}

/// How likely a token was, and its alternatives.
pub(super) fn logprob(token: &TokenLogprob) -> Value {
    let alone = |token: &TokenLogprob| {
        let logprob = if token.logprob.is_finite() { token.logprob.max(IMPOSSIBLE) } else { IMPOSSIBLE };
        json!({ "token": String::from_utf8_lossy(&token.bytes), "logprob": logprob, "bytes": token.bytes })
    };
    let mut entry = alone(token);
    if !token.top.is_empty() {
        entry["top_logprobs"] = token.top.iter().map(alone).collect();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_whole_or_left_out() {
        let of = |arguments: &str| call(1, &ToolCall::new("a", "f", arguments));
        let expected =
            json!({ "id": "a", "function": { "index": 1, "name": "f", "arguments": { "x": [1] } } });
        assert_eq!(of(r#"{"x": [1]}"#), Some(expected));
        assert_eq!(of("").expect("no arguments")["function"]["arguments"], json!({}));
        for broken in ["{\"x\":", "[1]", "text"] {
            assert_eq!(of(broken), None);
        }
    }

    #[test]
    fn fields_come_in_the_order_in_which_people_read_them() {
        let part = Part { text: "hi".to_owned(), ..Part::default() };
        let piece = Frame::new("m", Shape::Chat).piece(part);
        let names: Vec<&str> = piece.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(names, ["model", "created_at", "message", "done"]);
        let nothing = Frame::new("m", Shape::Generate).nothing("load");
        assert_eq!((&nothing["response"], &nothing["done_reason"]), (&json!(""), &json!("load")));
        assert_eq!(nothing["done"], true);
    }

    #[test]
    fn lengths_of_time_are_whole_nanoseconds() {
        assert_eq!([1.5, 0.0, -1.0, f64::NAN].map(ns), [1_500_000, 0, 0, 0]);
    }
}
