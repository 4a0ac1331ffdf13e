//! `text.format`: what an answer must look like. How large it may be is the runtime's to say, and what it means its engine's.

use samovar::Constraint;
use serde_json::Value;

use crate::refusal::{Refusal, shown};

/// What a format asks for; nothing for text.
///
/// # Errors
/// 400 that names the part of it.
pub(super) fn of(format: Option<&Value>) -> Result<Option<Constraint>, Refusal> {
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(None) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Constraint::JsonObject)),
        Some("json_schema") => {
            let schema = format.get("schema").filter(|schema| schema.is_object()).ok_or_else(|| {
                let param = "text.format.schema";
                Refusal::invalid(param, format!("`{param}` must be a JSON schema: an object"))
            })?;
            Ok(Some(Constraint::JsonSchema(schema.to_string())))
        }
        other => {
            let what = other.map_or_else(|| "missing".to_owned(), |other| format!("{:?}", shown(other)));
            let param = "text.format.type";
            let message = format!("`{param}` must be text, json_object or json_schema, and is {what}");
            Err(Refusal::invalid(param, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_format_is_text_json_or_a_schema() {
        let schema = json!({ "type": "object" });
        let obeyed = Constraint::JsonSchema(schema.to_string());
        for (format, expected) in [
            (json!(null), Ok(None)),
            (json!({ "type": "text" }), Ok(None)),
            (json!({ "type": "json_object" }), Ok(Some(Constraint::JsonObject))),
            (
                json!({ "type": "json_schema", "name": "x", "schema": schema, "strict": true }),
                Ok(Some(obeyed)),
            ),
            (json!({ "type": "json_schema", "name": "x" }), Err("text.format.schema")),
            (json!({ "type": "grammar" }), Err("text.format.type")),
            (json!("text"), Err("text.format.type")),
        ] {
            let outcome = of(Some(&format)).map_err(|refusal| refusal.failure.param.expect("names the part"));
            assert_eq!(outcome, expected.map_err(str::to_owned), "{format}");
        }
        assert_eq!(of(None).expect("none"), None);
    }
}
