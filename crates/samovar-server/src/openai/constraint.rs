//! `response_format` and `grammar`: what an answer must look like, as OpenAI's clients and llama.cpp's say it. How large it may be
//! is the runtime's to say, and what it means its engine's.

use samovar::Constraint;
use serde_json::{Map, Value};

use crate::refusal::{Refusal, shown};

/// Characters of a schema's name.
const NAME_CHARACTERS: usize = 64;

/// What a `response_format` asks for; nothing for text.
///
/// # Errors
/// 400 that names the part of it.
pub(super) fn of_format(format: Option<&Value>) -> Result<Option<Constraint>, Refusal> {
    let Some(format) = format else { return Ok(None) };
    let Value::Object(format) = format else {
        let message = "`response_format` must be an object with a `type`";
        return Err(Refusal::invalid("response_format", message));
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => match format.get("schema") {
            None | Some(Value::Null) => Ok(Some(Constraint::JsonObject)),
            Some(schema) => of_json("response_format.schema", schema).map(Some),
        },
        Some("json_schema") => {
            let named = format.get("json_schema").and_then(Value::as_object).ok_or_else(|| {
                let message = "`response_format.json_schema` must be an object with a `name` and a `schema`";
                Refusal::invalid("response_format.json_schema", message)
            })?;
            of_schema(named).map(Some)
        }
        other => {
            let what = other.map_or_else(|| "missing".to_owned(), |other| format!("{:?}", shown(other)));
            let message =
                format!("`response_format.type` must be text, json_object or json_schema, and is {what}");
            Err(Refusal::invalid("response_format.type", message)
                .with_hint("a grammar or a regular expression goes into `grammar`"))
        }
    }
}

/// A schema with its name, which says nothing to a model here. It is obeyed also where `strict` is not set.
fn of_schema(named: &Map<String, Value>) -> Result<Constraint, Refusal> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match named.get("name") {
        None | Some(Value::Null) => {}
        Some(Value::String(name))
            if (1..=NAME_CHARACTERS).contains(&name.len()) && name.chars().all(is_of_a_name) => {}
        Some(_) => {
            let param = "response_format.json_schema.name";
            let message =
                format!("`{param}` must be from 1 to {NAME_CHARACTERS} letters, digits, `_` and `-`");
            return Err(Refusal::invalid(param, message));
        }
    }
    if !matches!(named.get("strict"), None | Some(Value::Null | Value::Bool(_))) {
        let param = "response_format.json_schema.strict";
        return Err(Refusal::invalid(param, format!("`{param}` must be true or false")));
    }
    of_json("response_format.json_schema.schema", named.get("schema").unwrap_or(&Value::Null))
}

fn of_json(param: &str, schema: &Value) -> Result<Constraint, Refusal> {
    if schema.is_object() {
        return Ok(Constraint::JsonSchema(schema.to_string()));
    }
    Err(Refusal::invalid(param, format!("`{param}` must be a JSON schema: an object")))
}

