//! What is wrong with a request for text whatever its model: its tools, the results of tools, its constraint.
//!
//! It is said before anything is looked up, fetched or loaded, in words that fit every way to write a request; the place (`param`) is
//! the one that it has in OpenAI's API. JSON is parsed here, and no more: whether a schema or a grammar is
//! one, and can be had, is said where it is compiled, in the model's worker.

use std::collections::BTreeSet;

use samovar_core::infill::{CHUNKS_MAX, Infill};
use samovar_core::{Constraint, ErrorKind, Failure, ToolChoice};
use serde_json::Value;

use crate::request::{Generate, Input, Message};
use crate::tools::Tool;

/// Tools of one request.
const TOOLS_MAX: usize = 128;
/// Bytes of the names, descriptions and schemas of all of them together.
const TOOLS_BYTES: usize = 1 << 20;
/// Letters of a tool's name: as many as any of the known interfaces allows.
const NAME_LETTERS: usize = 128;
/// Bytes of a schema or grammar.
const SOURCE_BYTES: usize = 64 << 10;
/// Values inside each other in a schema.
const SCHEMA_DEPTH: usize = 64;

/// What a name may be.
const NAMES: &str = "a tool's name has 1 to 128 letters, digits, `_`, `-` and `.`";

/// Looks at all of it.
///
/// # Errors
/// `InvalidRequest` with the place of what is wrong.
pub(crate) fn check(generate: &Generate) -> Result<(), Failure> {
    check_tools(generate)?;
    match &generate.input {
        Input::Chat(messages) => check_results(messages)?,
        Input::Infill(infill) => check_chunks(infill)?,
        Input::Text(_) | Input::Tokens(_) => {}
    }
    generate.constraint.as_ref().map_or(Ok(()), check_constraint)
}

fn check_tools(generate: &Generate) -> Result<(), Failure> {
    let tools = &generate.tools;
    if !tools.is_empty() && !matches!(generate.input, Input::Chat(_)) {
        let hint = "send a conversation, or take `tools` out of the request";
        return Err(wrong("tools", "only conversations have tools", hint));
    }
    if tools.len() > TOOLS_MAX {
        let message = format!("there are {} tools, and one request may have {TOOLS_MAX}", tools.len());
        return Err(wrong("tools", message, "send those that this question may need"));
    }
    let (mut names, mut bytes) = (BTreeSet::new(), 0);
    for (place, tool) in tools.iter().enumerate() {
        bytes += check_tool(tool, &format!("tools[{place}].function"))?;
        if !names.insert(tool.name.as_str()) {
            let message = format!("there are two tools of the name {:?}", tool.name);
            let place = format!("tools[{place}].function.name");
            return Err(wrong(place, message, "give each tool a name of its own"));
        }
    }
    if bytes > TOOLS_BYTES {
        let message = format!("the tools have {bytes} bytes, and may have {TOOLS_BYTES} together");
        return Err(wrong("tools", message, "shorten their descriptions and schemas"));
    }
    match &generate.tool_choice {
        ToolChoice::Required if tools.is_empty() => {
            let message = "a tool is to be called, and the request has none";
            Err(wrong("tool_choice", message, "send `tools`, or take `tool_choice` out of the request"))
        }
        ToolChoice::Named(name) if !names.contains(name.as_str()) => {
            let message =
                format!("the tool {:?} is to be called, and the request has no such tool", beginning(name));
            Err(wrong("tool_choice", message, "name one of `tools`"))
        }
        _ => Ok(()),
    }
}

/// Returns the bytes that it has.
fn check_tool(tool: &Tool, place: &str) -> Result<usize, Failure> {
    let Tool { name, description, parameters, .. } = tool;
    let place_of_name = format!("{place}.name");
    let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || "_-.".contains(*letter);
    if let Some(odd) = name.chars().find(|letter| !is_plain(letter)) {
        let message = format!("the name of a tool is {:?}, and {odd:?} is in it", beginning(name));
        return Err(wrong(place_of_name, message, NAMES));
    }
    if name.is_empty() || name.len() > NAME_LETTERS {
        let message = format!("the name of a tool has {} letters", name.len());
        return Err(wrong(place_of_name, message, NAMES));
    }
    let of_description = description.as_ref().map_or(0, String::len);
    let Some(schema) = parameters else { return Ok(name.len() + of_description) };
    let (place, what) = (format!("{place}.parameters"), format!("the schema of the tool {name:?}"));
    let is_object = schema.as_object().is_some_and(|fields| match fields.get("type") {
        None => true,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
    });
    if !is_object {
        let message = format!("{what} is no JSON schema of an object");
        let hint = r#"arguments have names: send {"type": "object", "properties": {…}}"#;
        return Err(wrong(place, message, hint));
    }
    let schema = schema.to_string();
    check_size(&schema, &what, &place)?;
    check_depth(&schema, &what, &place)?;
    Ok(name.len() + of_description + schema.len())
}

