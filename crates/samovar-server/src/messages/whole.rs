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
    stop: Option<FinishReason>,
    usage: Usage,
) -> Value {
    let mut message = json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": null,
        "stop_reason": stop.map(stop_reason),
        "stop_sequence": null,
        "usage": self::usage(usage),
    });
    // All that was said is not copied.
    message["content"] = Value::Array(content);
    message
}

/// A whole answer.
pub(super) fn whole(id: &str, model: &str, parts: &[Part], summary: &Summary) -> Value {
    let content = parts.iter().map(block).collect();
    message(id, model, content, Some(summary.finish), summary.usage)
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

pub(super) const fn stop_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "end_turn",
        FinishReason::Length | FinishReason::TimedOut => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
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
    use samovar::ToolCall;

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
