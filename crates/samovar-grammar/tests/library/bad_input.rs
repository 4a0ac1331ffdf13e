//! Grammars that are too large, wrong or hostile: each ends in a clear refusal, or in rules, within seconds.

use crate::support;

use std::time::{Duration, Instant};

use samovar_core::{Constraint, ErrorKind, Failure};
use samovar_grammar::{Grammar, Vocabulary};
use serde_json::{Value, json};
use support::{Rng, vocabulary, walk};

/// Longer than any refusal or compilation takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

fn compile(vocabulary: &Vocabulary, constraint: Constraint) -> Result<(), Failure> {
    let began = Instant::now();
    let grammar = Grammar::Constraint(constraint);
    let compiled = vocabulary.compile(&grammar, "response_format", &|| true);
    assert!(began.elapsed() < PATIENCE, "took {:?}", began.elapsed());
    let mut rules = compiled?;
    let _ = walk_or_fail(&mut rules);
    assert!(began.elapsed() < PATIENCE, "took {:?}", began.elapsed());
    Ok(())
}

/// A short walk; a failure in it is as good as an end.
fn walk_or_fail(rules: &mut samovar_grammar::Rules) -> Option<()> {
    let mut rng = Rng::new(5);
    for _ in 0..20 {
        let allowed: Vec<u32> = rules.mask().ok()?.tokens().collect();
        rules.accept(*allowed.get(rng.below(allowed.len()))?).ok()?;
        if rules.is_finished() {
            break;
        }
    }
    Some(())
}

fn refusal(vocabulary: &Vocabulary, schema: &str) -> Failure {
    let failure = compile(vocabulary, Constraint::JsonSchema(schema.to_owned())).expect_err("refused");
    assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure}");
    assert_eq!(failure.param.as_deref(), Some("response_format"));
    assert!(failure.message.len() < 1_000 && !failure.message.contains("backtrace"), "{failure}");
    failure
}

fn assert_refused(vocabulary: &Vocabulary, schema: &Value, words: &[&str]) {
    let failure = refusal(vocabulary, &schema.to_string());
    for word in words {
        assert!(failure.message.contains(word), "{word}: {failure}");
    }
}

#[test]
fn an_unsupported_keyword_is_named_with_its_place() {
    let vocabulary = vocabulary();
    for (keyword, value) in [
        ("not", json!({})),
        ("if", json!({ "type": "null" })),
        ("uniqueItems", json!(true)),
        ("contains", json!({})),
        ("dependentRequired", json!({ "a": ["b"] })),
        ("propertyNames", json!({ "pattern": "^a" })),
        ("unevaluatedProperties", json!(false)),
        ("$dynamicRef", json!("#x")),
        ("format", json!("json-pointer")),
        ("pattern", json!("a(?=b)")),
        ("pattern", json!("(a)\\1")),
    ] {
        let mut inner = json!({ "type": "string" });
        inner[keyword] = value;
        let schema =
            json!({ "type": "object", "properties": { "a/b": { "type": "array", "items": inner } } });
        let place = "#/properties/a~1b/items";
        assert_refused(&vocabulary, &schema, &[&format!("`{keyword}` at {place} is not supported")]);
    }
    let overlapping = json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] });
    assert_refused(&vocabulary, &overlapping, &["`oneOf` at # "]);
    let twice = json!({ "type": "object", "additionalProperties": true, "minProperties": 2 });
    assert_refused(&vocabulary, &twice, &["`minProperties` at # "]);
}

#[test]
fn keywords_that_change_nothing_are_no_reason_to_refuse() {
    let schema = json!({ "type": "object", "title": "t", "description": "d", "$comment": "c", "examples": [1],
        "properties": { "a": { "type": "array", "uniqueItems": false, "items": { "type": "string", "format": "password" } },
            "b": { "type": "integer", "format": "int32", "deprecated": true, "default": 3 } },
        "propertyNames": { "type": "string" }, "unevaluatedProperties": true, "x-order": 4 });
    compile(&vocabulary(), Constraint::JsonSchema(schema.to_string())).expect("compiles");
}

