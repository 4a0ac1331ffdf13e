//! `/api/show`: what is known of one model.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use samovar::ModelInfo;
use samovar_core::Descriptor;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::details::{capabilities, details};
use super::{Refused, names, time};
use crate::app::App;
use crate::field::{Field, field};
use crate::payload::Payload;

#[derive(Debug, Deserialize)]
struct ToShow {
    model: Option<String>,
    name: Option<String>,
}

/// Its fields with what they mean.
pub(crate) const FIELDS: &[Field] =
    &[field("model", "The model. Required."), field("name", "The same by an older name.")];

/// `POST /api/show`.
pub(crate) async fn show(State(app): State<App>, body: Body) -> Result<Json<Value>, Refused> {
    let ToShow { model, name } = Payload::read(body, &app.limits).await?.parse()?;
    let asked = names::required(model.filter(|model| !model.is_empty()).or(name))?;
    let found = names::find(&app, &asked).await;
    let info = match found.info {
        Some(info) => info,
        None => app.runtime.model(&found.reference, app.surface.origin()).await?,
    };
    // The client may name the model, so it may read what the model's header says.
    let spec = app.runtime.spec(&found.reference).await?;
    Ok(Json(object(&info, &spec.descriptor)))
}

fn object(model: &ModelInfo, descriptor: &Descriptor) -> Value {
    let (name, context_tokens) = (names::shown(&model.name), model.context_tokens);
    json!({
        "modelfile": format!("FROM {name}\nPARAMETER num_ctx {context_tokens}\n"),
        "parameters": format!("{:<30} {context_tokens}", "num_ctx"),
        "template": descriptor.chat_template.as_deref().unwrap_or_default(),
        "details": details(model),
        "model_info": model_info(descriptor),
        "capabilities": capabilities(model),
        "modified_at": time::written(Duration::from_secs(model.modified_unix_s)),
    })
}

/// The header's facts, by the names that they have in a file.
fn model_info(descriptor: &Descriptor) -> Map<String, Value> {
    let architecture = &descriptor.architecture;
    let general = [
        ("general.architecture".to_owned(), json!(architecture)),
        ("general.parameter_count".to_owned(), json!(descriptor.parameters)),
    ];
    let of_it = [
        ("context_length", descriptor.context_tokens),
        ("embedding_length", descriptor.embedding_width),
        ("block_count", descriptor.blocks),
        ("feed_forward_length", descriptor.feed_forward_width),
        ("attention.head_count", descriptor.heads),
        ("attention.head_count_kv", descriptor.kv_heads),
        ("attention.key_length", descriptor.key_width),
        ("attention.value_length", descriptor.value_width),
        ("vocab_size", descriptor.vocabulary),
    ];
    let of_it = of_it.map(|(name, value)| (format!("{architecture}.{name}"), json!(value)));
    let mut all: Map<String, Value> = general.into_iter().chain(of_it).collect();
    if let Some(name) = &descriptor.name {
        all.insert("general.name".to_owned(), json!(name));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<ToShow>());
    }
}
