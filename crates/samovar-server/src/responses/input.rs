//! The instructions and the input of a request to the Responses API: a text, or items that together are a conversation. What the
//! model said at once comes in several items (thoughts, a message, calls of tools), and becomes one message again.

use samovar::{Message, ToolCall};
use serde_json::Value;

use crate::refusal::{Refusal, shown};

/// The conversation.
///
/// # Errors
/// 400 that names the place.
pub(super) fn of(instructions: Option<&str>, input: Option<&Value>) -> Result<Vec<Message>, Refusal> {
    let mut conversation = Conversation::default();
    if let Some(instructions) = instructions.filter(|text| !text.is_empty()) {
        conversation.said.push(Message::system(instructions));
    }
    match input {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => conversation.said.push(Message::user(text.as_str())),
        Some(Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                conversation.take(item, &format!("input[{at}]"))?;
            }
        }
        Some(_) => return Err(Refusal::invalid("input", "`input` must be a string or an array of items")),
    }
    Ok(conversation.said)
}

#[derive(Default)]
struct Conversation {
    said: Vec<Message>,
    /// What the model thought before the item that follows.
    thoughts: Option<String>,
    /// The last message is the model's, and what the model says next belongs to it.
    is_open: bool,
}

impl Conversation {
    fn take(&mut self, item: &Value, place: &str) -> Result<(), Refusal> {
        // A message may leave its type out.
        let is_untyped = item.get("type").is_none_or(Value::is_null);
        let kind =
            if is_untyped && item.get("role").is_some() { "message" } else { text(item, "type", place)? };
        match kind {
            "message" => self.message(item, place)?,
            "reasoning" => {
                let thoughts = thoughts(item, place)?;
                self.is_open &= thoughts.is_none();
                self.thoughts = match (self.thoughts.take(), thoughts) {
                    (Some(before), Some(more)) => Some(before + "\n" + &more),
                    (before, more) => before.or(more),
                };
            }
            "function_call" => {
                let (id, name) = (text(item, "call_id", place)?, text(item, "name", place)?);
                let call = ToolCall::new(id, name, text(item, "arguments", place)?);
                self.of_model(String::new()).tool_calls.push(call);
            }
            "function_call_output" => {
                let id = text(item, "call_id", place)?;
                let output = output_text(item.get("output"), &format!("{place}.output"))?;
                self.of_others(Message::tool(id, output));
            }
            "item_reference" => {
                let message =
                    format!("`{place}` refers to an item of an earlier answer, and no answer is kept");
                return Err(
                    Refusal::unsupported(format!("{place}.type"), message).with_hint("send the item itself")
                );
            }
            other => {
                let message =
                    format!("`{place}` is of the type {:?}, which is not supported here", shown(other));
                return Err(Refusal::unsupported(format!("{place}.type"), message).with_hint(
                    "items of the types message, reasoning, function_call and function_call_output are",
                ));
            }
        }
        Ok(())
    }

    fn message(&mut self, item: &Value, place: &str) -> Result<(), Refusal> {
        let content = texts(item.get("content"), &format!("{place}.content"))?;
        match text(item, "role", place)? {
            "user" => self.of_others(Message::user(content)),
            // Templates know the older name only.
            "system" | "developer" => self.of_others(Message::system(content)),
            "assistant" => {
                // Two messages of the model are two: the second does not go on with the first.
                self.is_open = false;
                self.of_model(content);
            }
            other => {
                let message =
                    format!("the role {:?} is not one of user, assistant, system, developer", shown(other));
                return Err(Refusal::invalid(format!("{place}.role"), message));
            }
        }
        Ok(())
    }

    fn of_others(&mut self, message: Message) {
        self.said.push(message);
        self.thoughts = None;
        self.is_open = false;
    }

    /// The message that the model says with this content, or the one that it is saying.
    fn of_model(&mut self, content: String) -> &mut Message {
        if !std::mem::replace(&mut self.is_open, true) {
            let mut message = Message::assistant(content);
            message.thinking = self.thoughts.take();
            self.said.push(message);
        }
        self.said.last_mut().expect("invariant: an open message is the last")
    }
}

/// What was thought, or else its summary; `None` where another server put it into a cipher.
fn thoughts(item: &Value, place: &str) -> Result<Option<String>, Refusal> {
    for field in ["content", "summary"] {
        let text = texts(item.get(field), &format!("{place}.{field}"))?;
        if !text.is_empty() {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// A text, or the texts of its parts, each on lines of its own.
fn texts(content: Option<&Value>, param: &str) -> Result<String, Refusal> {
    match content {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().enumerate().map(|(at, part)| part_text(part, &format!("{param}[{at}]")));
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        Some(_) => Err(Refusal::invalid(param, format!("`{param}` must be a string or an array of parts"))),
    }
}

/// What a tool returned, as a text. An image or a file in it becomes a sentence: every later request has it again, and refusing one
/// would refuse them all.
fn output_text(output: Option<&Value>, param: &str) -> Result<String, Refusal> {
    let Some(Value::Array(parts)) = output else { return texts(output, param) };
    let text_of = |(at, part): (usize, &Value)| {
        let place = format!("{param}[{at}]");
        match text(part, "type", &place)? {
            "input_image" => Ok("[image: this model reads text alone]".to_owned()),
            "input_file" => Ok("[file: this model reads text alone]".to_owned()),
            _ => part_text(part, &place).map(str::to_owned),
        }
    };
    Ok(parts.iter().enumerate().map(text_of).collect::<Result<Vec<_>, Refusal>>()?.join("\n"))
}

fn part_text<'a>(part: &'a Value, place: &str) -> Result<&'a str, Refusal> {
    match text(part, "type", place)? {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
            text(part, "text", place)
        }
        "refusal" => text(part, "refusal", place),
        other => {
            let message =
                format!("`{place}` is of the type {:?}, and models here read text alone", shown(other));
            Err(Refusal::unsupported(format!("{place}.type"), message)
                .with_hint("send its text in a part of the type \"input_text\""))
        }
    }
}

