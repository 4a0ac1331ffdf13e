//! `/info`: what the vectors of an embedder are.

use axum::Json;
use axum::extract::State;
use samovar::{EmbedderInfo, Pooling};
use serde_json::{Value, json};

use crate::app::App;
use crate::embedding::inputs::INPUTS;
use crate::embedding::target::{self, Ability};
use crate::embedding::terms::Named;
use crate::openai::Refused;
use crate::redact::redact;

/// `GET /info?model=NAME`.
pub(crate) async fn info(State(app): State<App>, Named(model): Named) -> Result<Json<Value>, Refused> {
    let model = target::model(&app, model, Ability::Embed).await?;
    let origin = app.surface.origin();
    let embedder = app.runtime.embedder(&model, origin).await?;
    let known = app.runtime.model(&model, origin).await?;
    Ok(Json(object(&embedder, &known.quantization)))
}

/// The fields that clients of text-embeddings-inference read, and what stored vectors should carry.
fn object(embedder: &EmbedderInfo, quantization: &str) -> Value {
    let model_type = match embedder.pooling {
        Pooling::Rank => {
            json!({ "reranker": { "id2label": { "0": "LABEL_0" }, "label2id": { "LABEL_0": 0 } } })
        }
        pooling => json!({ "embedding": { "pooling": word(pooling) } }),
    };
    json!({
        "model_id": redact(&embedder.model),
        "model_sha": null,
        "model_dtype": quantization,
        "model_type": model_type,
        "max_input_length": embedder.max_input_tokens,
        "max_client_batch_size": INPUTS,
        "auto_truncate": false,
        "version": env!("CARGO_PKG_VERSION"),
        "fingerprint": embedder.fingerprint,
        "dimensions": embedder.dimensions,
        "normalized": true,
        "prompts": { "query": embedder.query_prompt, "document": embedder.document_prompt },
        "can_rerank": embedder.can_rerank,
    })
}

/// As text-embeddings-inference writes it.
const fn word(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::Last => "last_token",
        pooling => pooling.as_str(),
    }
}
