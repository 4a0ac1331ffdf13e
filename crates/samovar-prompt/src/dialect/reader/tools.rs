//! The tools of a request: their names and what their arguments may be. Schemas are only looked at, never checked.

use std::collections::HashMap;

use samovar_core::{ErrorKind, Failure};
use serde_json::Value;

/// How deep a schema is looked at for the kinds of its values.
const SCHEMA_DEPTH_MAX: u32 = 8;

/// One tool.
#[derive(Debug)]
pub(in crate::dialect) struct Tool {
    pub(in crate::dialect) name: String,
    /// Its arguments must obey its schema to the letter.
    pub(in crate::dialect) is_strict: bool,
    /// The schema of its arguments, where it is an object.
    pub(in crate::dialect) parameters: Option<Value>,
}

/// The tools in the JSON text of a request: objects with `name` and `parameters`, bare or below `function`.
///
/// # Errors
/// `InvalidRequest` for what is no array of objects.
pub(in crate::dialect) fn read(tools: &str) -> Result<Vec<Tool>, Failure> {
    let refuse = |why: String| {
        Failure::new(ErrorKind::InvalidRequest, format!("the tools cannot be read: {why}"))
            .with_param("tools")
            .with_hint(
                "give an array of {\"type\": \"function\", \"function\": {\"name\": …, \"parameters\": …}}",
            )
    };
    let tools: Value = serde_json::from_str(tools).map_err(|error| refuse(error.to_string()))?;
    let Value::Array(tools) = tools else { return Err(refuse("they are no array".to_owned())) };
    let mut read = Vec::new();
    for tool in tools {
        let Value::Object(mut tool) = tool else { return Err(refuse("one is no object".to_owned())) };
        let mut function = match tool.remove("function") {
            Some(Value::Object(function)) => function,
            _ => tool,
        };
        // What has no name is no function; the checks of a request decide about it.
        let Some(Value::String(name)) = function.remove("name") else { continue };
        let is_strict = function.get("strict").and_then(Value::as_bool).unwrap_or(false);
        let parameters = function.remove("parameters").filter(Value::is_object);
        read.push(Tool { name, is_strict, parameters });
    }
    Ok(read)
}

/// Kinds of values that a schema allows; every kind where it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) struct Kinds(u8);

impl Kinds {
    const TEXT: u8 = 1;
    const NUMBER: u8 = 2;
    const BOOLEAN: u8 = 4;
    const NULL: u8 = 8;
    const ARRAY: u8 = 16;
    const OBJECT: u8 = 32;
    /// Nothing is known.
    pub(in crate::dialect) const ANY: Self = Self(0);

    pub(in crate::dialect) fn of(schema: &Value) -> Self {
        Self(kinds(schema, SCHEMA_DEPTH_MAX))
    }

    /// Strings, and nothing else.
    pub(in crate::dialect) fn is_text(self) -> bool {
        self.0 == Self::TEXT
    }

    /// Whether this value is what plain text means: where strings are allowed, too, only what else is allowed.
    pub(super) fn takes(self, value: &Value) -> bool {
        self.0 & Self::TEXT == 0 || self.0 & kind_of(value) != 0
    }
}

fn kind_of(value: &Value) -> u8 {
    match value {
        Value::Null => Kinds::NULL,
        Value::Bool(_) => Kinds::BOOLEAN,
        Value::Number(_) => Kinds::NUMBER,
        Value::String(_) => Kinds::TEXT,
        Value::Array(_) => Kinds::ARRAY,
        Value::Object(_) => Kinds::OBJECT,
    }
}

fn kinds(schema: &Value, depth: u32) -> u8 {
    let named = |name: &Value| match name.as_str() {
        Some("string") => Kinds::TEXT,
        Some("number" | "integer") => Kinds::NUMBER,
        Some("boolean") => Kinds::BOOLEAN,
        Some("null") => Kinds::NULL,
        Some("array") => Kinds::ARRAY,
        Some("object") => Kinds::OBJECT,
        _ => 0,
    };
    match schema.get("type") {
        Some(Value::Array(names)) => return names.iter().fold(0, |all, name| all | named(name)),
        Some(name) => return named(name),
        None => {}
    }
    if let Some(Value::Array(values)) = schema.get("enum") {
        return values.iter().fold(0, |all, value| all | kind_of(value));
    }
    if let Some(value) = schema.get("const") {
        return kind_of(value);
    }
    let choices = ["anyOf", "oneOf"].into_iter().find_map(|key| schema.get(key)?.as_array());
    let Some(choices) = choices.filter(|_| depth > 0) else { return 0 };
    let each: Vec<u8> = choices.iter().map(|choice| kinds(choice, depth - 1)).collect();
    // One that does not say allows every kind.
    if each.contains(&0) { 0 } else { each.iter().fold(0, |all, kinds| all | kinds) }
}

