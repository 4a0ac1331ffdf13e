//! Answers of any allowed tokens: each that ends is JSON that its schema allows.

use crate::support;

use samovar_core::Constraint;
use serde_json::{Map, Value, json};
use support::{Rng, rules, vocabulary, walk};

/// Schemas of the random test.
const SCHEMAS: u64 = 1_000;
/// How many of its answers must come to an end at least.
const ENDED_LEAST: usize = 600;

/// The value, unless a number in it is larger than what the test's parser can hold: schemas without bounds allow it.
fn parsed(answer: &str) -> Option<Value> {
    match serde_json::from_str(answer) {
        Ok(value) => Some(value),
        Err(error) if error.to_string().contains("out of range") => None,
        Err(error) => panic!("{error}: {answer}"),
    }
}

fn assert_valid(schema: &Value, answer: &str) {
    let validator = jsonschema::validator_for(schema).unwrap_or_else(|error| panic!("{error}: {schema}"));
    if let Some(value) = parsed(answer) {
        assert!(validator.is_valid(&value), "{answer} under {schema}");
    }
}

/// A small schema of any kind, such that a random answer can end.
fn any_schema(rng: &mut Rng, depth: usize) -> Value {
    let kinds = if depth == 0 { 6 } else { 10 };
    match rng.below(kinds) {
        0 => json!({ "type": "boolean" }),
        1 => json!({ "type": ["null", "integer"], "minimum": -40, "maximum": rng.below(1_000) }),
        2 => json!({ "enum": ["red", "gr\"een", "b\n", 7, null, true] }),
        3 => json!({ "type": "string", "minLength": rng.below(3), "maxLength": 3 + rng.below(9) }),
        4 => json!({ "type": "string", "pattern": "^[a-z]{1,4}(-[0-9]{2})?$" }),
        5 => json!({ "type": "number", "minimum": 0, "exclusiveMaximum": 1 + rng.below(50) }),
        6 => {
            let least = rng.below(2);
            json!({ "type": "array", "items": any_schema(rng, depth - 1), "minItems": least, "maxItems": 3 })
        }
        7 => json!({ "anyOf": [any_schema(rng, depth - 1), any_schema(rng, depth - 1)] }),
        8 => json!({
            "type": "array",
            "prefixItems": [any_schema(rng, depth - 1), any_schema(rng, depth - 1)],
            "items": false,
            "minItems": 1,
        }),
        _ => any_object(rng, depth),
    }
}

fn any_object(rng: &mut Rng, depth: usize) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for name in ["name", "a", "b\"", "日本", "value"].iter().take(1 + rng.below(5)) {
        properties.insert((*name).to_owned(), any_schema(rng, depth - 1));
        if rng.chance(2) {
            required.push(*name);
        }
    }
    let additional =
        if rng.chance(4) { json!({ "type": "integer", "maximum": 9, "minimum": 0 }) } else { json!(false) };
    json!({
        "type": "object",
        "title": "a note for people",
        "properties": properties,
        "required": required,
        "additionalProperties": additional,
    })
}

#[test]
fn every_answer_that_ends_is_allowed_by_its_random_schema() {
    let vocabulary = vocabulary();
    let mut ended = 0;
    for seed in 0..SCHEMAS {
        let mut rng = Rng::new(seed + 1);
        let schema = any_object(&mut rng, 3);
        let mut rules = rules(&vocabulary, Constraint::JsonSchema(schema.to_string()));
        if let Some(answer) = walk(&mut rules, &mut rng, 150) {
            assert_valid(&schema, &answer);
            ended += 1;
        }
    }
    assert!(ended >= ENDED_LEAST, "only {ended} answers ended");
}

#[test]
fn every_answer_that_ends_is_allowed_by_its_written_schema() {
    let vocabulary = vocabulary();
    let date = json!({ "type": "string", "format": "date-time" });
    let person = json!({ "type": "object", "properties": { "born": date, "parents": {
        "type": "array", "items": { "$ref": "#/$defs/person" }, "maxItems": 2 } }, "required": ["born"] });
    let schemas = [
        json!({ "$ref": "#/$defs/person", "$defs": { "person": person } }),
        json!({ "oneOf": [{ "$ref": "#/$defs/Cat" }, { "$ref": "#/$defs/Dog" }], "$defs": {
            "Cat": { "type": "object", "properties": { "kind": { "const": "cat" }, "lives": { "type": "integer",
                "maximum": 9, "minimum": 0 } }, "required": ["kind"], "additionalProperties": false },
            "Dog": { "type": "object", "properties": { "kind": { "const": "dog" } }, "required": ["kind"],
                "additionalProperties": false } } }),
        json!({ "allOf": [{ "type": "object", "properties": { "a": { "type": "integer", "minimum": 5, "maximum": 77 } } },
            { "required": ["a"] }], "additionalProperties": false, "properties": { "a": true } }),
        json!({ "type": "object", "patternProperties": { "^x-": { "type": "boolean" } },
            "additionalProperties": false, "properties": { "id": { "type": "string", "format": "uuid" } } }),
        json!({ "type": "object", "additionalProperties": { "type": "boolean" }, "minProperties": 1 }),
        json!({ "type": "array", "items": [{ "const": 1 }, { "const": "two" }], "additionalItems": false,
            "$schema": "http://json-schema.org/draft-07/schema#", "minItems": 2 }),
        json!({ "type": "integer", "multipleOf": 7, "minimum": -100, "maximum": 100 }),
        json!({ "type": "string", "format": "ipv4" }),
        json!(true),
    ];
    for schema in &schemas {
        for seed in 1..20 {
            let mut rules = rules(&vocabulary, Constraint::JsonSchema(schema.to_string()));
            if let Some(answer) = walk(&mut rules, &mut Rng::new(seed), 150) {
                assert_valid(schema, &answer);
            }
        }
    }
}

#[test]
fn any_json_object_is_an_object() {
    let vocabulary = vocabulary();
    let mut ended = 0;
    for seed in 1..100 {
        let mut rules = rules(&vocabulary, Constraint::JsonObject);
        if let Some(answer) = walk(&mut rules, &mut Rng::new(seed), 100) {
            assert!(answer.starts_with('{') && answer.ends_with('}'), "{answer}");
            assert!(parsed(&answer).is_none_or(|value| value.is_object()), "{answer}");
            ended += 1;
        }
    }
    assert!(ended > 20, "{ended}");
}

#[test]
fn an_additional_key_is_never_a_declared_one_in_other_letters() {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } },
        "additionalProperties": { "type": "boolean" } });
    let mut rules = rules(&vocabulary(), Constraint::JsonSchema(schema.to_string()));
    for byte in b"{\"\\" {
        rules.accept(u32::from(*byte)).expect("allowed");
    }
    assert!(!rules.mask().expect("a mask").allows(u32::from(b'u')));
}

#[test]
fn schemas_as_people_write_them_compile_and_keep_their_word() {
    let schemas: Map<String, Value> =
        serde_json::from_str(include_str!("../schemas/real.json")).expect("schemas");
    assert_eq!(schemas.len(), 50);
    let vocabulary = vocabulary();
    for (name, schema) in &schemas {
        for seed in 1..4 {
            let mut rules = rules(&vocabulary, Constraint::JsonSchema(schema.to_string()));
            if let Some(answer) = walk(&mut rules, &mut Rng::new(seed), 200) {
                let validator =
                    jsonschema::validator_for(schema).unwrap_or_else(|error| panic!("{name}: {error}"));
                if let Some(value) = parsed(&answer) {
                    assert!(validator.is_valid(&value), "{name}: {answer}");
                }
            }
        }
    }
}
