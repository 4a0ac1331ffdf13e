//! What a strict schema says that only JSON can be held to. A dialect that writes arguments in another way keeps what has a
//! form there, and refuses the rest by name: nothing that a strict schema says is left out silently.

use samovar_core::{ErrorKind, Failure};
use serde_json::{Map, Value};

use super::lark;
use crate::dialect::Form;
use crate::dialect::reader::tools::{Kinds, Tool};

/// Keywords with which a schema says more than one keyword shows.
const COMBINED: [&str; 6] = ["$ref", "allOf", "if", "not", "oneOf", "contentSchema"];
/// Keywords about several arguments at once.
const OF_ARGUMENTS: [&str; 9] = [
    "anyOf",
    "const",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "enum",
    "maxProperties",
    "minProperties",
    "patternProperties",
];
/// Keywords of numbers and lists, which Python's form does not keep.
const OF_VALUES: [&str; 12] = [
    "contains",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "multipleOf",
    "pattern",
    "prefixItems",
    "uniqueItems",
];
/// Formats that the specification knows; others are notes for people.
const FORMATS: [&str; 19] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];
/// A text must be able to end.
const LEAST_MAX: u64 = 10_000;
/// Counting beyond costs more than leaving it open.
const MOST_MAX: u64 = 1_000_000;
/// Characters of a name in a message.
const NAME_CHARS: usize = 64;
/// Bytes of a pattern.
const PATTERN_BYTES: usize = 1 << 10;

/// Refuses what a strict tool says and this form does not keep.
///
/// # Errors
/// `InvalidRequest` for `tools` with the tool, the argument and the keyword.
pub(super) fn check(tool: &Tool, form: &Form) -> Result<(), Failure> {
    let is_python = *form == Form::Python;
    let (true, Some(Value::Object(schema))) =
        (tool.is_strict && (is_python || matches!(form, Form::Tagged { .. })), &tool.parameters)
    else {
        return Ok(());
    };
    let refuse = |place: &str, keyword: &str| {
        let message = format!(
            "`{keyword}` {place} the tool {:?} cannot be kept in the form in which this model writes calls",
            shown(&tool.name)
        );
        Failure::new(ErrorKind::InvalidRequest, message)
            .with_param("tools")
            .with_hint("leave it out, or leave out `strict` and check the arguments of calls")
    };
    if let Some(keyword) = arguments_keyword(schema) {
        return Err(refuse("of", keyword));
    }
    for (name, own) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let keyword = if is_python { python_keyword(own) } else { tagged_keyword(own) };
        if let Some(keyword) = keyword {
            return Err(refuse(&format!("of the argument {:?} of", shown(name)), keyword));
        }
    }
    Ok(())
}

/// As much of a name as a message has room for.
fn shown(name: &str) -> String {
    name.chars().take(NAME_CHARS).collect()
}

fn first<'k>(schema: &Map<String, Value>, keywords: &[&'k str]) -> Option<&'k str> {
    keywords.iter().copied().find(|keyword| schema.contains_key(*keyword))
}

/// What is said of all arguments, or of an object within Python's, and not kept.
fn arguments_keyword(schema: &Map<String, Value>) -> Option<&'static str> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let is_named = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        properties.is_some_and(|properties| properties.contains_key(name))
    };
    let required = schema.get("required").and_then(Value::as_array);
    let keyword = first(schema, &COMBINED).or_else(|| first(schema, &OF_ARGUMENTS));
    let keyword = keyword.or_else(|| {
        let all_named = required.is_none_or(|required| required.iter().all(is_named));
        (!all_named).then_some("required")
    });
    // Others than those that are named are written only where none is named.
    let others = schema.get("additionalProperties").filter(|others| others.is_object());
    keyword.or_else(|| others.filter(|_| properties.is_none()).map(|_| "additionalProperties"))
}

