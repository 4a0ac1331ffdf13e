//! The arguments of a call by their schemas: as one JSON object, each as plain text or JSON, or as Python writes them.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::lark::{Lark, literal};
use super::strict;
use crate::dialect::reader::tools::{Kinds, Tool};

/// Where a schema keeps what its parts refer to.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
/// Schemas within schemas that are kept.
const DEPTH_MAX: u32 = 32;
/// Values or schemas to choose from that are kept.
const CHOICES_MAX: usize = 256;

/// Keywords by which an object is described in several places: what one of them does not name, another one may.
const COMBINING: [&str; 6] = ["$ref", "allOf", "anyOf", "dependentSchemas", "if", "oneOf"];
/// Keywords that, like `OTHERS`, may want a property that a schema beside them does not name.
const DESCRIBING: [&str; 2] = ["properties", "required"];
/// Keywords that say which other properties an object may or must have.
const OTHERS: [&str; 6] =
    ["additionalProperties", "const", "enum", "minProperties", "patternProperties", "unevaluatedProperties"];

/// Lets an object that names its properties have no others where its schema does not say: a small model would go on
/// inventing some. A schema that describes an object in several places stays as it is, and so does an object within it that
/// names none: many tools mean any object by that. The compiler of grammars has the same rule for other schemas; here it comes
/// before a schema is loosened, which loses what it looks at.
pub(super) fn close(schema: &mut Value) {
    if !is_combined(schema) {
        close_objects(schema, true);
    }
}

fn is_combined(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let has = |key: &str| fields.contains_key(key);
            let combining = COMBINING.into_iter().filter(|key| has(key)).count();
            let describing = usize::from(DESCRIBING.into_iter().chain(OTHERS).any(has));
            let all = fields.get("allOf").and_then(Value::as_array);
            let more = all.map_or(0, |schemas| schemas.len().saturating_sub(1));
            (combining > 0 && combining + describing + more > 1) || fields.values().any(is_combined)
        }
        Value::Array(items) => items.iter().any(is_combined),
        _ => false,
    }
}

fn close_objects(schema: &mut Value, is_root: bool) {
    let inner = |schema: &mut Value| close_objects(schema, false);
    let Value::Object(fields) = schema else { return };
    for (key, value) in fields.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(schemas)) => {
                schemas.values_mut().for_each(inner);
            }
            ("allOf" | "anyOf" | "items" | "oneOf" | "prefixItems", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(inner);
            }
            ("additionalProperties" | "items", value) => inner(value),
            _ => {}
        }
    }
    let Some(properties) = fields.get("properties").and_then(Value::as_object) else { return };
    let required = fields.get("required").and_then(Value::as_array).into_iter().flatten();
    // What must be there, but is not named, is another one.
    let has_others = required.filter_map(Value::as_str).any(|name| !properties.contains_key(name));
    let names_some = is_root || !properties.is_empty();
    if names_some && !has_others && !OTHERS.iter().any(|key| fields.contains_key(*key)) {
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

/// JSON that a schema allows. Of one that is not strict, only what can always be made sure is kept.
pub(super) fn json(schema: &Value, is_strict: bool) -> String {
    if is_strict { format!("%json {schema}") } else { format!("%json {}", loosened(schema, 0)) }
}

/// A schema that allows at least what this one does, in keywords that every schema can be compiled with.
fn loosened(schema: &Value, depth: u32) -> Value {
    let Value::Object(schema) = schema else { return schema.clone() };
    if depth == DEPTH_MAX {
        return json!({});
    }
    let inner = |value: &Value| loosened(value, depth + 1);
    let of_fields = |value: &Value| {
        let fields = value.as_object().into_iter().flatten();
        Value::Object(fields.map(|(name, field)| (name.clone(), inner(field))).collect())
    };
    let of_items = |value: &Value| value.as_array().into_iter().flatten().map(inner).collect::<Vec<_>>();
    let is_local = |target: &str| {
        target == "#" || DEFINITIONS.iter().any(|key| target.starts_with(&format!("#/{key}/")))
    };
    let mut kept = Map::new();
    for (key, value) in schema {
        let value = match key.as_str() {
            "type" | "required" | "const" => value.clone(),
            "enum" if value.as_array().is_some_and(|values| values.len() <= CHOICES_MAX) => value.clone(),
            "$ref" if value.as_str().is_some_and(is_local) => value.clone(),
            "properties" | "$defs" | "definitions" => of_fields(value),
            "items" | "additionalProperties" if value.is_object() || value.is_boolean() => inner(value),
            "anyOf" | "oneOf" => {
                let choices = of_items(value);
                if choices.is_empty() || choices.len() > CHOICES_MAX || kept.contains_key("anyOf") {
                    continue;
                }
                kept.insert("anyOf".to_owned(), Value::Array(choices));
                continue;
            }
            _ => continue,
        };
        kept.insert(key.clone(), value);
    }
    if kept.contains_key("properties") {
        // Keywords that are left out may have named others.
        kept.entry("additionalProperties").or_insert(Value::Bool(true));
    }
    Value::Object(kept)
}

/// The schema of all arguments of a tool.
pub(super) fn schema_of(tool: &Tool) -> Value {
    let mut schema = tool.parameters.clone().unwrap_or_else(|| json!({}));
    if let Value::Object(schema) = &mut schema {
        schema.entry("type").or_insert_with(|| json!("object"));
    }
    schema
}

/// One argument by its schema.
pub(super) struct Property<'t> {
    pub(super) name: &'t str,
    schema: &'t Value,
    /// The schema of all arguments, which has the definitions.
    root: &'t Map<String, Value>,
    pub(super) is_required: bool,
}

