//! The OpenAPI document, as the daemon serves it at `/openapi.json`.

pub(super) fn page() -> String {
    serde_json::to_string_pretty(&samovar_server::openapi()).expect("invariant: the document is plain data")
}