#[test]
fn options_of_the_parser_cannot_be_set_by_a_schema() {
    let schema = json!({ "x-guidance": { "lenient": true }, "type": "string", "not": { "const": "a" } });
    assert_refused(&vocabulary(), &schema, &["`not` at #"]);
}

#[test]
fn references_stay_in_their_document() {
    let vocabulary = vocabulary();
    for reference in ["https://example.com/schema.json", "other.json#/a", "file:///etc/passwd"] {
        assert_refused(&vocabulary, &json!({ "$ref": reference }), &[reference, "nothing is fetched"]);
    }
    assert_refused(&vocabulary, &json!({ "$ref": "#/$defs/none" }), &["leads nowhere"]);
    assert_refused(&vocabulary, &json!({ "$ref": "#none" }), &["names no part"]);
    for loops in [
        json!({ "$ref": "#" }),
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }),
        json!({ "allOf": [{ "$ref": "#/allOf/0" }] }),
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/a" }] } } }),
    ] {
        assert_refused(&vocabulary, &loops, &["leads back to itself"]);
    }
}

#[test]
fn references_lead_to_names_addresses_and_odd_places() {
    let vocabulary = vocabulary();
    for schema in [
        json!({ "type": "object", "properties": { "next": { "$ref": "#" } } }),
        json!({ "$id": "https://example.com/a", "$ref": "https://example.com/a#/$defs/b", "$defs": { "b": true } }),
        json!({ "$ref": "#word", "$defs": { "b": { "$anchor": "word", "type": "null" } } }),
        json!({ "$ref": "#/$defs/a~1b%20c", "$defs": { "a/b c": { "type": "null" } } }),
        json!({ "$ref": "urn:x", "$defs": { "b": { "$id": "urn:x", "$ref": "#/$defs/c", "$defs": { "c": true } } } }),
    ] {
        compile(&vocabulary, Constraint::JsonSchema(schema.to_string())).expect("compiles");
    }
}

#[test]
fn what_is_too_large_is_refused_at_once() {
    let vocabulary = vocabulary();
    let long = format!("{{\"description\":\"{}\"}}", "x".repeat(1 << 20));
    assert!(refusal(&vocabulary, &long).message.contains("65536 are allowed"));
    let deep = "{\"items\":".repeat(1_000) + "{}" + &"}".repeat(1_000);
    assert!(refusal(&vocabulary, &deep).message.contains("recursion"));
    let deep = (0..100).fold(json!({}), |schema, _| json!({ "items": schema }));
    assert_refused(&vocabulary, &deep, &["within each other"]);
    let values: Vec<_> = (0..10_000).map(|value| format!("v{value}")).collect();
    let failure = compile(&vocabulary, Constraint::JsonSchema(json!({ "enum": values }).to_string()));
    assert_eq!(failure.expect_err("refused").kind, ErrorKind::InvalidRequest);
    assert_refused(&vocabulary, &json!({ "enum": (0..5_000).collect::<Vec<_>>() }), &["`enum` at #", "1000"]);
    assert_refused(
        &vocabulary,
        &json!({ "type": "string", "pattern": "a".repeat(2_000) }),
        &["`pattern` at #"],
    );
    for keyword in ["minLength", "minItems", "maxLength", "maxItems", "maxProperties"] {
        let schema = json!({ keyword: 1_000_000_000_u64 });
        assert_refused(&vocabulary, &schema, &[&format!("`{keyword}` at #")]);
        assert_refused(&vocabulary, &json!({ keyword: -1 }), &[&format!("`{keyword}` at # is wrong")]);
    }
    let names: serde_json::Map<String, Value> =
        (0..5_001).map(|name| (name.to_string(), json!({}))).collect();
    assert_refused(&vocabulary, &json!({ "properties": names }), &["more than 5000 properties"]);
}