/// The arguments that a tool names; `None` where it does not say.
pub(super) fn properties(tool: &Tool) -> Option<Vec<Property<'_>>> {
    let schema = tool.parameters.as_ref()?.as_object()?;
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let named = schema.get("properties").and_then(Value::as_object);
    if named.is_none() && schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        return None;
    }
    let each = named.into_iter().flatten().map(|(name, own)| Property {
        name,
        schema: own,
        root: schema,
        is_required: required.contains(&name.as_str()),
    });
    Some(each.collect())
}

fn with_definitions(own: &Value, schema: &Map<String, Value>) -> Value {
    let mut own = own.clone();
    if let Value::Object(own) = &mut own {
        for key in DEFINITIONS {
            if let Some(definitions) = schema.get(key).filter(|_| refers(own)) {
                own.insert(key.to_owned(), definitions.clone());
            }
        }
    }
    own
}

/// Whether a schema refers to another.
fn refers(schema: &Map<String, Value>) -> bool {
    schema.iter().any(|(key, value)| key == "$ref" || refers_within(value))
}

fn refers_within(value: &Value) -> bool {
    match value {
        Value::Object(inner) => refers(inner),
        Value::Array(items) => items.iter().any(refers_within),
        _ => false,
    }
}

/// The strings that are allowed, where they are listed.
pub(super) fn choices(schema: &Value) -> Option<Vec<&str>> {
    let single = schema.get("const").map(std::slice::from_ref);
    let values = single.or_else(|| schema.get("enum")?.as_array().map(Vec::as_slice))?;
    values.iter().map(Value::as_str).collect::<Option<Vec<_>>>().filter(|choices| !choices.is_empty())
}

/// The value of an argument as plain text or JSON, and the mark behind it.
pub(super) fn tagged(
    lark: &mut Lark<'_>,
    property: &Property<'_>,
    after_value: &str,
    is_strict: bool,
) -> String {
    if let Some(choices) = choices(property.schema) {
        let choices: Vec<String> = choices.into_iter().map(literal).collect();
        return format!("WS? ( {} ) WS? {}", choices.join(" | "), lark.mark(after_value));
    }
    if Kinds::of(property.schema).is_text() {
        let lengths = strict::lengths(property.schema).map(|lengths| format!("/(.|\\n){lengths}/"));
        let bounds = lengths.into_iter().chain(strict::pattern(property.schema));
        let bounds: Vec<String> =
            bounds.filter(|_| is_strict).map(|bound| lark.own_terminal(&bound)).collect();
        if !bounds.is_empty() {
            return lark.bounded_until(after_value, &bounds.join(" & "));
        }
        return lark.text_until(after_value, "TEXT");
    }
    // Each of them takes all definitions along.
    let value = if lark.is_full() {
        String::new()
    } else {
        lark.own_rule("", &json(&with_definitions(property.schema, property.root), is_strict))
    };
    format!("WS? {value} WS? {}", lark.mark(after_value))
}