/// A result of a tool answers a call before it. Models make things up about results that they asked for nowhere, and templates
/// refuse them in words of their own. A call without a result is the template's business: some models go on without.
fn check_results(messages: &[Message]) -> Result<(), Failure> {
    let mut called = BTreeSet::new();
    for (place, message) in messages.iter().enumerate() {
        called.extend(message.tool_calls.iter().map(|call| call.id.as_str()));
        if message.role != "tool" {
            continue;
        }
        let (place, message) = match &message.tool_call_id {
            Some(id) if called.contains(id.as_str()) => continue,
            // Clients of models whose templates know no ids leave them out.
            None if !called.is_empty() => continue,
            Some(id) => {
                let place = format!("messages[{place}].tool_call_id");
                let message = format!(
                    "a tool answers the call {:?}, and no message before it has that call",
                    beginning(id)
                );
                (place, message)
            }
            None => {
                let place = format!("messages[{place}]");
                (place, "a message is the result of a tool, and no message before it calls one".to_owned())
            }
        };
        let hint = "send the assistant's message with its calls before the results of the tools";
        return Err(wrong(place, message, hint));
    }
    Ok(())
}

fn check_chunks(infill: &Infill) -> Result<(), Failure> {
    let count = infill.chunks.len();
    if count <= CHUNKS_MAX {
        return Ok(());
    }
    let message = format!("there are {count} further texts, and one request may have {CHUNKS_MAX}");
    Err(wrong("input_extra", message, "send those that help most"))
}

fn check_constraint(constraint: &Constraint) -> Result<(), Failure> {
    let (source, what) = (constraint.source(), constraint.kind());
    match constraint {
        Constraint::JsonObject => Ok(()),
        Constraint::JsonSchema(_) => {
            let param = "response_format";
            let wrong = |message: String| wrong(param, message, "send a JSON schema, which is a JSON object");
            check_size(source, what, param)?;
            check_depth(source, what, param)?;
            match serde_json::from_str(source) {
                Ok(Value::Object(_)) => Ok(()),
                Ok(_) => Err(wrong("the JSON schema is no JSON object".to_owned())),
                Err(error) => Err(wrong(format!("the JSON schema is no JSON: {error}"))),
            }
        }
        Constraint::Regex(_) | Constraint::Lark(_) | Constraint::Gbnf(_) => {
            if source.trim().is_empty() {
                return Err(wrong("grammar", format!("{what} is empty"), "say what answers must look like"));
            }
            check_size(source, what, "grammar")
        }
    }
}

fn check_size(source: &str, what: &str, param: &str) -> Result<(), Failure> {
    let bytes = source.len();
    if bytes <= SOURCE_BYTES {
        return Ok(());
    }
    let message = format!("{what} has {bytes} bytes, and may have {SOURCE_BYTES}");
    Err(wrong(param, message, "ask for less in one request"))
}

fn check_depth(json: &str, what: &str, param: &str) -> Result<(), Failure> {
    if samovar_core::json::place_beyond(json.as_bytes(), SCHEMA_DEPTH).is_none() {
        return Ok(());
    }
    let message = format!("{what} has more than {SCHEMA_DEPTH} levels");
    Err(wrong(param, message, "put parts of it side by side, in `$defs`"))
}

/// As much of a name as people need to know it again.
fn beginning(name: &str) -> String {
    name.chars().take(NAME_LETTERS).collect()
}

