//! The messages of a conversation as OpenAI's clients write them.

use samovar::Message;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::tools::{self, WireCall};
use crate::refusal::{Refusal, shown};

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// A message.
#[derive(Debug, Deserialize)]
pub(super) struct WireMessage {
    role: String,
    content: Option<Value>,
    name: Option<String>,
    /// What the model thought before it said that, as many servers tell it.
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
    tool_call_id: Option<String>,
    /// What came before `tool_calls`.
    function_call: Option<IgnoredAny>,
}

/// The conversation.
///
/// # Errors
/// 400 that names the place.
pub(super) fn of(messages: Option<Vec<WireMessage>>) -> Result<Vec<Message>, Refusal> {
    let messages = messages.ok_or_else(|| Refusal::invalid("messages", "`messages` is missing"))?;
    if messages.is_empty() {
        return Err(Refusal::invalid("messages", "`messages` must hold at least one message"));
    }
    messages.into_iter().enumerate().map(|(at, message)| self::message(at, message)).collect()
}

fn message(at: usize, message: WireMessage) -> Result<Message, Refusal> {
    let param = |field: &str| format!("messages[{at}].{field}");
    if !ROLES.contains(&message.role.as_str()) {
        let (shown, known) = (shown(&message.role), ROLES.join(", "));
        return Err(Refusal::invalid(param("role"), format!("the role {shown:?} is not one of {known}")));
    }
    if message.function_call.is_some() {
        let param = param("function_call");
        let text = format!("`{param}` is not supported");
        return Err(
            Refusal::unsupported(param, text).with_hint("use `tool_calls`, and the role tool for results")
        );
    }
    let calls = tools::calls(at, message.tool_calls.unwrap_or_default())?;
    if !calls.is_empty() && message.role != "assistant" {
        let param = param("tool_calls");
        let text = format!(
            "`{param}` is in a message of the role {}, and only the assistant calls tools",
            message.role
        );
        return Err(Refusal::invalid(param, text));
    }
    let content = content(message.content, &param("content"))?;
    // Templates know the older name only.
    let role = if message.role == "developer" { "system".to_owned() } else { message.role };
    let mut said = Message::new(role, content);
    said.thinking = message.reasoning_content;
    said.tool_calls = calls;
    said.tool_call_id = message.tool_call_id;
    said.name = message.name;
    Ok(said)
}

/// A text, or the texts of its parts, each on lines of its own.
fn content(content: Option<Value>, param: &str) -> Result<String, Refusal> {
    match content {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().enumerate().map(|(at, part)| text_of(part, &format!("{param}[{at}]")));
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(Refusal::invalid(param, format!("`{param}` must be a string or an array of parts"))),
    }
}

fn text_of<'a>(part: &'a Value, param: &str) -> Result<&'a str, Refusal> {
    match part.get("type").and_then(Value::as_str) {
        Some("text") => part.get("text").and_then(Value::as_str).ok_or_else(|| {
            Refusal::invalid(format!("{param}.text"), format!("`{param}.text` must be a string"))
        }),
        Some(other) => {
            let shown = shown(other);
            Err(Refusal::unsupported(
                format!("{param}.type"),
                format!("parts of the type {shown:?} are not supported"),
            )
            .with_hint("only parts of the type \"text\" are"))
        }
        None => Err(Refusal::invalid(format!("{param}.type"), format!("`{param}` has no type"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use samovar::ToolCall;
    use serde_json::json;

    fn read(messages: Value) -> Result<Vec<Message>, Refusal> {
        of(serde_json::from_value(messages).expect("parses"))
    }

    fn call(id: &str) -> Value {
        json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{}" } })
    }

    #[test]
    fn parts_are_lines_of_their_own() {
        let parts = json!([{ "type": "text", "text": "one" }, { "type": "text", "text": "two\n" },
                           { "type": "text", "text": "" }, { "type": "text", "text": "three" }]);
        let messages = read(json!([{ "role": "user", "content": parts }])).expect("sound");
        assert_eq!(messages[0].content, "one\ntwo\n\n\nthree");
    }

    #[test]
    fn calls_results_names_and_thoughts_are_kept() {
        let messages = read(json!([
            { "role": "developer", "content": "Be brief", "name": "x" },
            { "role": "user", "content": "2 + 2?", "tool_calls": [], "tool_call_id": null },
            { "role": "assistant", "content": null, "reasoning_content": "so", "tool_calls": [call("a")] },
            { "role": "tool", "content": "4", "tool_call_id": "a", "name": "f" },
        ]))
        .expect("sound");
        assert_eq!((messages[0].role.as_str(), messages[0].name.as_deref()), ("system", Some("x")));
        assert_eq!(messages[2].content, "");
        assert_eq!(messages[2].thinking.as_deref(), Some("so"));
        assert_eq!(messages[2].tool_calls, [ToolCall::new("a", "f", "{}")]);
        assert_eq!(messages[3].tool_call_id.as_deref(), Some("a"));
        assert_eq!(messages[3].name.as_deref(), Some("f"));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_its_place() {
        let of = |more: Value| {
            let refusal = read(json!([{ "role": "assistant", "tool_calls": [call("a")] }, more]));
            refusal.expect_err("refuses").failure.param.expect("names the place")
        };
        assert_eq!(of(json!({ "role": "user", "tool_calls": [call("b")] })), "messages[1].tool_calls");
        assert_eq!(
            of(json!({ "role": "assistant", "function_call": { "name": "f", "arguments": "" } })),
            "messages[1].function_call"
        );
        assert_eq!(of(json!({ "role": "function", "name": "f", "content": "4" })), "messages[1].role");
    }
}
