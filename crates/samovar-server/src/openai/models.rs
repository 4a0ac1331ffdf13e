//! `/v1/models`: what requests may name.

use axum::Json;
use axum::extract::{Path, State};
use samovar::ModelInfo;
use serde_json::{Value, json};

use super::Refused;
use crate::app::App;
use crate::redact::redact;

/// `GET /v1/models`.
pub(crate) async fn list(State(app): State<App>) -> Json<Value> {
    let models: Vec<Value> = app.runtime.models().await.iter().map(object).collect();
    Json(json!({ "object": "list", "data": models }))
}

/// `GET /v1/models/{id}`.
pub(crate) async fn one(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, Refused> {
    let model = app.runtime.model(&id, app.surface.origin()).await?;
    Ok(Json(object(&model)))
}

fn object(model: &ModelInfo) -> Value {
    json!({
        "id": redact(&model.name),
        "object": "model",
        "created": model.modified_unix_s,
        "owned_by": "samovar",
        "capabilities": model.capabilities,
        "samovar": {
            "architecture": model.architecture,
            "parameters": model.parameters,
            "quantization": model.quantization,
            "size_bytes": model.size_bytes,
            "context_tokens": model.context_tokens,
            "trained_context_tokens": model.trained_context_tokens,
            "slots": model.slots,
        },
    })
}
