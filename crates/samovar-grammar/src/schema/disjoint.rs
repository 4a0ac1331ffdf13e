//! Whether no value can fit two schemas. It says yes only where that is plain to see.

use serde_json::{Map, Value};

use super::references::References;

/// References that are followed one after the other.
const REFERENCES_MOST: usize = 8;
/// Names of the types, with the two kinds of numbers next to each other.
const TYPES: [&str; 7] = ["null", "boolean", "string", "array", "object", "integer", "number"];

/// A schema and its place.
type Placed<'s> = (&'s Value, &'s str);

/// Whether no value fits both: by their types, by their values, or by a property that tells them apart.
pub(super) fn are_disjoint(
    document: &Value,
    references: &References<'_>,
    first: Placed<'_>,
    second: Placed<'_>,
) -> bool {
    let (Some(first), Some(second)) =
        (behind(document, references, first), behind(document, references, second))
    else {
        return false;
    };
    let (first_types, second_types) = (types(first), types(second));
    if !first_types.iter().any(|kind| second_types.iter().any(|other| overlap(kind, other))) {
        return true;
    }
    if let (Some(first), Some(second)) = (values(first), values(second)) {
        return have_none_in_common(&first, &second);
    }
    // What follows is about objects only.
    let is_object = |types: &[&str]| types == ["object"];
    if !is_object(&first_types) && !is_object(&second_types) {
        return false;
    }
    is_told_apart(first, second) || is_told_apart(second, first)
}

/// Whether `schema` requires a property that `other` forbids, or that has no value in common there.
fn is_told_apart(schema: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    required.filter_map(Value::as_str).any(|name| {
        let mine = property(schema, name).and_then(values);
        match (mine, property(other, name)) {
            (Some(mine), Some(theirs)) => {
                values(theirs).is_some_and(|theirs| have_none_in_common(&mine, &theirs))
            }
            (_, Some(_)) => false,
            (_, None) => {
                let is_listed = other.get("properties").and_then(|properties| properties.get(name)).is_some();
                !is_listed
                    && other.get("additionalProperties") == Some(&Value::Bool(false))
                    && !other.contains_key("patternProperties")
            }
        }
    })
}

fn property<'s>(schema: &'s Map<String, Value>, name: &str) -> Option<&'s Map<String, Value>> {
    schema.get("properties")?.get(name)?.as_object()
}

/// The schema behind a reference that stands alone.
fn behind<'s>(
    document: &'s Value,
    references: &References<'_>,
    (schema, place): Placed<'s>,
) -> Option<&'s Map<String, Value>> {
    let (mut schema, mut place) = (schema, place.to_owned());
    for _ in 0..REFERENCES_MOST {
        let object = schema.as_object()?;
        let Some(reference) = object.get("$ref").and_then(Value::as_str) else {
            return Some(object);
        };
        place = references.resolve(reference, &place).ok()?;
        schema = document.pointer(&place)?;
    }
    None
}

/// The types that a schema's values can have.
fn types(schema: &Map<String, Value>) -> Vec<&str> {
    if let Some(values) = values(schema) {
        return values.iter().map(|value| type_of(value)).collect();
    }
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind.as_str()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => TYPES.to_vec(),
    }
}

/// A type as wide as a value can be read: 1.0 is an integer too.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn overlap(first: &str, second: &str) -> bool {
    let is_number = |kind: &str| kind == "integer" || kind == "number";
    first == second || (is_number(first) && is_number(second))
}

/// The values of `const` or `enum`.
fn values(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

fn have_none_in_common(first: &[&Value], second: &[&Value]) -> bool {
    !first.iter().any(|value| second.iter().any(|other| could_be_equal(value, other)))
}

/// Numbers are equal by value; lists and objects are not looked into.
fn could_be_equal(first: &Value, second: &Value) -> bool {
    match (first, second) {
        (Value::Number(first), Value::Number(second)) => first.as_f64() == second.as_f64(),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => true,
        _ => first == second,
    }
}
