//! The messages and tools of a conversation as Ollama's clients write them: arguments of calls are objects, results name their tool.

use samovar::{Message, Tool, ToolCall};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::refusal::{Refusal, shown};

const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// A message.
#[derive(Debug, Deserialize)]
pub(super) struct WireMessage {
    role: String,
    content: Option<String>,
    /// What the model thought before it said that.
    thinking: Option<String>,
    images: Option<Vec<IgnoredAny>>,
    tool_calls: Option<Vec<WireCall>>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

/// A call in a message of the model.
#[derive(Debug, Deserialize)]
struct WireCall {
    /// Older servers tell none.
    id: Option<String>,
    function: Called,
}

#[derive(Debug, Deserialize)]
struct Called {
    name: String,
    arguments: Option<Value>,
}

/// A tool; its type is a function, whatever it says.
#[derive(Debug, Deserialize)]
pub(super) struct WireTool {
    function: WireFunction,
}

#[derive(Debug, Deserialize)]
struct WireFunction {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
}

/// The tools. Whether they are sound is the runtime's to say.
pub(super) fn tools(tools: Vec<WireTool>) -> Vec<Tool> {
    let tool = |WireTool { function }: WireTool| {
        let mut tool = Tool::new(function.name);
        tool.description = function.description;
        tool.parameters = function.parameters;
        tool
    };
    tools.into_iter().map(tool).collect()
}

/// The conversation.
///
/// # Errors
/// 400 that names the place.
pub(super) fn messages(messages: Vec<WireMessage>) -> Result<Vec<Message>, Refusal> {
    messages.into_iter().enumerate().map(|(at, message)| self::message(at, message)).collect()
}

fn message(at: usize, message: WireMessage) -> Result<Message, Refusal> {
    let role = message.role.to_ascii_lowercase();
    if !ROLES.contains(&role.as_str()) {
        let (param, known) = (format!("messages[{at}].role"), ROLES.join(", "));
        let text = format!("invalid role: {:?}, must be one of {known}", shown(&message.role));
        return Err(Refusal::invalid(param, text));
    }
    refuse_images(message.images.as_deref(), &format!("messages[{at}].images"))?;
    let calls = message.tool_calls.unwrap_or_default().into_iter().enumerate();
    let calls: Vec<ToolCall> = calls
        .map(|(call_at, call)| self::call(&format!("messages[{at}].tool_calls[{call_at}]"), call))
        .collect::<Result<_, _>>()?;
    if !calls.is_empty() && role != "assistant" {
        let param = format!("messages[{at}].tool_calls");
        let text =
            format!("`{param}` is in a message of the role {role}, and only the assistant calls tools");
        return Err(Refusal::invalid(param, text));
    }
    let mut said = Message::new(role, message.content.unwrap_or_default());
    said.thinking = message.thinking.filter(|thinking| !thinking.is_empty());
    said.tool_calls = calls;
    said.tool_call_id = message.tool_call_id.filter(|id| !id.is_empty());
    said.name = message.tool_name.filter(|name| !name.is_empty());
    Ok(said)
}

fn call(place: &str, call: WireCall) -> Result<ToolCall, Refusal> {
    let arguments = match call.function.arguments {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(arguments @ Value::Object(_)) => arguments.to_string(),
        // As OpenAI's clients write them.
        Some(Value::String(text)) => text,
        Some(_) => {
            let param = format!("{place}.function.arguments");
            let text = format!("`{param}` must be an object");
            return Err(Refusal::invalid(param, text));
        }
    };
    Ok(ToolCall::new(call.id.unwrap_or_default(), call.function.name, arguments))
}

/// Refuses images, unless there are none.
///
/// # Errors
/// 400 that names the place.
pub(super) fn refuse_images(images: Option<&[IgnoredAny]>, place: &str) -> Result<(), Refusal> {
    if images.is_none_or(<[_]>::is_empty) {
        return Ok(());
    }
    Err(Refusal::unsupported(place, format!("`{place}`: images are not supported"))
        .with_hint("send text alone"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Vec<Message>, String> {
        let wire: Vec<WireMessage> = serde_json::from_value(value).expect("parses");
        messages(wire).map_err(|refusal| refusal.failure.param.expect("names the place"))
    }

    #[test]
    fn calls_have_objects_and_results_the_names_of_their_tools() {
        let call = |more: Value| json!([{ "function": { "name": "f", "arguments": more } }]);
        let said = read(json!([
            { "role": "System", "content": "Be brief" },
            { "role": "user", "content": "2 + 2?", "images": [], "tool_calls": null },
            { "role": "assistant", "thinking": "so", "tool_calls": call(json!({ "b": 1, "a": [2] })) },
            { "role": "tool", "content": "4", "tool_name": "f" },
        ]))
        .expect("sound");
        assert_eq!((said[0].role.as_str(), said[2].content.as_str()), ("system", ""));
        assert_eq!(said[2].thinking.as_deref(), Some("so"));
        assert_eq!(said[2].tool_calls, [ToolCall::new("", "f", r#"{"b":1,"a":[2]}"#)]);
        assert_eq!((said[3].name.as_deref(), said[3].tool_call_id.as_deref()), (Some("f"), None));
        let text = read(json!([{ "role": "assistant", "tool_calls": call(json!("{\"x\":1}")) }]));
        assert_eq!(text.expect("sound")[0].tool_calls[0].arguments, "{\"x\":1}");
        let none = read(json!([{ "role": "assistant", "tool_calls": call(json!(null)) }]));
        assert_eq!(none.expect("sound")[0].tool_calls[0].arguments, "{}");
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_its_place() {
        let call = json!([{ "function": { "name": "f", "arguments": [1] } }]);
        for (message, place) in [
            (json!({ "role": "owner", "content": "x" }), "messages[0].role"),
            (json!({ "role": "user", "images": ["aGk="] }), "messages[0].images"),
            (
                json!({ "role": "assistant", "tool_calls": call }),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (
                json!({ "role": "user", "tool_calls": [{ "function": { "name": "f" } }] }),
                "messages[0].tool_calls",
            ),
        ] {
            assert_eq!(read(json!([message])).expect_err("refuses"), place);
        }
    }

    #[test]
    fn a_tool_has_all_that_is_said_of_it() {
        let schema = json!({ "type": "object", "properties": {} });
        let wire = json!([{ "type": "function", "function": { "name": "f", "description": "Does it",
                            "parameters": schema } }, { "function": { "name": "g" } }]);
        let expected = [Tool::new("f").description("Does it").parameters(schema), Tool::new("g")];
        assert_eq!(tools(serde_json::from_value(wire).expect("parses")), expected);
    }
}
