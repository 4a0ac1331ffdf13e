//! The OpenAPI document, written from the table of routes and their fields. Nothing is decided by it.
//!
//! ```text
//!   ROUTES ─► path ─► method ─► query and path parameters
//!                           ├─► body: a schema of the fields
//!                           └─► answers: content types; refusals as the route's API writes them
//! ```

mod shapes;

use axum::Json;
use serde_json::{Map, Value, json};

use crate::field::{ANSWER_HEADERS, Field, FieldValue, REQUEST_HEADERS};
use crate::route::Route;
use crate::routes::{self, ROUTES};
pub use shapes::{Answers, Api};

/// The version of OpenAPI that the document follows.
const OPENAPI: &str = "3.1.0";
/// The name of the key in the document.
const KEY: &str = "key";

/// `GET /openapi.json`.
pub(crate) async fn serve() -> Json<Value> {
    Json(document())
}

/// The document: every route that is served, on the port or on the owner's socket alone.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation(route);
    }
    let errors: Map<String, Value> =
        Api::ALL.iter().map(|api| (api.error_schema().to_owned(), api.error())).collect();
    json!({
        "openapi": OPENAPI,
        "info": {
            "title": "Samovar",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The routes of the daemon. Those marked with `x-samovar-owner` manage it: they are served on the Unix socket, and on a port only for a key that may manage.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        // A daemon without keys asks for none.
        "security": [{}, { KEY: [] }],
        "paths": paths,
        "components": {
            "schemas": errors,
            "parameters": named(REQUEST_HEADERS, |field| parameter(field, "header")),
            "headers": named(ANSWER_HEADERS, header),
            "securitySchemes": { KEY: { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// Fields as objects by their names.
fn named(fields: &[Field], object: impl Fn(&Field) -> Value) -> Map<String, Value> {
    fields.iter().map(|field| (field.name.to_owned(), object(field))).collect()
}

/// What stands for an object under `components`.
fn reference(section: &str, field: &Field) -> Value {
    json!({ "$ref": format!("#/components/{section}/{}", field.name) })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    if route.path.contains("{id}") {
        let schema = json!({ "type": "string", "minLength": 1 });
        parameters.push(json!({ "name": "id", "in": "path", "required": true, "schema": schema }));
    }
    parameters.extend(route.query.iter().map(|field| parameter(field, "query")));
    let is_event_stream = route.answers() == Answers::Events;
    let headers = REQUEST_HEADERS.iter().filter(|header| header.name != "last-event-id" || is_event_stream);
    parameters.extend(headers.map(|header| reference("parameters", header)));
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.about,
        "tags": [tag(route)],
        "parameters": parameters,
        "responses": responses(route),
    });
    if !route.fields.is_empty() {
        operation["requestBody"] = body(route);
    } else if route.method == "POST" && routes::takes_bytes(route.path) {
        operation["requestBody"] = json!({ "required": true, "content": { "application/octet-stream": {} } });
    }
    if route.is_owners {
        operation["x-samovar-owner"] = true.into();
        operation["security"] = json!([{ KEY: [] }]);
    }
    operation
}

/// The method and the words of the path, such as `post_v1_chat_completions`.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    let path = if words.is_empty() { "root".to_owned() } else { words.join("_") };
    format!("{}_{path}", route.method.to_ascii_lowercase())
}

const fn tag(route: &Route) -> &'static str {
    match route.api {
        Api::OpenAi => "OpenAI and common",
        Api::Anthropic => "Anthropic",
        Api::Ollama => "Ollama",
        Api::LlamaServer => "llama-server",
        Api::Owner => "Owner",
    }
}

fn parameter(field: &Field, place: &str) -> Value {
    let schema = match field.value {
        FieldValue::Any => json!({ "type": "string" }),
        _ => schema(field, false),
    };
    json!({
        "name": field.name,
        "in": place,
        "required": field.is_required(),
        "description": field.about,
        "schema": schema,
    })
}

fn body(route: &Route) -> Value {
    let mut properties: Map<String, Value> = Map::new();
    let mut required: Vec<&str> = Vec::new();
    for field in route.fields.iter().copied().flatten() {
        // The owner's bodies are strict; in others a field that is null is one that is absent.
        let may_be_null = !route.is_owners && !field.is_required();
        let mut property = schema(field, may_be_null);
        property["description"] = field.about.into();
        // The first group that has a field is the one that describes it.
        if properties.insert(field.name.to_owned(), property).is_none() && field.is_required() {
            required.push(field.name);
        }
    }
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if route.is_owners {
        schema["additionalProperties"] = false.into();
    }
    let is_needed = !required.is_empty();
    json!({ "required": is_needed, "content": { "application/json": { "schema": schema } } })
}

/// A JSON schema of a field's value; one of several types may be anything.
pub(crate) fn schema(field: &Field, may_be_null: bool) -> Value {
    let word = match field.value {
        FieldValue::Any => return json!({}),
        FieldValue::Boolean => "boolean",
        FieldValue::Integer => "integer",
        FieldValue::Number => "number",
        FieldValue::Text | FieldValue::OneOf(_) => "string",
        FieldValue::Texts | FieldValue::List => "array",
        FieldValue::Object => "object",
    };
    let mut schema = if may_be_null { json!({ "type": [word, "null"] }) } else { json!({ "type": word }) };
    match field.value {
        FieldValue::Texts => schema["items"] = json!({ "type": "string" }),
        FieldValue::OneOf(values) => {
            let values = values.iter().map(|value| json!(value));
            let null = may_be_null.then_some(Value::Null);
            schema["enum"] = values.chain(null).collect();
        }
        _ => {}
    }
    schema
}

fn responses(route: &Route) -> Value {
    let of_type = |content_type: &&str| ((*content_type).to_owned(), json!({ "schema": {} }));
    let content: Map<String, Value> = route.answers().content_types().iter().map(of_type).collect();
    let headers = named(ANSWER_HEADERS, |header| reference("headers", header));
    let error = format!("#/components/schemas/{}", route.api.error_schema());
    json!({
        "2XX": { "description": "What was asked for.", "headers": headers, "content": content },
        "default": {
            "description": "Why not.",
            "content": { "application/json": { "schema": { "$ref": error } } },
        },
    })
}

fn header(field: &Field) -> Value {
    json!({ "description": field.about, "schema": { "type": "string" } })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TYPES: [&str; 7] = ["boolean", "integer", "number", "string", "array", "object", "null"];

    /// Every operation with its path and method.
    fn operations(document: &Value) -> Vec<(String, String, Value)> {
        let paths = document["paths"].as_object().expect("paths");
        let of_path = |(path, item): (&String, &Value)| {
            let item = item.as_object().expect("a path item").clone();
            let path = path.clone();
            item.into_iter().map(move |(method, operation)| (path.clone(), method, operation))
        };
        paths.iter().flat_map(of_path).collect()
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let document = document();
        let described: BTreeSet<(String, String)> = operations(&document)
            .into_iter()
            .map(|(path, method, _)| (path, method.to_uppercase()))
            .collect();
        let served: BTreeSet<(String, String)> =
            ROUTES.iter().map(|route| (route.path.to_owned(), route.method.to_owned())).collect();
        assert_eq!(described, served);
        assert_eq!(served.len(), ROUTES.len(), "no route is there twice");
    }

    #[test]
    fn the_document_has_the_structure_that_openapi_demands() {
        let document = document();
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")));
        for field in ["title", "version"] {
            assert!(document["info"][field].is_string(), "{field}");
        }
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let at = format!("{method} {path}");
            assert!(path.starts_with('/'), "{at}");
            assert!(["get", "post", "delete", "put", "patch", "head"].contains(&method.as_str()), "{at}");
            assert!(ids.insert(operation["operationId"].as_str().expect("an id").to_owned()), "{at}");
            check_parameters(&document, &at, &path, &operation);
            check_body(&at, &method, &operation);
            let responses = operation["responses"].as_object().expect("responses");
            assert!(!responses.is_empty(), "{at}");
            for response in responses.values() {
                assert!(response["description"].is_string(), "{at}");
                let headers = response["headers"].as_object().map(Map::values);
                for header in headers.into_iter().flatten() {
                    assert!(resolved(&document, header)["schema"].is_object(), "{at}");
                }
                for (content_type, media) in response["content"].as_object().expect("content") {
                    assert!(content_type.contains('/') && media.is_object(), "{at}");
                }
            }
            let error = responses["default"]["content"]["application/json"]["schema"]["$ref"].as_str();
            let name =
                error.and_then(|error| error.strip_prefix("#/components/schemas/")).expect("a reference");
            assert!(schemas.contains_key(name), "{at}: {name}");
        }
        let schemes = document["components"]["securitySchemes"].as_object().expect("schemes");
        assert!(schemes.contains_key(KEY));
    }

    /// What a reference within the document stands for, or the value itself.
    fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return value };
        let pointer = reference.strip_prefix('#').expect("a place in the document");
        document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    fn check_parameters(document: &Value, at: &str, path: &str, operation: &Value) {
        let mut named = BTreeSet::new();
        for parameter in operation["parameters"].as_array().expect("parameters") {
            let parameter = resolved(document, parameter);
            let (name, place) = (parameter["name"].as_str(), parameter["in"].as_str());
            let (name, place) = (name.expect("a name"), place.expect("a place"));
            assert!(named.insert((name.to_owned(), place.to_owned())), "{at}: {name}");
            assert!(["query", "path", "header"].contains(&place), "{at}: {place}");
            assert!(parameter["schema"].is_object(), "{at}: {name}");
            assert!(place != "path" || parameter["required"] == true, "{at}: {name}");
        }
        let placeholders = path.matches('{').count();
        let in_path = named.iter().filter(|(_, place)| place == "path").count();
        assert_eq!(placeholders, in_path, "{at}");
    }

    fn check_body(at: &str, method: &str, operation: &Value) {
        let Some(body) = operation.get("requestBody") else { return };
        assert_ne!(method, "get", "{at}: a GET has no body");
        if body["content"]["application/octet-stream"].is_object() {
            return;
        }
        let schema = &body["content"]["application/json"]["schema"];
        let properties = schema["properties"].as_object().expect("properties");
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(properties.contains_key(name.as_str().expect("a name")), "{at}: {name}");
        }
        for (name, property) in properties {
            let types: Vec<&str> = match &property["type"] {
                Value::Null => continue,
                Value::String(word) => vec![word],
                Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
                other => panic!("{at}: {name}: {other}"),
            };
            assert!(types.iter().all(|word| TYPES.contains(word)), "{at}: {name}");
        }
    }

    #[test]
    fn a_body_says_what_is_required_and_of_which_type() {
        let document = document();
        let schema = |path: &str| {
            let body = &document["paths"][path]["post"]["requestBody"];
            body["content"]["application/json"]["schema"].clone()
        };
        let chat = schema("/v1/chat/completions");
        assert_eq!(chat["properties"]["stream"]["type"], json!(["boolean", "null"]));
        assert_eq!(chat["required"], json!(["messages", "model"]));
        assert_eq!(chat.get("additionalProperties"), None);
        let completion = schema("/completion");
        assert_eq!(completion["properties"]["n_predict"]["type"], json!(["integer", "null"]));
        assert_eq!(schema("/api/chat")["properties"]["options"]["type"], json!(["object", "null"]));
        let blob = &document["paths"]["/api/blobs/{id}"];
        assert!(blob["post"]["requestBody"]["content"]["application/octet-stream"].is_object());
        assert_eq!(blob["head"].get("requestBody"), None);
        let clear = schema("/admin/clear");
        assert_eq!(clear["properties"]["tier"]["enum"], json!(["memory", "disk"]));
        assert_eq!((&clear["required"], &clear["additionalProperties"]), (&json!(["tier"]), &json!(false)));
    }

    #[test]
    fn a_field_without_a_type_is_one_that_takes_several() {
        const SEVERAL: [&str; 17] = [
            "constraint",
            "conversation",
            "format",
            "grammar",
            "ids",
            "input",
            "inputs",
            "keep_alive",
            "license",
            "logit_bias",
            "previous_response_id",
            "prompt",
            "stop",
            "system",
            "think",
            "tool_choice",
            "truncate",
        ];
        for route in ROUTES {
            for field in route.fields.iter().copied().flatten().chain(route.query) {
                let takes_several = SEVERAL.contains(&field.name);
                assert!(field.value != FieldValue::Any || takes_several, "{}: {}", route.path, field.name);
            }
        }
    }

    #[test]
    fn streams_and_queries_are_told() {
        let document = document();
        let content = |path: &str, method: &str| -> Vec<String> {
            let answers = &document["paths"][path][method]["responses"]["2XX"]["content"];
            answers.as_object().expect("content").keys().cloned().collect()
        };
        assert_eq!(content("/v1/chat/completions", "post"), ["application/json", "text/event-stream"]);
        assert_eq!(content("/api/chat", "post"), ["application/json", "application/x-ndjson"]);
        assert_eq!(content("/admin/events", "get"), ["text/event-stream"]);
        assert_eq!(content("/admin/pull", "post"), ["application/json", "application/x-ndjson"]);
        let why = &document["paths"]["/admin/why"]["get"]["parameters"][0];
        assert_eq!((&why["name"], &why["required"]), (&json!("model"), &json!(true)));
        let usage = &document["paths"]["/admin/usage"]["get"]["parameters"][0];
        assert_eq!((&usage["name"], &usage["required"]), (&json!("since_ms"), &json!(false)));
    }
}