/// Adds the rules of Python's values.
pub(super) fn add_python(lark: &mut Lark<'_>) {
    lark.rule("PYSTRING", r#"/"([^"\\\n]|\\["\\nt])*"/ | /'([^'\\\n]|\\['\\nt])*'/"#);
    lark.rule("PYINTEGER", "/-?(0|[1-9][0-9]{0,17})/");
    lark.rule("PYNUMBER", r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?/");
    lark.rule("pylist", "\"[\" ( pyvalue ( \", \" pyvalue )* )? \"]\"");
    lark.rule("pyitem", "PYSTRING \": \" pyvalue");
    lark.rule("pydict", "\"{\" ( pyitem ( \", \" pyitem )* )? \"}\"");
    lark.rule("pyvalue", "PYSTRING | PYNUMBER | \"True\" | \"False\" | \"None\" | pylist | pydict");
}

/// The arguments of a call between its parentheses: those that must be there first.
pub(super) fn python(lark: &mut Lark<'_>, tool: &Tool) -> String {
    let Some(properties) = properties(tool) else {
        lark.rule_once("PYNAME", "/[A-Za-z_][A-Za-z0-9_]{0,63}/");
        return "( PYNAME \"=\" pyvalue ( \", \" PYNAME \"=\" pyvalue )* )?".to_owned();
    };
    let mut written = Vec::new();
    for Property { name, schema, is_required, .. } in properties {
        let value = python_value(lark, schema, tool.is_strict);
        written.push((format!("{} {value}", literal(&format!("{name}="))), is_required));
    }
    python_fields(lark, written)
}

/// Arguments, or fields of an object, each with whether it must be there.
fn python_fields(lark: &mut Lark<'_>, fields: Vec<(String, bool)>) -> String {
    let (required, others): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(_, is_required)| *is_required);
    let [required, others] =
        [required, others].map(|fields| fields.into_iter().map(|(field, _)| field).collect::<Vec<_>>());
    if !required.is_empty() {
        let mut written = required.join(" \", \" ");
        for argument in others {
            let _ = write!(written, " ( \", \" {argument} )?");
        }
        return written;
    }
    // Any of them may be the first one.
    let mut rest = String::new();
    let mut choices = Vec::new();
    for argument in others.iter().rev() {
        choices.push(if rest.is_empty() { argument.clone() } else { format!("{argument} {rest}") });
        rest = lark.own_rule("", format!("( \", \" {argument} )? {rest}").trim_end());
    }
    if choices.is_empty() { "\"\"".to_owned() } else { format!("( {} )?", choices.join(" | ")) }
}

/// A value as Python writes it. All of it is as the schema of a strict tool says, and otherwise its kind alone.
fn python_value(lark: &mut Lark<'_>, schema: &Value, is_strict: bool) -> String {
    if let Some(choices) = choices(schema) {
        let choices: Vec<String> =
            choices.into_iter().map(|choice| literal(&Value::from(choice).to_string())).collect();
        return format!("( {} )", choices.join(" | "));
    }
    if is_strict && let Some(value) = strict_python_value(lark, schema) {
        return value;
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => "PYSTRING".to_owned(),
        Some("integer") => "PYINTEGER".to_owned(),
        Some("number") => "PYNUMBER".to_owned(),
        Some("boolean") => "( \"True\" | \"False\" )".to_owned(),
        Some("array") => "pylist".to_owned(),
        Some("object") => "pydict".to_owned(),
        _ => "pyvalue".to_owned(),
    }
}

/// What a strict schema says beyond the kind of a value, where it does.
fn strict_python_value(lark: &mut Lark<'_>, schema: &Value) -> Option<String> {
    let one_of = |choices: Vec<String>| format!("( {} )", choices.join(" | "));
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        return Some(one_of(choices.iter().map(|choice| python_value(lark, choice, true)).collect()));
    }
    if let Some(Value::Array(kinds)) = schema.get("type") {
        let mut schema = schema.clone();
        let mut of_kind = |kind: &Value| {
            schema["type"] = kind.clone();
            python_value(lark, &schema, true)
        };
        return Some(one_of(kinds.iter().map(&mut of_kind).collect()));
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("null") => Some("\"None\"".to_owned()),
        Some("string") => {
            let lengths = strict::lengths(schema)?;
            let double = format!(r#"/"([^"\\\n]|\\["\\nt]){lengths}"/"#);
            let single = format!(r"/'([^'\\\n]|\\['\\nt]){lengths}'/");
            Some(lark.own_rule("", &format!("{double} | {single}")))
        }
        Some("array") => {
            let items = schema.get("items").filter(|items| items.is_object())?;
            let item = python_value(lark, items, true);
            let item = lark.own_rule("", &item);
            Some(format!("\"[\" ( {item} ( \", \" {item} )* )? \"]\""))
        }
        Some("object") => {
            let properties = schema.get("properties")?.as_object()?;
            let required: Vec<&str> = schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let mut fields = Vec::new();
            for (name, own) in properties {
                let value = python_value(lark, own, true);
                let mut key = literal(&format!("{}: ", Value::from(name.as_str())));
                if name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                    key = format!("( {key} | {} )", literal(&format!("'{name}': ")));
                }
                fields.push((format!("{key} {value}"), required.contains(&name.as_str())));
            }
            let fields = python_fields(lark, fields);
            Some(format!("\"{{\" {fields} \"}}\""))
        }
        _ => None,
    }
}
