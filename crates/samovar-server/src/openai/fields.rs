//! Fields that would change what an answer means, and that nothing here can do: refused by name.
//!
//! Clients send much that is harmless or known to others alone (`metadata`, `service_tier`, `user`): that is passed over.
//! A field of this table never is, because its answer would look like one that was asked for and be another.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::payload::Payload;
use crate::refusal::Refusal;

/// A field that is refused when its value asks for something.
struct Unbuilt {
    name: &'static str,
    /// Whether a value asks for what is not there.
    asks: fn(&Value) -> bool,
    /// What is not there; follows the field's name.
    what: &'static str,
    hint: &'static str,
}

const fn row(
    name: &'static str,
    asks: fn(&Value) -> bool,
    what: &'static str,
    hint: &'static str,
) -> Unbuilt {
    Unbuilt { name, asks, what, hint }
}

const NO_FORMAT: &str = "is not supported: it is another server's field";
const RESPONSE_FORMAT: &str = "put the schema into `response_format`, as OpenAI's API has it";
const GRAMMAR: &str = "use `grammar`: GBNF, Lark or a regular expression";
const LEAVE_OUT: &str = "leave it out";

static UNBUILT: [Unbuilt; 25] = [
    row("format", is_filled, NO_FORMAT, RESPONSE_FORMAT),
    row("json_schema", is_given, NO_FORMAT, RESPONSE_FORMAT),
    row(
        "structured_outputs",
        is_given,
        NO_FORMAT,
        "use `response_format` for JSON, and `grammar` for the rest",
    ),
    row("guided_json", is_given, NO_FORMAT, RESPONSE_FORMAT),
    row("guided_regex", is_filled, NO_FORMAT, GRAMMAR),
    row("guided_choice", is_filled, NO_FORMAT, GRAMMAR),
    row("guided_grammar", is_filled, NO_FORMAT, GRAMMAR),
    row(
        "functions",
        is_filled,
        "are not supported: OpenAI replaced them by `tools`",
        "send `tools`: `{\"type\": \"function\", \"function\": …}` of each",
    ),
    row(
        "function_call",
        names_a_tool,
        "is not supported: OpenAI replaced it by `tool_choice`",
        "send `tool_choice`: \"none\", \"auto\", \"required\" or `{\"type\": \"function\", \"function\": {\"name\": …}}`",
    ),
    row("store", is_filled, "is not supported: no answer is kept", "leave it out, or set it to false"),
    row(
        "options",
        is_filled,
        "is not supported here: it is a field of Ollama's API",
        "put its fields (`temperature`, `top_p`, `seed`, `stop`) next to `model`; `num_predict` is `max_tokens`, `num_ctx` is `context_tokens`",
    ),
    row(
        "modalities",
        asks_for_more_than_text,
        "is supported with \"text\" alone",
        "leave out all but \"text\"",
    ),
    row("audio", is_given, "is not supported: text is the only modality", LEAVE_OUT),
    row("prediction", is_given, "is not supported", LEAVE_OUT),
    row("web_search_options", is_given, "is not supported: nothing is searched", LEAVE_OUT),
    row(
        "documents",
        is_filled,
        "are not supported yet",
        "put their text into a message; /v1/rerank takes documents",
    ),
    row("continue_final_message", is_filled, "is not supported yet", LEAVE_OUT),
    row("add_generation_prompt", is_false, "is supported as true alone", LEAVE_OUT),
    row("min_tokens", is_filled, "is not supported", "`ignore_eos` with `max_tokens` gives an exact length"),
    row(
        "stop_token_ids",
        is_filled,
        "is not supported",
        "give strings in `stop`, or ban tokens by `logit_bias`",
    ),
    row("bad_words", is_filled, "is not supported", "ban tokens by `logit_bias`: -100"),
    row("allowed_token_ids", is_filled, "is not supported", LEAVE_OUT),
    row("use_beam_search", is_filled, "is not supported", LEAVE_OUT),
    row("prompt_logprobs", is_given, "is not supported yet", LEAVE_OUT),
    row(
        "truncate_prompt_tokens",
        is_filled,
        "is not supported: no prompt is cut in silence",
        "send a shorter prompt; /v1/embeddings has `truncate`",
    ),
];