/// What a `grammar` asks for: GBNF as a string, as llama.cpp's server takes it, or an object that says its type.
///
/// # Errors
/// 400 that names the part of it.
pub(super) fn of_grammar(grammar: Option<&Value>) -> Result<Option<Constraint>, Refusal> {
    let constraint = match grammar {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => Constraint::Gbnf(text.clone()),
        Some(Value::Object(fields)) => {
            let text = || match fields.get("value") {
                Some(Value::String(text)) => Ok(text.clone()),
                _ => Err(Refusal::invalid("grammar.value", "`grammar.value` must be a string: the grammar")),
            };
            match fields.get("type").and_then(Value::as_str) {
                Some("gbnf") => Constraint::Gbnf(text()?),
                Some("lark") => Constraint::Lark(text()?),
                Some("regex") => Constraint::Regex(text()?),
                _ => {
                    return Err(Refusal::invalid(
                        "grammar.type",
                        "`grammar.type` must be gbnf, lark or regex",
                    )
                    .with_hint("a JSON schema goes into `response_format`"));
                }
            }
        }
        Some(_) => {
            let message = "`grammar` must be a string of GBNF, or an object with a `type` and a `value`";
            return Err(Refusal::invalid("grammar", message));
        }
    };
    Ok(Some(constraint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn format(value: &Value) -> Result<Option<Constraint>, String> {
        of_format(Some(value)).map_err(|refusal| refusal.failure.param.expect("names the part"))
    }

    fn grammar(value: &Value) -> Result<Option<Constraint>, String> {
        of_grammar(Some(value)).map_err(|refusal| refusal.failure.param.expect("names the part"))
    }

    #[test]
    fn a_format_is_text_json_or_a_schema() {
        let schema = json!({ "type": "object" });
        let obeyed = Constraint::JsonSchema(schema.to_string());
        let named = |more: Value| {
            let mut named = json!({ "name": "person", "schema": schema });
            for (field, value) in more.as_object().expect("object") {
                named[field] = value.clone();
            }
            json!({ "type": "json_schema", "json_schema": named })
        };
        assert_eq!(of_format(None).expect("none"), None);
        let table = [
            (json!({ "type": "text" }), Ok(None)),
            (json!({ "type": "json_object" }), Ok(Some(Constraint::JsonObject))),
            (json!({ "type": "json_object", "schema": schema }), Ok(Some(obeyed.clone()))),
            (named(json!({})), Ok(Some(obeyed.clone()))),
            (named(json!({ "strict": true, "description": "A person" })), Ok(Some(obeyed.clone()))),
            (named(json!({ "strict": false, "name": null })), Ok(Some(obeyed))),
            (json!("json"), Err("response_format")),
            (json!([]), Err("response_format")),
            (json!({}), Err("response_format.type")),
            (json!({ "type": "regex" }), Err("response_format.type")),
            (json!({ "type": 3 }), Err("response_format.type")),
            (json!({ "type": "json_object", "schema": "x" }), Err("response_format.schema")),
            (json!({ "type": "json_schema" }), Err("response_format.json_schema")),
            (
                json!({ "type": "json_schema", "json_schema": schema }),
                Err("response_format.json_schema.schema"),
            ),
            (named(json!({ "name": "a person" })), Err("response_format.json_schema.name")),
            (named(json!({ "name": "" })), Err("response_format.json_schema.name")),
            (named(json!({ "name": "a".repeat(65) })), Err("response_format.json_schema.name")),
            (named(json!({ "strict": "yes" })), Err("response_format.json_schema.strict")),
            (named(json!({ "schema": true })), Err("response_format.json_schema.schema")),
        ];
        for (value, expected) in table {
            assert_eq!(format(&value), expected.map_err(str::to_owned), "{}", shown(&value.to_string()));
        }
    }

    #[test]
    fn a_grammar_is_gbnf_or_says_its_type() {
        let of = |kind: &str| json!({ "type": kind, "value": "x" });
        let x = || "x".to_owned();
        assert_eq!(of_grammar(None).expect("none"), None);
        let table = [
            (json!(""), Ok(None)),
            (json!("x"), Ok(Some(Constraint::Gbnf(x())))),
            (of("gbnf"), Ok(Some(Constraint::Gbnf(x())))),
            (of("lark"), Ok(Some(Constraint::Lark(x())))),
            (of("regex"), Ok(Some(Constraint::Regex(x())))),
            (of("json"), Err("grammar.type")),
            (json!({}), Err("grammar.type")),
            (json!({ "type": "lark" }), Err("grammar.value")),
            (json!({ "type": "lark", "value": {} }), Err("grammar.value")),
            (json!(3), Err("grammar")),
        ];
        for (value, expected) in table {
            assert_eq!(grammar(&value), expected.map_err(str::to_owned), "{}", shown(&value.to_string()));
        }
    }
}
