//! The system text and the messages of a conversation as Anthropic's clients write them. Results of tools, which they write into
//! messages of the user, become messages of their own; a system message stays where it stands, so that turns of one conversation
//! begin alike.

use samovar::{Message, ToolCall};
use serde::Deserialize;
use serde_json::Value;

use crate::refusal::{Refusal, shown};

/// Begins a line that Claude Code writes before its own system text. It says nothing to a model and differs from session to session,
/// so that no prompt would begin as the one before.
const BILLING_HEADER: &str = "x-anthropic-billing-header:";

/// Names a tool that a search has found.
const TOOL_REFERENCE: &str = "tool_reference";

/// A message.
#[derive(Debug, Deserialize)]
pub(super) struct WireMessage {
    role: String,
    content: Option<Value>,
}

/// The conversation.
///
/// # Errors
/// 400 that names the place.
pub(super) fn of(
    system: Option<&Value>,
    messages: Option<Vec<WireMessage>>,
) -> Result<Vec<Message>, Refusal> {
    let messages = messages.ok_or_else(|| Refusal::invalid("messages", "`messages` is missing"))?;
    if messages.is_empty() {
        return Err(Refusal::invalid("messages", "`messages` must hold at least one message"));
    }
    let mut said: Vec<Message> = system_text(system)?.map(Message::system).into_iter().collect();
    for (at, message) in messages.into_iter().enumerate() {
        let place = format!("messages[{at}]");
        match message.role.as_str() {
            "user" => of_user(message.content.as_ref(), &place, &mut said)?,
            "assistant" => said.push(of_assistant(message.content.as_ref(), &place)?),
            "system" => {
                said.push(Message::system(texts(message.content.as_ref(), &format!("{place}.content"))?));
            }
            other => {
                let text = format!("the role {:?} is not one of user, assistant, system", shown(other));
                return Err(Refusal::invalid(format!("{place}.role"), text));
            }
        }
    }
    Ok(said)
}

/// Refuses messages that end with a part of an answer.
///
/// # Errors
/// 400 where they do.
pub(super) fn refuse_begun_answer(messages: &[WireMessage]) -> Result<(), Refusal> {
    if messages.last().is_none_or(|last| last.role != "assistant") {
        return Ok(());
    }
    let text = "the last message is the assistant's, and an answer that is begun cannot be continued";
    Err(Refusal::unsupported("messages", text).with_hint("end with a message of the user"))
}

fn system_text(system: Option<&Value>) -> Result<Option<String>, Refusal> {
    let text = match system {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => without_billing_header(text).unwrap_or_default().to_owned(),
        Some(Value::Array(blocks)) => {
            let mut texts = Vec::with_capacity(blocks.len());
            for (at, block) in blocks.iter().enumerate() {
                texts.extend(without_billing_header(text_alone(block, &format!("system[{at}]"))?));
            }
            texts.join("\n")
        }
        Some(_) => return Err(Refusal::invalid("system", "`system` must be a string or an array of blocks")),
    };
    Ok((!text.is_empty()).then_some(text))
}

/// The text after the header; `None` where the header is all of it.
fn without_billing_header(text: &str) -> Option<&str> {
    let Some(header) = text.trim_start().strip_prefix(BILLING_HEADER) else { return Some(text) };
    let rest = header.split_once('\n').map_or("", |(_, rest)| rest).trim_start_matches(['\r', '\n']);
    (!rest.is_empty()).then_some(rest)
}

/// What a user says, and what tools say through the user, in the order in which it was written.
fn of_user(content: Option<&Value>, place: &str, said: &mut Vec<Message>) -> Result<(), Refusal> {
    let before = said.len();
    let mut texts = Vec::new();
    for (block, place) in blocks(content, place)? {
        let Block::Of(fields) = block else {
            texts.push(block.text());
            continue;
        };
        match kind(fields, &place)? {
            "text" => texts.push(text(fields, "text", &place)?),
            "tool_result" => {
                if !texts.is_empty() {
                    said.push(Message::user(std::mem::take(&mut texts).join("\n")));
                }
                let id = text(fields, "tool_use_id", &place)?;
                let content = result_text(fields.get("content"), &format!("{place}.content"))?;
                said.push(Message::tool(id, content));
            }
            "document" if document_text(fields).is_some() => texts.extend(document_text(fields)),
            other => return Err(unsupported(other, &place)),
        }
    }
    if !texts.is_empty() || said.len() == before {
        said.push(Message::user(texts.join("\n")));
    }
    Ok(())
}