/// Every field that is refused when its value asks for what is not there, with why and what to do instead.
pub fn refused_fields() -> impl Iterator<Item = (&'static str, String)> {
    UNBUILT.iter().map(|row| (row.name, format!("`{}` {}; {}.", row.name, row.what, row.hint)))
}

/// Refuses a body that asks for what is not there.
///
/// # Errors
/// 400 that names the field and says what to do instead; 400 when the body is no object.
pub(super) fn refuse_unbuilt(payload: &Payload) -> Result<(), Refusal> {
    let found = payload.parse::<Found>()?;
    let may_not_be_called = found.all("function_call").any(|value| value == "none");
    for row in &UNBUILT {
        // What may not be called may be told of.
        let is_moot = row.name == "functions" && may_not_be_called;
        if !is_moot && found.all(row.name).any(row.asks) {
            let message = format!("`{}` {}", row.name, row.what);
            return Err(Refusal::unsupported(row.name, message).with_hint(row.hint));
        }
    }
    Ok(())
}

fn is_given(value: &Value) -> bool {
    !value.is_null()
}

/// Whether a value asks for something: not null, false, zero or empty.
pub(super) fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_true) => *is_true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn is_false(value: &Value) -> bool {
    *value == Value::Bool(false)
}

fn names_a_tool(value: &Value) -> bool {
    is_given(value) && value != "none" && value != "auto"
}

fn asks_for_more_than_text(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(modalities) => modalities.iter().any(|modality| modality != "text"),
        _ => true,
    }
}

/// The fields of a body that are in the table; the others were passed over.
struct Found(Vec<(&'static str, Value)>);

impl Found {
    fn all(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |(field, _)| *field == name).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Search;
        impl<'de> Visitor<'de> for Search {
            type Value = Found;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
                let mut found = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    match UNBUILT.iter().find(|row| row.name == key) {
                        Some(row) => found.push((row.name, map.next_value()?)),
                        None => {
                            let IgnoredAny = map.next_value()?;
                        }
                    }
                }
                Ok(Found(found))
            }
        }
        deserializer.deserialize_map(Search)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use serde_json::json;

    fn refused(body: &Value) -> Option<String> {
        let refusal = refuse_unbuilt(&Payload::of(body.to_string())).err()?;
        assert_eq!((refusal.status, refusal.code), (StatusCode::BAD_REQUEST, "unsupported_parameter"));
        assert!(refusal.failure.hint.is_some(), "{refusal:?}");
        refusal.failure.param
    }

    #[test]
    fn names_are_in_the_table_once() {
        for (at, row) in UNBUILT.iter().enumerate() {
            assert!(UNBUILT[..at].iter().all(|other| other.name != row.name), "{}", row.name);
        }
    }

    #[test]
    fn nothing_is_asked_by_null() {
        for row in &UNBUILT {
            assert_eq!(refused(&json!({ row.name: null })), None, "{}", row.name);
        }
    }

    #[test]
    fn functions_that_may_not_be_called_are_harmless() {
        let functions = json!([{ "name": "f" }]);
        assert_eq!(refused(&json!({ "functions": functions })).as_deref(), Some("functions"));
        assert_eq!(refused(&json!({ "functions": functions, "function_call": "none" })), None);
        for choice in [json!({ "name": "f" }), json!("f"), json!(3)] {
            assert_eq!(refused(&json!({ "function_call": choice })).as_deref(), Some("function_call"));
        }
        for choice in ["none", "auto"] {
            assert_eq!(refused(&json!({ "functions": [], "function_call": choice })), None);
        }
    }

    #[test]
    fn what_is_no_object_is_told_so() {
        for body in ["[]", "3", "\"x\"", "null"] {
            let failure = refuse_unbuilt(&Payload::of(body)).expect_err("refuses").failure;
            assert!(failure.message.contains("a JSON object"), "{body}: {failure}");
        }
    }
}