fn wrong(param: impl Into<String>, message: impl Into<String>, hint: &str) -> Failure {
    Failure::new(ErrorKind::InvalidRequest, message).with_param(param).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use samovar_core::InfillChunk;
    use serde_json::json;

    use super::*;
    use crate::tools::ToolCall;

    fn chat(tools: Vec<Tool>) -> Generate {
        let mut generate = Generate::new(Input::Chat(vec![Message::user("what is the time?")]));
        generate.tools = tools;
        generate
    }

    /// What is wrong: the place, and the sentence.
    #[track_caller]
    fn refused(generate: &Generate) -> (String, String) {
        let failure = check(generate).expect_err("it is wrong");
        assert_eq!(failure.kind, ErrorKind::InvalidRequest);
        assert!(failure.hint.is_some() && failure.message.len() < 512, "{failure:?}");
        (failure.param.expect("a place"), failure.message)
    }

    /// Arrays inside each other, so many.
    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn as_many_tools_as_may_be_are_let_through_and_more_are_refused() {
        let tools = |count: usize| (0..count).map(|number| Tool::new(format!("tool_{number}"))).collect();
        assert_eq!(check(&chat(tools(TOOLS_MAX))), Ok(()));
        for count in [TOOLS_MAX + 1, 500] {
            let (place, message) = refused(&chat(tools(count)));
            assert_eq!(place, "tools");
            assert!(message.contains(&count.to_string()), "{message}");
        }
    }

    #[test]
    fn names_of_tools_are_plain_and_each_their_own() {
        let longest = "x".repeat(NAME_LETTERS);
        for name in ["clock", "a", "get-the_time.v2", "7", &longest] {
            assert_eq!(check(&chat(vec![Tool::new(name)])), Ok(()), "{name}");
        }
        let (too_long, endless) = ("x".repeat(NAME_LETTERS + 1), "é".repeat(100_000));
        for name in
            ["", " ", "two words", "zeit\u{fc}", "a/b", "a\"b", "a\nb", "<|im_end|>", &too_long, &endless]
        {
            assert_eq!(refused(&chat(vec![Tool::new("ok"), Tool::new(name)])).0, "tools[1].function.name");
        }
        let twice = chat(vec![Tool::new("clock"), Tool::new("add"), Tool::new("clock")]);
        let (place, message) = refused(&twice);
        assert_eq!(place, "tools[2].function.name");
        assert!(message.contains("clock"), "{message}");
    }

    #[test]
    fn parameters_are_schemas_of_objects_of_a_bounded_size() {
        let with = |schema: Value| chat(vec![Tool::new("clock").parameters(schema)]);
        for schema in [
            json!({}),
            json!({ "type": "object", "properties": { "zone": { "type": "string" } } }),
            json!({ "type": ["object", "null"] }),
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "object" } } }),
        ] {
            assert_eq!(check(&with(schema.clone())), Ok(()), "{schema}");
        }
        let levels: Value = serde_json::from_str(&nested(100)).expect("JSON");
        for schema in [
            json!(null),
            json!(true),
            json!("object"),
            json!([]),
            json!({ "type": "string" }),
            json!({ "type": ["string"] }),
            json!({ "type": 7 }),
            json!({ "type": "object", "description": "x".repeat(SOURCE_BYTES) }),
            json!({ "type": "object", "default": levels }),
        ] {
            assert_eq!(refused(&with(schema)).0, "tools[0].function.parameters");
        }
        let described = |number: usize| Tool::new(format!("t{number}")).description("x".repeat(100_000));
        assert_eq!(check(&chat((0..10).map(described).collect())), Ok(()));
        assert_eq!(refused(&chat((0..11).map(described).collect())).0, "tools");
    }

    #[test]
    fn a_choice_is_one_of_the_tools() {
        let choose = |tools: &[&str], tool_choice: ToolChoice| Generate {
            tool_choice,
            ..chat(tools.iter().map(|name| Tool::new(*name)).collect())
        };
        let named = |name: &str| ToolChoice::Named(name.to_owned());
        for choice in [ToolChoice::Auto, ToolChoice::None, ToolChoice::Required, named("clock")] {
            assert_eq!(check(&choose(&["add", "clock"], choice)), Ok(()));
        }
        assert_eq!(check(&choose(&[], ToolChoice::None)), Ok(()));
        for (tools, choice) in [
            (&[][..], ToolChoice::Required),
            (&[][..], named("clock")),
            (&["add"][..], named("clock")),
            (&["add"][..], named(&"x".repeat(100_000))),
        ] {
            assert_eq!(refused(&choose(tools, choice)).0, "tool_choice");
        }
    }

    #[test]
    fn only_conversations_have_tools() {
        let text =
            Generate { input: Input::Text("the time is".to_owned()), ..chat(vec![Tool::new("clock")]) };
        assert_eq!(refused(&text).0, "tools");
    }

    #[test]
    fn a_gap_has_a_bounded_number_of_further_texts() {
        let with = |count| {
            let chunk = InfillChunk { name: "a".to_owned(), text: "b".to_owned() };
            Generate::new(Input::Infill(Infill { chunks: vec![chunk; count], ..Infill::new("", "") }))
        };
        assert_eq!(check(&with(CHUNKS_MAX)), Ok(()));
        assert_eq!(refused(&with(CHUNKS_MAX + 1)).0, "input_extra");
    }

    #[test]
    fn results_answer_calls_before_them() {
        let said = |messages: Vec<Message>| Generate::new(Input::Chat(messages));
        let call = |id: &str| Message::assistant("").tool_calls([ToolCall::new(id, "clock", "{}")]);
        let question = || Message::user("what is the time?");
        let nameless = || Message::new("tool", "noon");
        for sound in [
            vec![question(), call("a"), Message::tool("a", "noon")],
            vec![question(), call("a"), call("b"), Message::tool("b", "noon"), Message::tool("a", "noon")],
            vec![question(), call(""), nameless(), Message::assistant("It is noon."), question()],
            vec![question(), call("a"), question()],
        ] {
            assert_eq!(check(&said(sound.clone())), Ok(()), "{sound:?}");
        }
        for (wrong, place) in [
            (vec![question(), Message::tool("a", "noon")], "messages[1].tool_call_id"),
            (vec![question(), call("a"), Message::tool("b", "noon")], "messages[2].tool_call_id"),
            (vec![Message::tool("a", "noon"), call("a")], "messages[0].tool_call_id"),
            (vec![question(), call("a"), Message::tool("x".repeat(100_000), "")], "messages[2].tool_call_id"),
            (vec![question(), nameless()], "messages[1]"),
        ] {
            assert_eq!(refused(&said(wrong)).0, place);
        }
    }

    #[test]
    fn constraints_are_bounded_and_schemas_are_json() {
        let with = |constraint: Constraint| {
            let input = Input::Text("The answer:".to_owned());
            Generate { constraint: Some(constraint), ..Generate::new(input) }
        };
        let schema = |text: &str| with(Constraint::JsonSchema(text.to_owned()));
        let levels = |levels: usize| schema(&format!(r#"{{"enum": {}}}"#, nested(levels)));
        let texts = schema(r#"{"const": "[[\"{{{\\"}"#);
        for sound in [
            with(Constraint::JsonObject),
            schema("{}"),
            schema(r#" {"type": "array"} "#),
            levels(SCHEMA_DEPTH - 1),
            texts,
            with(Constraint::Regex("a+".to_owned())),
            with(Constraint::Lark("start: /a+/".to_owned())),
            with(Constraint::Gbnf(r#"root ::= "a"+"#.to_owned())),
        ] {
            assert_eq!(check(&sound), Ok(()), "{:?}", sound.constraint);
        }
        let large = format!(r#"{{"description": "{}"}}"#, "x".repeat(1 << 20));
        for wrong in [schema(""), schema("{"), schema("true"), schema("[]"), schema("{} {}"), schema(&large)]
        {
            assert_eq!(refused(&wrong).0, "response_format");
        }
        for wrong in [levels(SCHEMA_DEPTH), levels(1_000), levels(10_000)] {
            assert!(refused(&wrong).1.contains("64 levels"));
        }
        let long = "a".repeat(SOURCE_BYTES + 1);
        for source in ["", " \n", &long] {
            let constraints = [
                Constraint::Regex(source.to_owned()),
                Constraint::Lark(source.to_owned()),
                Constraint::Gbnf(source.to_owned()),
            ];
            for constraint in constraints {
                assert_eq!(refused(&with(constraint)).0, "grammar");
            }
        }
    }
}