fn of_assistant(content: Option<&Value>, place: &str) -> Result<Message, Refusal> {
    let (mut texts, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for (block, place) in blocks(content, place)? {
        let Block::Of(fields) = block else {
            texts.push(block.text());
            continue;
        };
        match kind(fields, &place)? {
            "text" => texts.push(text(fields, "text", &place)?),
            // A server may keep thoughts to itself, and send their signature alone.
            "thinking" => {
                thoughts.extend(Some(text(fields, "thinking", &place)?).filter(|text| !text.is_empty()));
            }
            // What another server's model thought, in a cipher of that server.
            "redacted_thinking" => {}
            "tool_use" => {
                let input = match fields.get("input") {
                    None | Some(Value::Null) => "{}".to_owned(),
                    Some(input @ Value::Object(_)) => input.to_string(),
                    Some(_) => {
                        let param = format!("{place}.input");
                        let message = format!("`{param}` must be an object");
                        return Err(Refusal::invalid(param, message));
                    }
                };
                let (id, name) = (text(fields, "id", &place)?, text(fields, "name", &place)?);
                calls.push(ToolCall::new(id, name, input));
            }
            other => return Err(unsupported(other, &place)),
        }
    }
    let mut message = Message::assistant(texts.join("\n")).tool_calls(calls);
    if !thoughts.is_empty() {
        message.thinking = Some(thoughts.join("\n"));
    }
    Ok(message)
}

/// A block of content, or a content that is a text alone.
#[derive(Clone, Copy)]
enum Block<'a> {
    Text(&'a str),
    Of(&'a Value),
}

impl<'a> Block<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::Of(_) => "",
        }
    }
}

/// The blocks of a message, each with its place.
fn blocks<'a>(content: Option<&'a Value>, place: &str) -> Result<Vec<(Block<'a>, String)>, Refusal> {
    let param = format!("{place}.content");
    match content {
        Some(Value::String(text)) => Ok(vec![(Block::Text(text), param)]),
        Some(Value::Array(blocks)) => {
            let placed = blocks.iter().enumerate();
            Ok(placed.map(|(at, block)| (Block::Of(block), format!("{param}[{at}]"))).collect())
        }
        _ => {
            let message = format!("`{param}` must be a string or an array of blocks");
            Err(Refusal::invalid(param, message))
        }
    }
}

/// A content of texts alone, each on lines of its own.
fn texts(content: Option<&Value>, param: &str) -> Result<String, Refusal> {
    match content {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(blocks)) => {
            let texts =
                blocks.iter().enumerate().map(|(at, block)| text_alone(block, &format!("{param}[{at}]")));
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        Some(_) => Err(Refusal::invalid(param, format!("`{param}` must be a string or an array of blocks"))),
    }
}

/// What a tool returned, as a text. An image in it becomes a sentence: every later request has it again, and refusing one would
/// refuse them all.
fn result_text(content: Option<&Value>, param: &str) -> Result<String, Refusal> {
    let Some(Value::Array(blocks)) = content else { return texts(content, param) };
    let mut texts = Vec::with_capacity(blocks.len());
    for (at, block) in blocks.iter().enumerate() {
        let place = format!("{param}[{at}]");
        texts.push(match kind(block, &place)? {
            TOOL_REFERENCE => format!("The tool {} can be called now.", text(block, "tool_name", &place)?),
            "document" if document_text(block).is_some() => {
                document_text(block).unwrap_or_default().to_owned()
            }
            kind @ ("image" | "document") => format!("[{kind}: this model reads text alone]"),
            _ => text_alone(block, &place)?.to_owned(),
        });
    }
    Ok(texts.join("\n"))
}

/// The text of a document that is one.
fn document_text(block: &Value) -> Option<&str> {
    let source = block.get("source")?;
    let is_text = source.get("type").is_some_and(|kind| kind == "text");
    source.get("data")?.as_str().filter(|_| is_text)
}

