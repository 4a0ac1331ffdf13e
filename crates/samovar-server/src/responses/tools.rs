//! Tools and the choice among them, as clients of the Responses API write them.

use samovar::{Tool, ToolChoice};
use serde_json::Value;

use crate::generation::allowed_tools;
use crate::refusal::Refusal;

const FUNCTION: &str = "function";

/// The functions that may be called, and the choice among them. Tools of other types run on OpenAI's servers or are known to its models
/// alone, and are passed over. Whether functions are sound is the runtime's to say.
///
/// # Errors
/// 400 that names the place.
pub(super) fn of(
    tools: Option<Vec<Value>>,
    choice: Option<&Value>,
) -> Result<(Vec<Tool>, ToolChoice), Refusal> {
    let mut functions = Vec::new();
    for (at, mut tool) in tools.unwrap_or_default().into_iter().enumerate() {
        let kind = tool.get("type").and_then(Value::as_str).ok_or_else(|| not_a_string(at, "type"))?;
        if kind == FUNCTION {
            functions.push(function(at, &mut tool)?);
        }
    }
    let (choice, among) = self::choice(choice)?;
    if let Some(among) = among {
        allowed_tools::keep(&mut functions, &among)?;
    }
    Ok((functions, choice))
}

fn function(at: usize, tool: &mut Value) -> Result<Tool, Refusal> {
    let mut text = |field: &str| match tool.get_mut(field).map(Value::take) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(not_a_string(at, field)),
    };
    let name = text("name")?.ok_or_else(|| not_a_string(at, "name"))?;
    let description = text("description")?;
    let mut function = Tool::new(name);
    function.description = description;
    function.parameters = tool.get_mut("parameters").map(Value::take).filter(|schema| !schema.is_null());
    function.strict = match tool.get("strict") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(strict)) => *strict,
        Some(_) => {
            let param = format!("tools[{at}].strict");
            let message = format!("`{param}` must be true or false");
            return Err(Refusal::invalid(param, message));
        }
    };
    Ok(function)
}

fn not_a_string(at: usize, field: &str) -> Refusal {
    let param = format!("tools[{at}].{field}");
    let message = format!("`{param}` must be a string");
    Refusal::invalid(param, message)
}

/// A choice, and the names of the functions that it is among, where these are not all.
fn choice(choice: Option<&Value>) -> Result<(ToolChoice, Option<Vec<String>>), Refusal> {
    let wrong = || {
        let message = "`tool_choice` must be none, auto, required, or an object that names a function";
        Refusal::invalid("tool_choice", message)
            .with_hint("such as {\"type\": \"function\", \"name\": \"get_weather\"}")
    };
    let Some(choice) = choice.filter(|choice| !choice.is_null()) else { return Ok((ToolChoice::Auto, None)) };
    match (choice.as_str(), choice.get("type").and_then(Value::as_str)) {
        (Some(word), _) => Ok((mode(word).ok_or_else(wrong)?, None)),
        (None, Some(FUNCTION)) => Ok((ToolChoice::Named(name(choice).ok_or_else(wrong)?), None)),
        (None, Some("allowed_tools")) => {
            let mode = choice.get("mode").and_then(Value::as_str).and_then(mode).ok_or_else(wrong)?;
            let tools = choice.get("tools").and_then(Value::as_array).ok_or_else(wrong)?;
            let functions = tools.iter().filter(|tool| tool.get("type").is_some_and(|kind| kind == FUNCTION));
            let among = functions.map(name).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
            Ok((mode, Some(among)))
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

fn name(of: &Value) -> Option<String> {
    of.get("name").and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(tools: &Value, choice: &Value) -> Result<(Vec<Tool>, ToolChoice), String> {
        let tools = serde_json::from_value(tools.clone()).expect("parses");
        of(tools, Some(choice)).map_err(|refusal| refusal.failure.param.expect("names the place"))
    }

    fn tools() -> Value {
        json!([
            { "type": "function", "name": "f", "description": "Does it", "strict": true,
              "parameters": { "type": "object" } },
            { "type": "web_search", "external_web_access": true },
            { "type": "namespace", "name": "n", "tools": [{ "type": "function", "name": "inner" }] },
            { "type": "function", "name": "g", "description": null, "parameters": null, "strict": null },
        ])
    }

    #[test]
    fn functions_are_kept_and_all_other_tools_passed_over() {
        let (tools, choice) = read(&tools(), &Value::Null).expect("sound");
        let f = Tool::new("f").description("Does it").parameters(json!({ "type": "object" })).strict();
        assert_eq!((tools, choice), (vec![f, Tool::new("g")], ToolChoice::Auto));
        assert_eq!(of(None, None).expect("none"), (Vec::new(), ToolChoice::Auto));
        for (wrong, place) in [
            (json!([3]), "tools[0].type"),
            (json!([{ "type": "function" }]), "tools[0].name"),
            (json!([{ "type": "function", "name": 3 }]), "tools[0].name"),
            (json!([{ "type": "function", "name": "f", "description": [] }]), "tools[0].description"),
            (json!([{ "type": "function", "name": "f", "strict": "yes" }]), "tools[0].strict"),
        ] {
            assert_eq!(read(&wrong, &Value::Null), Err(place.to_owned()), "{wrong}");
        }
    }

    #[test]
    fn a_choice_is_a_word_or_names_functions() {
        let names = |choice: Value| -> Result<(Vec<String>, ToolChoice), String> {
            let (tools, choice) = read(&tools(), &choice)?;
            Ok((tools.into_iter().map(|tool| tool.name).collect::<Vec<_>>(), choice))
        };
        let all = || vec!["f".to_owned(), "g".to_owned()];
        let named = |name: &str| json!({ "type": "function", "name": name });
        let search = json!({ "type": "web_search" });
        let allowed =
            |mode: &str, tools: Vec<Value>| json!({ "type": "allowed_tools", "mode": mode, "tools": tools });
        for (choice, expected) in [
            (json!("auto"), (all(), ToolChoice::Auto)),
            (json!("required"), (all(), ToolChoice::Required)),
            (json!("none"), (all(), ToolChoice::None)),
            (named("g"), (all(), ToolChoice::Named("g".to_owned()))),
            (allowed("auto", vec![named("g"), search.clone()]), (vec!["g".to_owned()], ToolChoice::Auto)),
            (allowed("auto", vec![search.clone()]), (Vec::new(), ToolChoice::Auto)),
        ] {
            assert_eq!(names(choice.clone()), Ok(expected), "{choice}");
        }
        for wrong in [
            json!("sometimes"),
            json!(3),
            json!({}),
            search,
            json!({ "type": "function", "function": { "name": "f" } }),
            allowed("auto", vec![named("h")]),
            allowed("always", vec![named("f")]),
            json!({ "type": "allowed_tools" }),
        ] {
            assert_eq!(names(wrong.clone()), Err("tool_choice".to_owned()), "{wrong}");
        }
    }
}