/// What is said of an argument that is written as plain text, and not kept. Other arguments are JSON.
fn tagged_keyword(schema: &Value) -> Option<&'static str> {
    let schema_fields = schema.as_object()?;
    if !Kinds::of(schema).is_text() || super::values::choices(schema).is_some() {
        return None;
    }
    first(schema_fields, &COMBINED).or_else(|| first(schema_fields, &["anyOf", "const", "enum"])).or_else(
        || {
            text_keyword(schema_fields).or_else(|| {
                (schema_fields.contains_key("pattern") && pattern(schema).is_none()).then_some("pattern")
            })
        },
    )
}

/// What no form of text keeps.
fn text_keyword(schema: &Map<String, Value>) -> Option<&'static str> {
    let is_known = |format: &Value| format.as_str().is_some_and(|format| FORMATS.contains(&format));
    if schema.get("format").is_some_and(is_known) {
        return Some("format");
    }
    let is_within = |key: &str, most: u64| {
        schema.get(key).is_none_or(|count| count.as_u64().is_some_and(|count| count <= most))
    };
    let is_length_kept = is_within("minLength", LEAST_MAX);
    let keyword = (!is_length_kept).then_some("minLength");
    keyword.or_else(|| (!is_within("maxLength", MOST_MAX)).then_some("maxLength"))
}

/// What is said of an argument, or of a value within it, that Python's form does not keep.
fn python_keyword(schema: &Value) -> Option<&'static str> {
    let fields = schema.as_object()?;
    if super::values::choices(schema).is_some() {
        return None;
    }
    let own = first(fields, &COMBINED).or_else(|| first(fields, &["const", "enum"]));
    let own = own.or_else(|| {
        let is_note = |keyword: &&str| *keyword == "format" && text_keyword(fields) != Some("format");
        OF_VALUES.iter().copied().find(|keyword| fields.contains_key(*keyword) && !is_note(keyword))
    });
    let own = own.or_else(|| text_keyword(fields));
    // Of choices, each one is a schema of its own, with nothing beside them.
    let choices = fields.get("anyOf").and_then(Value::as_array);
    let is_mixed = choices.is_some() && (fields.contains_key("type") || fields.contains_key("properties"));
    let own = own.or_else(|| is_mixed.then_some("anyOf"));
    let is_object = fields.contains_key("properties")
        || OF_ARGUMENTS.iter().any(|keyword| *keyword != "anyOf" && fields.contains_key(*keyword));
    let own = own.or_else(|| if is_object { arguments_keyword(fields) } else { None });
    let own = own.or_else(|| {
        let others = fields.get("additionalProperties").filter(|others| **others != Value::Bool(true));
        others.filter(|_| !fields.contains_key("properties")).map(|_| "additionalProperties")
    });
    own.or_else(|| {
        let properties = fields.get("properties").and_then(Value::as_object);
        let inner = properties.into_iter().flat_map(Map::values);
        inner.chain(fields.get("items")).chain(choices.into_iter().flatten()).find_map(python_keyword)
    })
}

/// How many characters a text has at least and at most, where its schema says so.
pub(super) fn lengths(schema: &Value) -> Option<String> {
    let count = |key: &str| schema.get(key).and_then(Value::as_u64);
    let (least, most) = (count("minLength"), count("maxLength"));
    if least.is_none() && most.is_none() {
        return None;
    }
    let most = most.map_or_else(String::new, |most| most.to_string());
    Some(format!("{{{},{most}}}", least.unwrap_or(0)))
}