/// The tools that results in these messages refer to, each once, in the order in which they were found.
pub(super) fn referenced_tools(messages: &[WireMessage]) -> Vec<String> {
    fn parts(content: Option<&Value>) -> impl Iterator<Item = &Value> {
        content.and_then(Value::as_array).into_iter().flatten()
    }
    let mut names: Vec<String> = Vec::new();
    for block in messages.iter().flat_map(|message| parts(message.content.as_ref())) {
        for reference in parts(block.get("content")) {
            let is_reference = reference.get("type").is_some_and(|kind| kind == TOOL_REFERENCE);
            let name = reference.get("tool_name").and_then(Value::as_str).filter(|_| is_reference);
            names.extend(name.filter(|name| names.iter().all(|known| known != name)).map(str::to_owned));
        }
    }
    names
}

fn text_alone<'a>(block: &'a Value, place: &str) -> Result<&'a str, Refusal> {
    match kind(block, place)? {
        "text" => text(block, "text", place),
        other => Err(unsupported(other, place)),
    }
}

fn kind<'a>(block: &'a Value, place: &str) -> Result<&'a str, Refusal> {
    text(block, "type", place)
}

fn text<'a>(block: &'a Value, field: &str, place: &str) -> Result<&'a str, Refusal> {
    block.get(field).and_then(Value::as_str).ok_or_else(|| {
        let param = format!("{place}.{field}");
        let message = format!("`{param}` must be a string");
        Refusal::invalid(param, message)
    })
}

