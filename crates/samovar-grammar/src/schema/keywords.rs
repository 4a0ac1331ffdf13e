//! Keywords that are refused, because an answer under the grammar could break them; and those whose values are bounded.

use serde_json::{Map, Value};

use super::reader::pointer;
use crate::error::Error;
use crate::limits;

/// Keywords that a grammar cannot express, with the reason.
const REFUSED: [(&str, &str); 12] = [
    ("not", "a grammar says what an answer is, and not what it is not"),
    ("if", "a part of an answer cannot depend on another one"),
    ("uniqueItems", "a grammar does not remember earlier items"),
    ("contains", "a grammar does not count some of the items"),
    ("dependencies", "a property cannot depend on another one"),
    ("dependentRequired", "a property cannot depend on another one"),
    ("dependentSchemas", "a property cannot depend on another one"),
    ("propertyNames", "use `patternProperties`"),
    ("unevaluatedItems", "use `items`"),
    ("unevaluatedProperties", "use `additionalProperties`"),
    ("$dynamicRef", "use `$ref`"),
    ("$recursiveRef", "use `$ref`"),
];

/// Formats of the specification that cannot be kept. All others that are not known here are notes for people.
const REFUSED_FORMATS: [&str; 9] = [
    "idn-email",
    "idn-hostname",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "uri-reference",
    "uri-template",
];

/// Formats that are kept.
const KEPT_FORMATS: [&str; 9] =
    ["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri"];

/// What regular expressions may not contain, since a grammar reads an answer once and forwards.
const LOOKS: [&str; 4] = ["(?=", "(?!", "(?<=", "(?<!"];

/// Refuses what cannot be kept of one schema.
pub(super) fn refuse(schema: &Map<String, Value>, place: &str) -> Result<(), Error> {
    for (keyword, why) in REFUSED {
        if let Some(value) = schema.get(keyword)
            && !says_nothing(keyword, value)
        {
            return Err(unsupported(keyword, place, why));
        }
    }
    Ok(())
}

/// Whether a refused keyword has a value with which it changes nothing.
fn says_nothing(keyword: &str, value: &Value) -> bool {
    match (keyword, value) {
        ("uniqueItems", Value::Bool(is_unique)) => !is_unique,
        ("unevaluatedItems" | "unevaluatedProperties" | "propertyNames", Value::Bool(is_allowed)) => {
            *is_allowed
        }
        (
            "unevaluatedItems"
            | "unevaluatedProperties"
            | "dependencies"
            | "dependentRequired"
            | "dependentSchemas",
            Value::Object(schema),
        ) => schema.is_empty(),
        // Every name is a text.
        ("propertyNames", Value::Object(schema)) => {
            schema.iter().all(|(keyword, value)| keyword == "type" && value == "string")
        }
        _ => false,
    }
}

/// Whether a format is kept; an error for one that promises something that cannot be kept.
pub(super) fn keeps_format(format: &Value, place: &str) -> Result<bool, Error> {
    let Some(name) = format.as_str() else {
        return Err(wrong("format", place, "it must be a text"));
    };
    if REFUSED_FORMATS.contains(&name) {
        return Err(unsupported("format", place, "this format cannot be kept"));
    }
    Ok(KEPT_FORMATS.contains(&name))
}

/// Refuses a regular expression that is too long, or looks elsewhere.
pub(super) fn check_pattern(pattern: &str, keyword: &str, place: &str) -> Result<(), Error> {
    if pattern.len() > limits::PATTERN_BYTES {
        let (value, most) = (pattern.len() as u64, limits::PATTERN_BYTES as u64);
        return Err(Error::TooLarge { keyword: keyword.to_owned(), place: format!("#{place}"), value, most });
    }
    let mut is_escaped = false;
    for (at, char) in pattern.char_indices() {
        if is_escaped {
            is_escaped = false;
            if matches!(char, '1'..='9' | 'k') {
                return Err(unsupported(keyword, place, "it refers back to a group"));
            }
        } else if char == '\\' {
            is_escaped = true;
        } else if LOOKS.iter().any(|look| pattern[at..].starts_with(look)) {
            return Err(unsupported(keyword, place, "it looks ahead or behind"));
        }
    }
    if is_escaped { Err(wrong(keyword, place, "it ends with a backslash")) } else { Ok(()) }
}

/// Refuses a count that no answer should have to reach, or that is costly to keep.
pub(super) fn check_count(keyword: &str, value: &Value, place: &str) -> Result<(), Error> {
    let Some(count) = value.as_u64() else {
        return Err(wrong(keyword, place, "it must be a whole number, zero or more"));
    };
    let most = if keyword.starts_with("min") { limits::LEAST } else { limits::MOST };
    if count > most {
        let (keyword, place) = (keyword.to_owned(), format!("#{place}"));
        return Err(Error::TooLarge { keyword, place, value: count, most });
    }
    Ok(())
}

/// Refuses `minProperties` and `maxProperties` where the grammar could not count, or would count a name twice.
pub(super) fn check_property_counts(schema: &Map<String, Value>, place: &str) -> Result<(), Error> {
    let count = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
    let (least, most) = (count("minProperties"), count("maxProperties"));
    if least.is_none() && most.is_none() {
        return Ok(());
    }
    let required: Vec<_> = schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    let names = schema.get("properties").and_then(Value::as_object);
    let is_required = |name: &str| required.iter().any(|it| it.as_str() == Some(name));
    let optional = names.into_iter().flatten().filter(|(name, _)| !is_required(name)).count();
    let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false))
        && !schema.contains_key("patternProperties");
    let least = least.unwrap_or(0).saturating_sub(required.len() as u64);
    let most = most.map(|most| most.saturating_sub(required.len() as u64));
    let keyword = if least > 0 { "minProperties" } else { "maxProperties" };
    if least > 1 {
        let why =
            "it is above the number of required properties and one more; a grammar cannot compare names";
        return Err(unsupported(keyword, place, why));
    }
    let counts = least > 0 || most.is_some();
    let is_one = is_closed && most.is_none_or(|most| most == 1) && optional <= limits::COUNTED_PROPERTIES;
    if optional > 0 && counts && !is_one {
        return Err(unsupported(keyword, place, "it counts optional properties"));
    }
    Ok(())
}

pub(super) fn unsupported(keyword: &str, place: &str, why: &'static str) -> Error {
    Error::Unsupported { keyword: keyword.to_owned(), place: format!("#{place}"), why }
}

pub(super) fn wrong(keyword: &str, place: &str, why: &str) -> Error {
    Error::Wrong { keyword: keyword.to_owned(), place: format!("#{place}"), why: why.to_owned() }
}

/// The place of a keyword's value.
pub(super) fn under(place: &str, keyword: &str) -> String {
    format!("{place}/{}", pointer(keyword))
}
