//! Objects that get no property but those that they declare, although their schema leaves others open.
//!
//! By the specification, a schema that says nothing of `additionalProperties` allows any others. No program means that when it
//! asks a model for an object, and small models then add properties until their answer is cut off. llama.cpp and `XGrammar`
//! close such objects too. Every answer still fits the schema as it was written.

use serde_json::{Map, Value};

/// Keywords by which a schema describes the same value once more.
const COMBINING: [&str; 4] = ["allOf", "anyOf", "oneOf", "$ref"];
/// Keywords that, like `OTHERS`, may want a property that a schema beside them does not declare.
const DESCRIBING: [&str; 2] = ["properties", "required"];
/// Keywords that say which other properties an object may or must have.
const OTHERS: [&str; 6] =
    ["additionalProperties", "const", "enum", "minProperties", "patternProperties", "unevaluatedProperties"];

/// Whether some value of the document is described by two schemas at once, of which one may want properties that the other
/// does not declare. Closed, these would refuse each other's.
pub(super) fn combines_objects(document: &Value) -> bool {
    match document {
        Value::Object(keywords) => {
            let has = |keyword: &str| keywords.contains_key(keyword);
            let combining = COMBINING.into_iter().filter(|keyword| has(keyword)).count();
            let describing = usize::from(DESCRIBING.into_iter().chain(OTHERS).any(has));
            let all = keywords.get("allOf").and_then(Value::as_array);
            let more = all.map_or(0, |all| all.len().saturating_sub(1));
            (combining > 0 && combining + describing + more > 1) || keywords.values().any(combines_objects)
        }
        Value::Array(values) => values.iter().any(combines_objects),
        _ => false,
    }
}

/// Whether a schema declares properties and says nothing of others, nor needs one. One that declares an empty list of them
/// means any object.
pub(super) fn is_left_open(keywords: &Map<String, Value>) -> bool {
    let Some(Value::Object(declared)) = keywords.get("properties") else { return false };
    let needs = keywords.get("required").and_then(Value::as_array).into_iter().flatten();
    !declared.is_empty()
        && !OTHERS.into_iter().any(|keyword| keywords.contains_key(keyword))
        && needs.filter_map(Value::as_str).all(|name| declared.contains_key(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_that_are_described_twice_stay_open() {
        let object = json!({ "properties": { "a": { "type": "integer" } } });
        assert!(combines_objects(&json!({ "allOf": [object, object] })));
        assert!(combines_objects(&json!({ "properties": { "a": true }, "anyOf": [object] })));
        assert!(combines_objects(
            &json!({ "items": [{ "$ref": "#/$defs/a", "properties": { "b": true } }] })
        ));
        assert!(!combines_objects(&json!({ "anyOf": [object, { "type": "null" }] })));
        assert!(!combines_objects(
            &json!({ "allOf": [{ "$ref": "#/$defs/a" }], "default": 1, "$defs": { "a": object } })
        ));
        assert!(!combines_objects(&object));
        // A property that is wanted here may be undeclared there.
        for (keyword, value) in [
            ("required", json!(["b"])),
            ("minProperties", json!(2)),
            ("const", json!({ "a": 1, "b": 2 })),
            ("enum", json!([{ "b": 2 }])),
            ("additionalProperties", json!({ "type": "integer" })),
            ("patternProperties", json!({ "^b": true })),
        ] {
            assert!(combines_objects(&json!({ "$ref": "#/$defs/a", keyword: value })), "{keyword}");
        }
        assert!(combines_objects(&json!({ "anyOf": [object], "oneOf": [object] })));
    }

    #[test]
    fn a_schema_that_says_what_else_may_come_is_taken_at_its_word() {
        let is_open = |schema: Value| is_left_open(schema.as_object().expect("an object"));
        assert!(is_open(json!({ "properties": { "a": true }, "required": ["a"] })));
        assert!(!is_open(json!({ "properties": { "a": true }, "required": ["b"] })));
        assert!(!is_open(json!({ "properties": { "a": true }, "additionalProperties": true })));
        assert!(!is_open(json!({ "properties": { "a": true }, "unevaluatedProperties": true })));
        assert!(!is_open(json!({ "properties": { "a": true }, "patternProperties": { "^b": true } })));
        assert!(!is_open(json!({ "properties": { "a": true }, "const": { "a": 1, "b": 2 } })));
        assert!(!is_open(json!({ "properties": { "a": true }, "enum": [{ "b": 2 }] })));
        assert!(!is_open(json!({ "properties": { "a": true }, "minProperties": 2 })));
        assert!(!is_open(json!({ "properties": {} })));
        assert!(!is_open(json!({ "type": "object" })));
    }
}