fn unsupported(kind: &str, place: &str) -> Refusal {
    let message = match kind {
        "image" | "document" => format!("`{place}` is of the type {kind:?}, and models here read text alone"),
        other => format!("`{place}` is of the type {:?}, which is not supported here", shown(other)),
    };
    Refusal::unsupported(format!("{place}.type"), message)
        .with_hint("send its text in a block of the type \"text\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(system: &Value, messages: &Value) -> Result<Vec<Message>, Refusal> {
        of(Some(system), Some(serde_json::from_value(messages.clone()).expect("parses")))
    }

    fn text_block(text: &str) -> Value {
        json!({ "type": "text", "text": text, "cache_control": { "type": "ephemeral" } })
    }

    #[test]
    fn the_billing_header_is_no_part_of_the_system_text() {
        let hi = json!([{ "role": "user", "content": "Hi" }]);
        let of = |system: Value| read(&system, &hi).expect("sound")[0].clone();
        let header = |build: &str| format!("x-anthropic-billing-header: cc_version=2.1.{build}; cch=1;");
        let first = of(json!([text_block(&header("b7f")), text_block("You help."), text_block("In Turku.")]));
        let second =
            of(json!([text_block(&header("515")), text_block("You help."), text_block("In Turku.")]));
        assert_eq!(first, second);
        assert_eq!(first, Message::system("You help.\nIn Turku."));
        let in_one = format!("{}\n\nYou help.", header("1"));
        assert_eq!(of(json!(in_one)), Message::system("You help."));
        for nothing in
            [json!(header("1")), json!([text_block(&header("1"))]), json!(""), json!([]), json!(null)]
        {
            assert_eq!(of(nothing), Message::user("Hi"));
        }
    }

    #[test]
    fn results_are_messages_of_their_own_and_later_system_messages_stay() {
        let messages = json!([
            { "role": "user", "content": [text_block("Rain?"), text_block("Soon?")] },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "", "signature": "x" },
                { "type": "thinking", "thinking": "so", "signature": "x" },
                { "type": "redacted_thinking", "data": "…" },
                text_block("I look."),
                { "type": "tool_use", "id": "a", "name": "weather", "input": { "city": "Turku", "at": 1 } },
                { "type": "tool_use", "id": "b", "name": "clock" },
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "a", "content": [text_block("Rain"), text_block("4 °C")] },
                { "type": "tool_result", "tool_use_id": "b", "content": "noon", "is_error": false },
                { "type": "tool_result", "tool_use_id": "b" },
                text_block("Well?"),
            ] },
            { "role": "system", "content": [text_block("Be brief.")] },
            { "role": "user", "content": "" },
        ]);
        let calls =
            [ToolCall::new("a", "weather", r#"{"city":"Turku","at":1}"#), ToolCall::new("b", "clock", "{}")];
        let expected = [
            Message::system("You help."),
            Message::user("Rain?\nSoon?"),
            Message::assistant("I look.").thinking("so").tool_calls(calls),
            Message::tool("a", "Rain\n4 °C"),
            Message::tool("b", "noon"),
            Message::tool("b", ""),
            Message::user("Well?"),
            Message::system("Be brief."),
            Message::user(""),
        ];
        assert_eq!(read(&json!("You help."), &messages).expect("sound"), expected);
    }

    #[test]
    fn results_that_are_no_text_become_sentences() {
        let result =
            |content: Value| json!({ "type": "tool_result", "tool_use_id": "a", "content": content });
        let image = json!({ "type": "image", "source": { "type": "base64", "data": "" } });
        let text = json!({ "type": "document", "source": { "type": "text", "data": "Tea." } });
        let pdf = json!({ "type": "document", "source": { "type": "base64", "data": "" } });
        let reference = |name: &str| json!({ "type": "tool_reference", "tool_name": name });
        let messages = json!([{ "role": "user", "content": [
            result(json!([text_block("A file:"), image, text, pdf])),
            result(json!([reference("fetch"), reference("find")])),
            text,
        ] }]);
        let expected = [
            Message::tool(
                "a",
                "A file:\n[image: this model reads text alone]\nTea.\n[document: this model reads text alone]",
            ),
            Message::tool("a", "The tool fetch can be called now.\nThe tool find can be called now."),
            Message::user("Tea."),
        ];
        assert_eq!(read(&Value::Null, &messages).expect("sound"), expected);
        let later = json!([
            messages[0],
            { "role": "user", "content": [result(json!([reference("find"), reference("a")])), text_block("x")] },
            { "role": "user", "content": "x" },
        ]);
        let later: Vec<WireMessage> = serde_json::from_value(later).expect("parses");
        assert_eq!(referenced_tools(&later), ["fetch", "find", "a"]);
    }

    #[test]
    fn what_is_no_text_is_refused_by_its_place() {
        let of = |messages: Value| {
            let failure = read(&Value::Null, &messages).expect_err("refuses").failure;
            failure.param.expect("names the place")
        };
        let user = |block: Value| json!([{ "role": "user", "content": [block] }]);
        let image = json!({ "type": "image", "source": { "type": "base64", "data": "" } });
        let first = "messages[0].content[0]";
        for (messages, place) in [
            (json!([]), "messages".to_owned()),
            (json!([{ "role": "tool", "content": "x" }]), "messages[0].role".to_owned()),
            (json!([{ "role": "user" }]), "messages[0].content".to_owned()),
            (json!([{ "role": "user", "content": 3 }]), "messages[0].content".to_owned()),
            (user(json!(3)), format!("{first}.type")),
            (user(image), format!("{first}.type")),
            (user(json!({ "type": "document" })), format!("{first}.type")),
            (user(json!({ "type": "text" })), format!("{first}.text")),
            (user(json!({ "type": "tool_use", "id": "a", "name": "f" })), format!("{first}.type")),
            (user(json!({ "type": "tool_result" })), format!("{first}.tool_use_id")),
            (
                user(json!({ "type": "tool_result", "tool_use_id": "a", "content": [{ "type": "audio" }] })),
                format!("{first}.content[0].type"),
            ),
            (
                user(
                    json!({ "type": "tool_result", "tool_use_id": "a", "content": [{ "type": "tool_reference" }] }),
                ),
                format!("{first}.content[0].tool_name"),
            ),
        ] {
            assert_eq!(of(messages.clone()), place, "{messages}");
        }
        let call = json!({ "type": "tool_use", "id": "a", "name": "f", "input": "x" });
        let messages =
            json!([{ "role": "assistant", "content": [call] }, { "role": "user", "content": "x" }]);
        assert_eq!(of(messages), format!("{first}.input"));
        for system in [json!(3), json!([{ "type": "image" }]), json!(["x"])] {
            let hi = json!([{ "role": "user", "content": "Hi" }]);
            let param = read(&system, &hi).expect_err("refuses").failure.param.expect("names the place");
            assert!(param.starts_with("system"), "{param}");
        }
    }
}