fn text<'a>(of: &'a Value, field: &str, place: &str) -> Result<&'a str, Refusal> {
    of.get(field).and_then(Value::as_str).ok_or_else(|| {
        let param = format!("{place}.{field}");
        let message = format!("`{param}` must be a string");
        Refusal::invalid(param, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(input: &Value) -> Result<Vec<Message>, String> {
        of(Some("Help."), Some(input)).map_err(|refusal| refusal.failure.param.expect("names the place"))
    }

    fn call(id: &str) -> Value {
        json!({ "type": "function_call", "id": "fc_1", "call_id": id, "name": "f", "arguments": "{}" })
    }

    #[test]
    fn a_text_is_what_the_user_says() {
        assert_eq!(read(&json!("Hi")), Ok(vec![Message::system("Help."), Message::user("Hi")]));
        assert_eq!(of(None, Some(&json!(""))).expect("sound"), [Message::user("")]);
        assert!(of(Some(""), None).expect("sound").is_empty());
    }

    #[test]
    fn items_of_one_turn_of_the_model_are_one_message() {
        let input = json!([
            { "type": "message", "role": "developer", "content": [{ "type": "input_text", "text": "Be brief." }] },
            { "role": "user", "content": [{ "type": "input_text", "text": "a" }, { "type": "input_text", "text": "b" }] },
            { "type": "reasoning", "id": "rs_1", "summary": [],
              "content": [{ "type": "reasoning_text", "text": "so" }], "encrypted_content": null },
            { "type": "message", "role": "assistant", "status": "completed",
              "content": [{ "type": "output_text", "text": "I look.", "annotations": [] }] },
            call("a"),
            call("b"),
            { "type": "function_call_output", "call_id": "a", "output": "1" },
            { "type": "function_call_output", "call_id": "b", "output": [
                { "type": "input_text", "text": "2" }, { "type": "input_image", "image_url": "data:" }, { "type": "input_file" },
            ] },
            { "type": "reasoning", "summary": [{ "type": "summary_text", "text": "hm" }] },
            { "type": "reasoning", "summary": [], "encrypted_content": "x" },
            { "type": "reasoning", "summary": [], "content": [{ "type": "reasoning_text", "text": "yes" }] },
            call("c"),
            { "type": "function_call_output", "call_id": "c", "output": "3" },
            { "type": "message", "role": "assistant", "content": "Done." },
            { "type": "message", "role": "user", "content": "And?" },
        ]);
        let call = |id: &str| ToolCall::new(id, "f", "{}");
        let expected = vec![
            Message::system("Help."),
            Message::system("Be brief."),
            Message::user("a\nb"),
            Message::assistant("I look.").thinking("so").tool_calls([call("a"), call("b")]),
            Message::tool("a", "1"),
            Message::tool(
                "b",
                "2\n[image: this model reads text alone]\n[file: this model reads text alone]",
            ),
            Message::assistant("").thinking("hm\nyes").tool_calls([call("c")]),
            Message::tool("c", "3"),
            Message::assistant("Done."),
            Message::user("And?"),
        ];
        assert_eq!(read(&input), Ok(expected));
    }

    #[test]
    fn what_has_no_place_in_a_conversation_is_refused_by_its_place() {
        for (input, place) in [
            (json!(3), "input"),
            (json!([3]), "input[0].type"),
            (json!([{ "content": "x" }]), "input[0].type"),
            (json!([{ "role": "tool", "content": "x" }]), "input[0].role"),
            (json!([{ "role": "user", "content": 3 }]), "input[0].content"),
            (json!([{ "role": "user", "content": [{ "type": "input_image" }] }]), "input[0].content[0].type"),
            (json!([{ "role": "user", "content": [{ "type": "input_text" }] }]), "input[0].content[0].text"),
            (json!([{ "type": "item_reference", "id": "msg_1" }]), "input[0].type"),
            (json!([{ "type": "local_shell_call" }]), "input[0].type"),
            (json!([{ "type": "function_call", "call_id": "a", "name": "f" }]), "input[0].arguments"),
            (json!([{ "type": "function_call_output", "output": "x" }]), "input[0].call_id"),
        ] {
            assert_eq!(read(&input), Err(place.to_owned()), "{input}");
        }
    }
}
