//! The OpenRPC document, made of the table of methods. Runs nothing.

use serde_json::{Map, Value, json};

use super::methods::Method;
use super::wire::{CODES, STANDARD};
use crate::field::Field;
use crate::openapi::schema;

/// The version of OpenRPC whose document this is.
const OPENRPC: &str = "1.3.2";

/// The document.
pub(super) fn document(methods: &[Method]) -> Value {
    let errors: Map<String, Value> = errors().collect();
    let references: Vec<Value> =
        errors.keys().map(|name| json!({ "$ref": format!("#/components/errors/{name}") })).collect();
    let methods: Vec<Value> = methods.iter().map(|method| described(method, &references)).collect();
    json!({
        "openrpc": OPENRPC,
        "info": {
            "title": "Samovar",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Loads language models once, and serves every request from that one copy.",
        },
        "methods": methods,
        "components": { "errors": errors },
    })
}

fn described(method: &Method, errors: &[Value]) -> Value {
    let param = |field: Field| {
        json!({
            "name": field.name,
            "description": field.about,
            "required": method.required.contains(&field.name),
            "schema": schema(&field, false),
        })
    };
    let params: Vec<Value> = method.fields().into_iter().map(param).collect();
    let notifications = method.notifications.iter().map(
        |(name, about)| json!({ "name": name, "description": format!("`id` of the request, and {about}") }),
    );
    let mut described = json!({
        "name": method.name,
        "description": method.about,
        "paramStructure": if method.is_by_name { "by-name" } else { "either" },
        "params": params,
        "result": { "name": "result", "description": method.result, "schema": {} },
        "errors": errors,
    });
    if !method.notifications.is_empty() {
        // OpenRPC has no word for what a server tells.
        described["x-notifications"] = notifications.collect();
    }
    described
}

/// Every error by a word for it: those of the specification, and one for each kind of failure.
fn errors() -> impl Iterator<Item = (String, Value)> {
    let error = |code: i32, message: &str| json!({ "code": code, "message": message });
    let standard = STANDARD
        .into_iter()
        .map(move |(code, message)| (message.to_ascii_lowercase().replace(' ', "_"), error(code, message)));
    let own = CODES.into_iter().filter(|(_, code)| STANDARD.iter().all(|(standard, _)| standard != code));
    standard.chain(own.map(move |(kind, code)| {
        let word = kind.surface().code;
        (word.to_owned(), error(code, word))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::methods::METHODS;

    #[test]
    fn the_document_has_every_method_parameter_and_error() {
        let document = document(METHODS);
        assert!(document["openrpc"].as_str().is_some_and(|version| version.starts_with("1.")));
        let described = document["methods"].as_array().expect("methods");
        assert_eq!(described.len(), METHODS.len());
        for (method, described) in METHODS.iter().zip(described) {
            assert_eq!(described["name"], method.name);
            let params = described["params"].as_array().expect("parameters");
            let names: Vec<&str> = params.iter().filter_map(|param| param["name"].as_str()).collect();
            assert_eq!(names, method.names());
            // Those that must be given come first, so that they can be given by position.
            let required: Vec<bool> = params.iter().map(|param| param["required"] == true).collect();
            assert!(method.is_by_name || required.is_sorted_by(|one, other| one >= other), "{}", method.name);
        }
        let errors = document["components"]["errors"].as_object().expect("errors");
        assert_eq!(errors.len(), STANDARD.len() + CODES.len() - 2);
        assert_eq!(errors["busy"]["code"], -32007);
        assert_eq!(errors["parse_error"]["code"], -32700);
    }

    #[test]
    fn a_parameter_says_its_type() {
        let document = document(METHODS);
        let schema = |method: &str, param: &str| {
            let mut methods = document["methods"].as_array().expect("methods").iter();
            let method = methods.find(|it| it["name"] == method).expect("a method");
            let mut params = method["params"].as_array().expect("parameters").iter();
            params.find(|it| it["name"] == param).expect("a parameter")["schema"].clone()
        };
        assert_eq!(schema("warm_cache", "pin"), json!({ "type": "boolean" }));
        assert_eq!(schema("clear_cache", "tier"), json!({ "type": "string", "enum": ["memory", "disk"] }));
        assert_eq!(schema("generate", "max_tokens"), json!({ "type": "integer" }));
        assert_eq!(schema("embed", "dimensions"), json!({ "type": "integer" }));
        assert_eq!(schema("generate", "prompt"), json!({}), "a text or token ids");
    }
}
