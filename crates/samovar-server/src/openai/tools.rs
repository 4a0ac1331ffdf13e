//! Tools, the choice among them, and calls of them, as OpenAI's clients write them.

use samovar::{Tool, ToolCall, ToolChoice};
use serde::Deserialize;
use serde_json::Value;

use crate::generation::allowed_tools;
use crate::refusal::{Refusal, shown};

const FUNCTION: &str = "function";

/// A tool.
#[derive(Debug, Deserialize)]
pub(super) struct WireTool {
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<WireFunction>,
}

#[derive(Debug, Deserialize)]
struct WireFunction {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

/// A call in a message of the model.
#[derive(Debug, Deserialize)]
pub(super) struct WireCall {
    /// Clients of models whose templates know no ids leave it out.
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<WireCalled>,
}

#[derive(Debug, Deserialize)]
struct WireCalled {
    name: String,
    arguments: String,
}

/// The tools of a request that may be called, and the choice among them. Whether they are sound is the runtime's to say.
///
/// # Errors
/// 400 that names the place.
pub(super) fn of(
    tools: Option<Vec<WireTool>>,
    choice: Option<&Value>,
) -> Result<(Vec<Tool>, ToolChoice), Refusal> {
    let tools = tools.unwrap_or_default().into_iter().enumerate().map(|(at, tool)| self::tool(at, tool));
    let mut tools = tools.collect::<Result<Vec<_>, _>>()?;
    let (choice, among) = self::choice(choice)?;
    if let Some(among) = among {
        allowed_tools::keep(&mut tools, &among)?;
    }
    Ok((tools, choice))
}

fn tool(at: usize, tool: WireTool) -> Result<Tool, Refusal> {
    check_kind(tool.kind.as_deref(), &format!("tools[{at}].type"))?;
    let function = tool.function.ok_or_else(|| {
        let param = format!("tools[{at}].function");
        let message = format!("`{param}` is missing");
        Refusal::invalid(param, message)
    })?;
    let mut tool = Tool::new(function.name);
    tool.description = function.description;
    tool.parameters = function.parameters;
    tool.strict = function.strict.unwrap_or(false);
    Ok(tool)
}

fn check_kind(kind: Option<&str>, param: &str) -> Result<(), Refusal> {
    match kind {
        None | Some(FUNCTION) => Ok(()),
        Some(other) => {
            let message = format!("`{param}` is {:?}, and functions alone are supported", shown(other));
            Err(Refusal::unsupported(param, message).with_hint("use the type \"function\""))
        }
    }
}

/// A choice, and the names of the tools that it is among, where these are not all.
fn choice(choice: Option<&Value>) -> Result<(ToolChoice, Option<Vec<String>>), Refusal> {
    let all = |choice: ToolChoice| Ok((choice, None));
    let wrong = || {
        let message = "`tool_choice` must be none, auto, required, or an object that names a function";
        Refusal::invalid("tool_choice", message)
            .with_hint("such as {\"type\": \"function\", \"function\": {\"name\": \"get_weather\"}}")
    };
    let Some(choice) = choice else { return all(ToolChoice::Auto) };
    match (choice.as_str(), choice.get("type").and_then(Value::as_str)) {
        (Some(word), _) => all(mode(word).ok_or_else(wrong)?),
        (None, Some(FUNCTION)) => all(ToolChoice::Named(name(choice).ok_or_else(wrong)?)),
        (None, Some("allowed_tools")) => {
            let allowed = &choice["allowed_tools"];
            let choice = allowed["mode"].as_str().and_then(mode).ok_or_else(wrong)?;
            let tools = allowed["tools"].as_array().ok_or_else(wrong)?;
            let among = tools.iter().map(name).collect::<Option<Vec<_>>>();
            let among = among.filter(|among| !among.is_empty()).ok_or_else(wrong)?;
            Ok((choice, Some(among)))
        }
        _ => Err(wrong()),
    }
}

fn mode(word: &str) -> Option<ToolChoice> {
    Some(match word {
        "none" => ToolChoice::None,
        "auto" => ToolChoice::Auto,
        "required" => ToolChoice::Required,
        _ => return None,
    })
}

/// The name of the function that an object is about.
fn name(of: &Value) -> Option<String> {
    of[FUNCTION]["name"].as_str().map(str::to_owned)
}

/// The calls of the message `at`. What they say is the model's, and passed on as it is.
///
/// # Errors
/// 400 that names the place.
pub(super) fn calls(at: usize, calls: Vec<WireCall>) -> Result<Vec<ToolCall>, Refusal> {
    let calls = calls.into_iter().enumerate();
    calls.map(|(call_at, call)| self::call(&format!("messages[{at}].tool_calls[{call_at}]"), call)).collect()
}

fn call(place: &str, call: WireCall) -> Result<ToolCall, Refusal> {
    check_kind(call.kind.as_deref(), &format!("{place}.type"))?;
    let called = call.function.ok_or_else(|| {
        Refusal::invalid(format!("{place}.function"), format!("`{place}.function` is missing"))
    })?;
    Ok(ToolCall::new(call.id.unwrap_or_default(), called.name, called.arguments))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(tools: &Value, choice: &Value) -> Result<(Vec<String>, ToolChoice), String> {
        let wire = serde_json::from_value(tools.clone()).expect("parses");
        let outcome = of(wire, Some(choice).filter(|choice| !choice.is_null()));
        let names = |tools: Vec<Tool>| tools.into_iter().map(|tool| tool.name).collect();
        outcome
            .map(|(tools, choice)| (names(tools), choice))
            .map_err(|refusal| refusal.failure.param.expect("names the place"))
    }

    fn two() -> Value {
        json!([{ "type": "function", "function": { "name": "f" } }, { "function": { "name": "g" } }])
    }

    #[test]
    fn a_tool_has_all_that_is_said_of_it() {
        let wire = json!([{ "type": "function", "function": {
            "name": "f", "description": "Does it", "strict": true, "parameters": { "type": "object" } } }]);
        let (tools, choice) = of(serde_json::from_value(wire).expect("parses"), None).expect("sound");
        let mut expected = Tool::new("f").description("Does it").parameters(json!({ "type": "object" }));
        expected.strict = true;
        assert_eq!((tools, choice), (vec![expected], ToolChoice::Auto));
        assert_eq!(of(None, None).expect("none"), (Vec::new(), ToolChoice::Auto));
    }

    #[test]
    fn a_choice_is_a_word_or_names_a_function() {
        let all = || vec!["f".to_owned(), "g".to_owned()];
        let named = |name: &str| json!({ "type": "function", "function": { "name": name } });
        let allowed = |mode: &str, names: &[&str]| {
            let tools: Vec<Value> = names.iter().map(|name| named(name)).collect();
            json!({ "type": "allowed_tools", "allowed_tools": { "mode": mode, "tools": tools } })
        };
        for (choice, expected) in [
            (json!(null), (all(), ToolChoice::Auto)),
            (json!("auto"), (all(), ToolChoice::Auto)),
            (json!("none"), (all(), ToolChoice::None)),
            (json!("required"), (all(), ToolChoice::Required)),
            (named("g"), (all(), ToolChoice::Named("g".to_owned()))),
            (allowed("auto", &["g"]), (vec!["g".to_owned()], ToolChoice::Auto)),
            (allowed("required", &["g", "f"]), (all(), ToolChoice::Required)),
        ] {
            assert_eq!(read(&two(), &choice), Ok(expected), "{choice}");
        }
        for wrong in [
            json!("sometimes"),
            json!(3),
            json!([]),
            json!({}),
            json!({ "type": "function" }),
            json!({ "type": "function", "function": { "name": 3 } }),
            json!({ "type": "custom", "custom": { "name": "f" } }),
            allowed("auto", &["f", "h"]),
            allowed("always", &["f"]),
            allowed("required", &[]),
            json!({ "type": "allowed_tools" }),
        ] {
            assert_eq!(read(&two(), &wrong), Err("tool_choice".to_owned()), "{wrong}");
        }
        assert_eq!(read(&json!(null), &json!("auto")), Ok((Vec::new(), ToolChoice::Auto)));
    }

    #[test]
    fn only_functions_are_tools() {
        let of = |tool: Value| read(&json!([two()[0], tool]), &Value::Null).expect_err("refuses");
        assert_eq!(of(json!({ "type": "custom", "custom": { "name": "x" } })), "tools[1].type");
        assert_eq!(of(json!({ "type": "function" })), "tools[1].function");
    }

    #[test]
    fn calls_are_passed_on_as_they_are() {
        let wire =
            json!([{ "id": "a", "type": "function", "function": { "name": "odd name", "arguments": "{" } }]);
        let said = calls(3, serde_json::from_value(wire).expect("parses")).expect("sound");
        assert_eq!(said, [ToolCall::new("a", "odd name", "{")]);
        let of = |wire: Value| {
            let refusal = calls(3, serde_json::from_value(wire).expect("parses")).expect_err("refuses");
            refusal.failure.param.expect("names the place")
        };
        assert_eq!(of(json!([{ "id": "a", "type": "custom" }])), "messages[3].tool_calls[0].type");
        assert_eq!(of(json!([{ "id": "a" }])), "messages[3].tool_calls[0].function");
    }
}
