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
    defer_loading: Option<bool>,
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
/// A tool whose loading is deferred is one that the model must search for first. It is there once a result refers to it, and stands
/// behind all others, in the order of `referenced`: so the prompt begins as before. Where Anthropic's server would search, nothing
/// does here, and all are there.
///
/// # Errors
/// 400 that names the place.
pub(super) fn of(tools: Option<Vec<WireTool>>, referenced: &[String]) -> Result<Vec<Tool>, Refusal> {
    let tools = tools.unwrap_or_default();
    let is_search = |kind: &str| kind.starts_with("tool_search_tool");
    let is_searched_by_server = tools.iter().any(|tool| tool.kind.as_deref().is_some_and(is_search));
    let mut own: Vec<(usize, Tool)> = Vec::with_capacity(tools.len());
    for (at, wire) in tools.into_iter().enumerate() {
        if !matches!(wire.kind.as_deref(), None | Some("custom")) {
            continue;
        }
        let name = wire.name.ok_or_else(|| {
            let param = format!("tools[{at}].name");
            let message = format!("`{param}` is missing");
            Refusal::invalid(param, message)
        })?;
        let found = referenced.iter().position(|found| *found == name);
        let place = match (wire.defer_loading.unwrap_or(false) && !is_searched_by_server, found) {
            (false, _) => 0,
            (true, Some(found)) => found + 1,
            (true, None) => continue,
        };
        let mut tool = Tool::new(name);
        tool.description = wire.description;
        tool.parameters = wire.input_schema;
        tool.strict = wire.strict.unwrap_or(false);
        own.push((place, tool));
    }
    own.sort_by_key(|(place, _)| *place);
    Ok(own.into_iter().map(|(_, tool)| tool).collect())
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
            { "name": "f", "description": "Does it", "input_schema": schema, "defer_loading": false },
            { "type": "web_search_20250305", "name": "web_search", "max_uses": 3 },
            { "type": "custom", "name": "g", "strict": true },
        ]);
        let tools = of(serde_json::from_value(wire).expect("parses"), &[]).expect("sound");
        let f = Tool::new("f").description("Does it").parameters(schema);
        assert_eq!(tools, [f, Tool::new("g").strict()]);
        let nameless = of(serde_json::from_value(json!([{ "description": "x" }])).expect("parses"), &[]);
        assert_eq!(nameless.expect_err("refuses").failure.param.as_deref(), Some("tools[0].name"));
    }

    #[test]
    fn deferred_tools_come_once_they_are_found_and_behind_the_others() {
        let deferred = |name: &str| json!({ "name": name, "defer_loading": true });
        let names = |tools: Value, referenced: &[&str]| -> Vec<String> {
            let referenced: Vec<String> = referenced.iter().map(|name| (*name).to_owned()).collect();
            let tools = of(serde_json::from_value(tools).expect("parses"), &referenced).expect("sound");
            tools.into_iter().map(|tool| tool.name).collect()
        };
        let tools =
            || json!([deferred("a"), { "name": "search" }, deferred("b"), deferred("c"), { "name": "z" }]);
        assert_eq!(names(tools(), &[]), ["search", "z"]);
        assert_eq!(names(tools(), &["c", "none"]), ["search", "z", "c"]);
        assert_eq!(
            names(tools(), &["c", "none", "a"]),
            ["search", "z", "c", "a"],
            "the prompt begins as before"
        );
        let searched = json!([{ "type": "tool_search_tool_regex_20251119", "name": "s" }, deferred("a"), { "name": "z" }]);
        assert_eq!(names(searched, &[]), ["a", "z"], "nothing here searches");
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