/// What a text must match, as an expression of terminals. `None` for what has no such form: anchors and words' boundaries
/// within it, and choices that are not in parentheses.
pub(super) fn pattern(schema: &Value) -> Option<String> {
    let pattern = schema.get("pattern")?.as_str().filter(|pattern| pattern.len() <= PATTERN_BYTES)?;
    let (begins, inner) = match pattern.strip_prefix('^') {
        Some(inner) => (true, inner),
        None => (false, pattern),
    };
    let is_escape = |text: &str| text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
    let (ends, inner) = match inner.strip_suffix('$') {
        Some(before) if !is_escape(before) => (true, before),
        _ => (false, inner),
    };
    let (mut is_escaped, mut is_class, mut depth) = (false, false, 0_u32);
    for c in inner.chars() {
        let was_escaped = std::mem::take(&mut is_escaped);
        match c {
            'b' | 'B' if was_escaped && !is_class => return None,
            _ if was_escaped => {}
            '\\' => is_escaped = true,
            ']' if is_class => is_class = false,
            _ if is_class => {}
            '[' => is_class = true,
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            '^' | '$' => return None,
            '|' if depth == 0 => return None,
            _ => {}
        }
    }
    let inner = lark::regex(inner)?;
    let [before, behind] = [begins, ends].map(|is_anchored| if is_anchored { "" } else { "TEXT " });
    Some(format!("{before}{inner} {behind}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_are_kept_where_their_anchors_stand_at_the_ends() {
        let of = |text: &str| pattern(&json!({ "pattern": text }));
        assert_eq!(of("^[A-Z]{2}$").as_deref(), Some("/[A-Z]{2}/"));
        assert_eq!(of("a/b").as_deref(), Some("TEXT /a\\/b/ TEXT"));
        assert_eq!(of("^(a|b)[|^$]\\|").as_deref(), Some("/(a|b)[|^$]\\|/ TEXT"));
        for refused in ["^a|b$", "a$b", "(^a)", "\\bword", "a)b", "a\\"] {
            assert_eq!(of(refused), None, "{refused}");
        }
        assert_eq!(lengths(&json!({ "maxLength": 5 })).as_deref(), Some("{0,5}"));
        assert_eq!(lengths(&json!({ "minLength": 2 })).as_deref(), Some("{2,}"));
        assert_eq!(lengths(&json!({})), None);
    }

    #[test]
    fn what_a_form_cannot_keep_of_a_strict_tool_is_refused_by_name() {
        let mark = String::new;
        let tagged = Form::Tagged {
            before_name: mark(),
            after_name: mark(),
            before_key: mark(),
            after_key: mark(),
            after_value: mark(),
            after_arguments: mark(),
        };
        let tool = |own: &Value, is_strict| {
            let parameters = Some(json!({ "type": "object", "properties": { "a": own }, "required": ["a"] }));
            Tool { name: "f".to_owned(), is_strict, parameters }
        };
        let text = |key: &str, value: Value| json!({ "type": "string", key: value });
        for (own, in_tags, in_python) in [
            (text("maxLength", json!(5)), None, None),
            (text("pattern", json!("^a+$")), None, Some("pattern")),
            (text("pattern", json!("^a|b$")), Some("pattern"), Some("pattern")),
            (text("format", json!("uuid")), Some("format"), Some("format")),
            (text("format", json!("password")), None, None),
            (text("minLength", json!(20_000)), Some("minLength"), Some("minLength")),
            (json!({ "type": "integer", "maximum": 5 }), None, Some("maximum")),
            (json!({ "type": "array", "items": { "type": "string" } }), None, None),
            (
                json!({ "type": "array", "items": { "type": "string" }, "maxItems": 3 }),
                None,
                Some("maxItems"),
            ),
            (json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }), None, None),
            (json!({ "type": "object", "properties": { "b": { "minimum": 1 } } }), None, Some("minimum")),
            (json!({ "enum": ["x", "y"] }), None, None),
        ] {
            for (form, keyword) in [(&tagged, in_tags), (&Form::Python, in_python), (&Form::Harmony, None)] {
                let refused = check(&tool(&own, true), form).err();
                assert_eq!(refused.is_some(), keyword.is_some(), "{own}: {refused:?}");
                if let (Some(failure), Some(keyword)) = (refused, keyword) {
                    assert!(
                        failure.message.starts_with(&format!("`{keyword}` of the argument \"a\"")),
                        "{failure}"
                    );
                    assert_eq!(failure.param.as_deref(), Some("tools"));
                }
                assert_eq!(
                    check(&tool(&own, false), form),
                    Ok(()),
                    "only a strict tool says how far it goes"
                );
            }
        }
        let any = json!({ "properties": { "a": {} }, "minProperties": 1 });
        let whole = Tool { name: "f".to_owned(), is_strict: true, parameters: Some(any) };
        let failure = check(&whole, &tagged).expect_err("one of several");
        assert!(failure.message.starts_with("`minProperties` of the tool \"f\""), "{failure}");
    }
}