#[test]
fn what_is_just_allowed_compiles_in_time() {
    let vocabulary = vocabulary();
    let names: serde_json::Map<String, Value> =
        (0..2_000).map(|name| (name.to_string(), json!({}))).collect();
    let values: Vec<_> = (0..1_000).map(|value| format!("value {value}")).collect();
    for schema in [
        json!({ "type": "object", "properties": names.clone(), "additionalProperties": false }),
        json!({ "type": "object", "properties": names }),
        json!({ "enum": values }),
        json!({ "type": "string", "maxLength": 1_000_000 }),
        json!({ "type": "array", "items": { "type": "array", "maxItems": 1_000_000 }, "maxItems": 1_000_000 }),
    ] {
        if let Err(failure) = compile(&vocabulary, Constraint::JsonSchema(schema.to_string())) {
            assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure}");
        }
    }
}

#[test]
fn catastrophic_expressions_end() {
    let vocabulary = vocabulary();
    for expression in [
        "(a*)*b",
        "(a|a|a)*c",
        "((a{1,1000}){1,1000}){1,1000}",
        "(x+x+)+y",
        ".*.*.*.*.*.*=.*",
        "([a-z]{0,100}[0-9]{0,100}){0,100}z",
        "(?:(?:(?:(?:(?:(?:a?){9}){9}){9}){9}){9}){9}",
        "[\\s\\S]{5000}$",
    ] {
        let patterned = json!({ "type": "string", "pattern": expression }).to_string();
        for constraint in [Constraint::JsonSchema(patterned), Constraint::Regex(expression.to_owned())] {
            if let Err(failure) = compile(&vocabulary, constraint) {
                assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{expression}: {failure}");
            }
        }
    }
}

#[test]
fn wrong_texts_are_refused() {
    let vocabulary = vocabulary();
    for schema in
        ["", "{", "[]", "3", "\"x\"", "false", "{\"type\":\"integr\"}", "{\"type\":3}", "{\"properties\":[]}"]
    {
        refusal(&vocabulary, schema);
    }
    for constraint in [
        Constraint::Regex(String::new()),
        Constraint::Regex("a\\".to_owned()),
        Constraint::Regex("(".to_owned()),
        Constraint::Regex("(?=a)b".to_owned()),
        Constraint::Regex("x".repeat(20_000)),
        Constraint::Lark(String::new()),
        Constraint::Lark("start: other".to_owned()),
        Constraint::Lark(format!("start: {}\"a\"{}", "(".repeat(10_000), ")".repeat(10_000))),
        Constraint::Lark("start: <no_such_token>".to_owned()),
        Constraint::Lark("start: %json { \"not\": {} }".to_owned()),
        Constraint::Gbnf("start ::= \"a\"".to_owned()),
        Constraint::Gbnf("root ::= (".repeat(5_000)),
    ] {
        let failure = compile(&vocabulary, constraint.clone()).expect_err("refused");
        assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{constraint:?}: {failure}");
    }
}

#[test]
fn a_lark_error_names_its_line() {
    let grammar =
        Grammar::Constraint(Constraint::Lark("start: a\na: %json { \"type\": 3 }\nb: (".to_owned()));
    let failure = vocabulary().compile(&grammar, "grammar", &|| true).expect_err("refused");
    assert!(failure.message.contains('3') && failure.param.as_deref() == Some("grammar"), "{failure}");
}

#[test]
fn an_answer_that_would_never_end_is_bounded_by_its_caller() {
    let vocabulary = vocabulary();
    let mut rules = support::rules(&vocabulary, Constraint::Regex("(a|b)*c".to_owned()));
    // It may end, or not; it never fails, and no step takes long.
    let _ = walk(&mut rules, &mut Rng::new(3), 200);
}
