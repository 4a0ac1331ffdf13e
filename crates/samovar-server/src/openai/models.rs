//! `/v1/models`: what requests may name.

use axum::Json;
use axum::extract::{Path, State};
use samovar::{ModelInfo, ToolSupport};
use serde_json::{Value, json};

use super::Refused;
use crate::app::App;
use crate::redact::redact;

/// `GET /v1/models`.
pub(crate) async fn list(State(app): State<App>) -> Json<Value> {
    let models: Vec<Value> = app.models().await.iter().map(object).collect();
    Json(json!({ "object": "list", "data": models }))
}

/// `GET /v1/models/{id}`.
pub(crate) async fn one(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, Refused> {
    app.check_model(&id)?;
    let model = app.runtime.model(&id, app.surface.origin()).await?;
    Ok(Json(object(&model)))
}

/// What it can be asked for. Tools count where it was trained to call them; any model that writes text may be given some.
fn capabilities(model: &ModelInfo) -> Vec<&str> {
    let more = [("tools", model.tools == Some(ToolSupport::ByTemplate)), ("thinking", model.thinks)];
    let more = more.into_iter().filter(|(_, has)| *has).map(|(name, _)| name);
    model.capabilities.iter().map(String::as_str).chain(more).collect()
}

fn object(model: &ModelInfo) -> Value {
    json!({
        "id": redact(&model.name),
        "object": "model",
        "created": model.modified_unix_s,
        "owned_by": "samovar",
        "capabilities": capabilities(model),
        "samovar": {
            "architecture": model.architecture,
            "parameters": model.parameters,
            "quantization": model.quantization,
            "size_bytes": model.size_bytes,
            "context_tokens": model.context_tokens,
            "trained_context_tokens": model.trained_context_tokens,
            "slots": model.slots,
            "tools": model.tools,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_thinking_are_what_a_models_template_knows() {
        let of = |tools: Value, thinks: bool| {
            let model: ModelInfo = serde_json::from_value(json!({
                "name": "m", "kind": "config", "path": "/srv/m.gguf", "architecture": "llama", "parameters": 1,
                "capabilities": ["generate"], "quantization": "F16", "size_bytes": 1, "context_tokens": 1,
                "trained_context_tokens": 1, "slots": 1, "predicted_bytes": 1, "modified_unix_s": 1,
                "tools": tools, "thinks": thinks,
            }))
            .expect("a model");
            let object = object(&model);
            (object["capabilities"].clone(), object["samovar"]["tools"].clone())
        };
        let all = json!(["generate", "tools", "thinking"]);
        assert_eq!(of(json!("by_template"), true), (all, json!("by_template")));
        assert_eq!(of(json!("generic"), false), (json!(["generate"]), json!("generic")));
        assert_eq!(of(Value::Null, false), (json!(["generate"]), Value::Null));
    }
}
