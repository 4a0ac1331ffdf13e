//! An answer of the Messages API in one piece, and what of it streams have as well.

use samovar::Summary;
use samovar_core::generation::{FinishReason, Usage};
use serde_json::{Map, Value, json};

use crate::generation::parts::Part;

/// Stands for a signature of thoughts. Nothing here signs or checks any, but clients drop thoughts without one.
pub(super) const SIGNATURE: &str = "unsigned";

/// The object of a whole answer; that of an answer that begins has no content and no reason to stop.
pub(super) fn message(
    id: &str,
    model: &str,
    content: Vec<Value>,
    stop: Option<Stop<'_>>,
    usage: Usage,
) -> Value {
    let mut message = json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": null,
        "stop_reason": stop.map(|stop| stop.reason),
        "stop_sequence": stop.and_then(|stop| stop.sequence),
        "usage": self::usage(usage),
    });
    // All that was said is not copied.
    message["content"] = Value::Array(content);
    message
}

/// A whole answer.
pub(super) fn whole(id: &str, model: &str, parts: &[Part], stop: Stop<'_>, usage: Usage) -> Value {
    message(id, model, parts.iter().map(block).collect(), Some(stop), usage)
}

fn block(part: &Part) -> Value {
    match part {
        Part::Thinking(text) => json!({ "type": "thinking", "thinking": text, "signature": SIGNATURE }),
        Part::Text(text) => json!({ "type": "text", "text": text }),
        Part::Call(call) => {
            json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input(&call.arguments) })
        }
    }
}

/// Arguments as an object, which they are unless the answer was cut within them.
fn input(arguments: &str) -> Value {
    serde_json::from_str::<Map<String, Value>>(arguments).map_or_else(|_| json!({}), Value::Object)
}

/// Why an answer stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop<'a> {
    pub(super) reason: &'static str,
    /// Which of the request's own texts ended it.
    pub(super) sequence: Option<&'a str>,
}

impl<'a> Stop<'a> {
    /// `has_own`: the request names texts itself. Those of a model's author are its usual end to clients.
    pub(super) fn of(summary: &'a Summary, has_own: bool) -> Self {
        let is_stopped = has_own && summary.finish == FinishReason::Stop;
        let sequence = summary.stopped_by.as_deref().filter(|_| is_stopped);
        let reason = match summary.finish {
            FinishReason::Stop if sequence.is_some() => "stop_sequence",
            FinishReason::Stop => "end_turn",
            FinishReason::Length | FinishReason::TimedOut => "max_tokens",
            FinishReason::ToolCalls => "tool_use",
        };
        Self { reason, sequence }
    }
}

/// Tokens that came from a cached prefix are counted apart.
pub(super) fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens.saturating_sub(usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use samovar::{CacheStatus, Timings, ToolCall};

    #[test]
    fn only_a_text_of_the_request_itself_is_told_to_have_ended_an_answer() {
        let mut summary = Summary::timed_out(CacheStatus::Hit, Timings::default());
        let of = |summary: &Summary, has_own: bool| {
            let Stop { reason, sequence } = Stop::of(summary, has_own);
            (reason, sequence.map(str::to_owned))
        };
        assert_eq!(of(&summary, true), ("max_tokens", None));
        summary.finish = FinishReason::Stop;
        assert_eq!(of(&summary, true), ("end_turn", None));
        summary.stopped_by = Some("END".to_owned());
        assert_eq!(of(&summary, true), ("stop_sequence", Some("END".to_owned())));
        assert_eq!(of(&summary, false), ("end_turn", None), "its author's");
        summary.finish = FinishReason::ToolCalls;
        assert_eq!(of(&summary, true), ("tool_use", None));
    }

    #[test]
    fn blocks_are_in_the_order_of_the_parts_and_arguments_are_objects() {
        let parts = [
            Part::Thinking("so".to_owned()),
            Part::Text("hi".to_owned()),
            Part::Call(ToolCall::new("a", "f", r#"{"x":1}"#)),
            Part::Call(ToolCall::new("b", "g", r#"{"x":"#)),
        ];
        let expected = [
            json!({ "type": "thinking", "thinking": "so", "signature": SIGNATURE }),
            json!({ "type": "text", "text": "hi" }),
            json!({ "type": "tool_use", "id": "a", "name": "f", "input": { "x": 1 } }),
            json!({ "type": "tool_use", "id": "b", "name": "g", "input": {} }),
        ];
        assert_eq!(parts.iter().map(block).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn cached_tokens_are_counted_apart() {
        let counts = Usage { prompt_tokens: 10, cached_tokens: 4, completion_tokens: 3, thinking_tokens: 2 };
        let expected = json!({
            "input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 3,
        });
        assert_eq!(usage(counts), expected);
    }
}
