//! What a request takes in memory once more for each of its answers, beyond the text that it came as.

use samovar::{Generate, Input, Message, Tool, ToolCall};
use serde_json::Value;

/// Bytes of the values that each answer's request has of its own: messages, tools and variables of the template. Short messages, and
/// lists of short numbers, take many times what they were written with.
pub(crate) fn value_bytes(generate: &Generate) -> usize {
    let messages = if let Input::Chat(messages) = &generate.input { messages.as_slice() } else { &[] };
    let of_message =
        |message: &Message| size_of::<Message>() + message.tool_calls.len() * size_of::<ToolCall>();
    let of_tool = |tool: &Tool| size_of::<Tool>() + tool.parameters.as_ref().map_or(0, weight);
    messages.iter().map(of_message).sum::<usize>()
        + generate.tools.iter().map(of_tool).sum::<usize>()
        + generate.template_arguments.values().map(weight).sum::<usize>()
}

/// Bytes of a value. JSON that could be read nests no deeper than a stack allows.
pub(crate) fn weight(value: &Value) -> usize {
    let more = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| size_of::<String>() + name.len() + weight(field)).sum()
        }
    };
    size_of::<Value>() + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn short_values_weigh_more_than_their_text() {
        let mut generate = Generate::new(Input::Text(String::new()));
        assert_eq!(value_bytes(&generate), 0);
        let schema = json!({ "enum": vec![0; 1_000] });
        generate.tools = vec![Tool::new("f").parameters(schema.clone())];
        let one = value_bytes(&generate);
        assert!(one > 4 * schema.to_string().len(), "{one}");
        generate.template_arguments.insert("x".to_owned(), schema);
        assert_eq!(value_bytes(&generate), 2 * one - size_of::<Tool>());
    }

    #[test]
    fn short_messages_and_calls_weigh_more_than_their_text() {
        let bytes = |messages: Vec<Message>| value_bytes(&Generate::new(Input::Chat(messages)));
        let short = bytes(vec![Message::user("x"); 100]);
        assert!(short > 4 * 100 * r#"{"role":"user"},"#.len(), "{short}");
        let calls = vec![ToolCall::new("", "f", ""); 100];
        assert!(bytes(vec![Message::assistant("").tool_calls(calls)]) > 100 * size_of::<ToolCall>());
    }
}