/// What a reader must know of the tools.
#[derive(Debug, Default)]
pub(super) struct Tools {
    tools: HashMap<String, Vec<(String, Kinds)>>,
}

impl Tools {
    pub(super) fn new(tools: &[Tool]) -> Self {
        let arguments = |tool: &Tool| {
            let properties =
                tool.parameters.as_ref().and_then(|schema| schema.get("properties")?.as_object());
            let each = properties.into_iter().flatten();
            each.map(|(name, schema)| (name.clone(), Kinds::of(schema))).collect()
        };
        Self { tools: tools.iter().map(|tool| (tool.name.clone(), arguments(tool))).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    pub(super) fn has(&self, tool: &str) -> bool {
        self.tools.contains_key(tool)
    }

    /// What an argument may be.
    pub(super) fn kinds(&self, tool: &str, argument: &str) -> Kinds {
        let arguments = self.tools.get(tool).into_iter().flatten();
        arguments.filter(|(name, _)| name == argument).map(|(_, kinds)| *kinds).next().unwrap_or(Kinds::ANY)
    }

    /// The name of the argument at a place.
    pub(super) fn argument_at(&self, tool: &str, place: usize) -> Option<&str> {
        Some(&self.tools.get(tool)?.get(place)?.0)
    }

    /// The tool that a name means: some models write a name space before it, or its number or id behind it.
    pub(super) fn meant<'n>(&self, name: &'n str) -> &'n str {
        if self.has(name) {
            return name;
        }
        let bare = name.split_once("[CALL_ID]").map_or(name, |(name, _)| name);
        let bare = bare.strip_prefix("functions.").unwrap_or(bare);
        let numbered = bare.rsplit_once(':');
        let is_numbered =
            |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let bare = numbered.filter(|(_, number)| is_numbered(number)).map_or(bare, |(name, _)| name);
        if self.has(bare) || name.contains("[CALL_ID]") { bare } else { name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_say_which_kinds_of_values_they_allow() {
        let of = |schema: &str| Kinds::of(&serde_json::from_str(schema).unwrap());
        assert!(of(r#"{"type": "string"}"#).is_text());
        assert!(of(r#"{"enum": ["a", "b"]}"#).is_text());
        assert!(of(r#"{"const": "a"}"#).is_text());
        assert!(!of(r#"{"type": ["string", "null"]}"#).is_text());
        assert_eq!(of("{}"), Kinds::ANY);
        assert_eq!(of(r#"{"anyOf": [{"type": "string"}, {}]}"#), Kinds::ANY);
        let nullable = of(r#"{"anyOf": [{"type": "string"}, {"type": "null"}]}"#);
        assert!(nullable.takes(&Value::Null) && !nullable.takes(&Value::from(5)));
        assert!(of(r#"{"type": "integer"}"#).takes(&Value::from(5)) && Kinds::ANY.takes(&Value::from(5)));
        let deep = (0..60).fold("{}".to_owned(), |inner, _| format!(r#"{{"anyOf": [{inner}]}}"#));
        assert_eq!(of(&deep), Kinds::ANY);
    }

    #[test]
    fn tools_are_read_in_both_forms_and_refused_with_their_parameter() {
        let tools = r#"[{"type": "function", "function": {"name": "a", "strict": true, "parameters": {}}},
            {"name": "b"}, {"type": "web_search"}]"#;
        let tools = read(tools).unwrap();
        let seen: Vec<_> = tools.iter().map(|tool| (tool.name.as_str(), tool.is_strict)).collect();
        assert_eq!(seen, [("a", true), ("b", false)]);
        for wrong in ["", "{}", "[1]"] {
            let failure = read(wrong).unwrap_err();
            assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::InvalidRequest, Some("tools")));
        }
    }

    #[test]
    fn a_name_means_a_known_tool_without_its_name_space_and_number() {
        let tools = Tools::new(&read(r#"[{"name": "get"}, {"name": "a:1"}]"#).unwrap());
        for (name, meant) in [
            ("get", "get"),
            ("functions.get:0", "get"),
            ("get:12", "get"),
            ("get[CALL_ID]abc", "get"),
            ("a:1", "a:1"),
            ("other:1", "other:1"),
        ] {
            assert_eq!(tools.meant(name), meant);
        }
    }
}
