//! Tools and the choice among them, as Anthropic's clients write them.

use samovar::{Tool, ToolChoice};
use serde::Deserialize;
use serde_json::Value;

use crate::refusal::{Refusal, shown};

/// A tool.
#[derive(Debug, Deserialize)]
pub(super) struct WireTool {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    description: Option<String>,
    input_schema: Option<Value>,
    strict: Option<bool>,
}

/// The choice among them.
#[derive(Debug, Deserialize)]
pub(super) struct WireChoice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

/// The tools that the client itself runs. Those that Anthropic's servers run, or whose schema only its models know, are passed over.
/// Whether they are sound is the runtime's to say.
///
/// # Errors
/// 400 that names the place.
pub(super) fn of(tools: Option<Vec<WireTool>>) -> Result<Vec<Tool>, Refusal> {
    let tools = tools.unwrap_or_default().into_iter().enumerate();
    let own = tools.filter(|(_, tool)| matches!(tool.kind.as_deref(), None | Some("custom")));
    own.map(|(at, tool)| {
        let name = tool.name.ok_or_else(|| {
            let param = format!("tools[{at}].name");
            let message = format!("`{param}` is missing");
            Refusal::invalid(param, message)
        })?;
        let mut own = Tool::new(name);
        own.description = tool.description;
        own.parameters = tool.input_schema;
        own.strict = tool.strict.unwrap_or(false);
        Ok(own)
    })
    .collect()
}

/// The choice, and whether several may be called in one answer.
///
/// # Errors
/// 400 that names the part of it.
pub(super) fn choice(choice: Option<WireChoice>) -> Result<(ToolChoice, bool), Refusal> {
    let Some(choice) = choice else { return Ok((ToolChoice::Auto, true)) };
    let named = match choice.kind.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(
            choice
                .name
                .ok_or_else(|| Refusal::invalid("tool_choice.name", "`tool_choice.name` is missing"))?,
        ),
        other => {
            let message =
                format!("`tool_choice.type` must be auto, any, tool or none, and is {:?}", shown(other));
            return Err(Refusal::invalid("tool_choice.type", message));
        }
    };
    Ok((named, !choice.disable_parallel_tool_use.unwrap_or(false)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_clients_own_tools_are_kept_and_servers_tools_passed_over() {
        let schema = json!({ "type": "object" });
        let wire = json!([
            { "name": "f", "description": "Does it", "input_schema": schema, "defer_loading": true },
            { "type": "web_search_20250305", "name": "web_search", "max_uses": 3 },
            { "type": "custom", "name": "g", "strict": true },
        ]);
        let tools = of(serde_json::from_value(wire).expect("parses")).expect("sound");
        let f = Tool::new("f").description("Does it").parameters(schema);
        assert_eq!(tools, [f, Tool::new("g").strict()]);
        let nameless = of(serde_json::from_value(json!([{ "description": "x" }])).expect("parses"));
        assert_eq!(nameless.expect_err("refuses").failure.param.as_deref(), Some("tools[0].name"));
    }

    #[test]
    fn a_choice_has_a_type() {
        let of = |value: Value| choice(serde_json::from_value(value).expect("parses"));
        for (value, expected) in [
            (json!(null), (ToolChoice::Auto, true)),
            (json!({ "type": "auto" }), (ToolChoice::Auto, true)),
            (json!({ "type": "any", "disable_parallel_tool_use": true }), (ToolChoice::Required, false)),
            (json!({ "type": "none" }), (ToolChoice::None, true)),
            (json!({ "type": "tool", "name": "f" }), (ToolChoice::Named("f".to_owned()), true)),
        ] {
            assert_eq!(of(value).expect("sound"), expected);
        }
        let param = |value: Value| of(value).expect_err("refuses").failure.param;
        assert_eq!(param(json!({ "type": "required" })).as_deref(), Some("tool_choice.type"));
        assert_eq!(param(json!({ "type": "tool" })).as_deref(), Some("tool_choice.name"));
    }
}
