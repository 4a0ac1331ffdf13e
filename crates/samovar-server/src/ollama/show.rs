//! `/api/show`: what is known of one model.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use samovar::{ModelInfo, Preset};
use samovar_core::Descriptor;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::details::{capabilities, details};
use super::{Refused, names};
use crate::app::App;
use crate::field::{Field, field};
use crate::moment;
use crate::payload::Payload;
use crate::redact::redact;

#[derive(Debug, Deserialize)]
struct ToShow {
    model: Option<String>,
    name: Option<String>,
}

/// Its fields with what they mean.
pub(crate) const FIELDS: &[Field] =
    &[field("model", "The model. Required.").text(), field("name", "The same by an older name.").text()];

/// `POST /api/show`.
pub(crate) async fn show(State(app): State<App>, body: Body) -> Result<Json<Value>, Refused> {
    let ToShow { model, name } = Payload::read(body, &app.limits).await?.parse()?;
    let asked = names::required(model.filter(|model| !model.is_empty()).or(name))?;
    let found = names::find(&app, &asked).await;
    app.check_model(&found.reference)?;
    let info = match found.info {
        Some(info) => info,
        None => app.runtime.model(&found.reference, app.surface.origin()).await?,
    };
    // The client may name the model, so it may read what the model's header says.
    let spec = app.runtime.spec(&found.reference).await?;
    let preset = app.runtime.preset(&found.reference, app.surface.origin()).await?;
    Ok(Json(object(&info, &spec.descriptor, &preset)))
}

fn object(model: &ModelInfo, descriptor: &Descriptor, preset: &Preset) -> Value {
    let parameters = parameters(model, preset);
    let template = preset.template.as_deref().or(descriptor.chat_template.as_deref()).unwrap_or_default();
    let mut object = json!({
        "modelfile": modelfile(model, preset, &parameters),
        "parameters": parameters.iter().map(|(name, value)| format!("{name:<30} {value}")).collect::<Vec<_>>().join("\n"),
        "template": template,
        "details": details(model),
        "model_info": model_info(descriptor),
        "capabilities": capabilities(model),
        "modified_at": moment::written(Duration::from_secs(model.modified_unix_s)),
    });
    if let Some(system) = &preset.system {
        object["system"] = system.as_str().into();
    }
    if let Some(license) = &preset.license {
        object["license"] = license.as_str().into();
    }
    if !preset.messages.is_empty() {
        let said = preset.messages.iter();
        object["messages"] =
            said.map(|message| json!({ "role": message.role, "content": message.content })).collect();
    }
    object
}

/// What requests have that say nothing else, by Ollama's names.
fn parameters(model: &ModelInfo, preset: &Preset) -> Vec<(&'static str, String)> {
    let sampling = &preset.sampling;
    let number = |name: &'static str, value: Option<f32>| Some((name, value?.to_string()));
    let whole = |name: &'static str, value: Option<u32>| Some((name, value?.to_string()));
    let all = [
        whole("num_ctx", Some(model.context_tokens)),
        whole("num_predict", preset.max_tokens),
        number("temperature", sampling.temperature),
        whole("top_k", sampling.top_k),
        number("top_p", sampling.top_p),
        number("min_p", sampling.min_p),
        number("repeat_penalty", sampling.repeat_penalty),
        whole("repeat_last_n", sampling.repeat_last_tokens),
        number("presence_penalty", sampling.presence_penalty),
        number("frequency_penalty", sampling.frequency_penalty),
        whole("seed", sampling.seed),
    ];
    let stops = preset.stop.iter().map(|stop| ("stop", format!("{stop:?}")));
    all.into_iter().flatten().chain(stops).collect()
}

/// The same as a file of instructions from which Ollama would create it.
fn modelfile(model: &ModelInfo, preset: &Preset, parameters: &[(&'static str, String)]) -> String {
    let from = if model.parent.is_empty() { names::of(model) } else { redact(&model.parent) };
    let quoted = |text: &str| format!("\"\"\"{text}\"\"\"");
    let template = preset.template.iter().map(|template| format!("TEMPLATE {}", quoted(template)));
    let system = preset.system.iter().map(|system| format!("SYSTEM {}", quoted(system)));
    let parameters = parameters.iter().map(|(name, value)| format!("PARAMETER {name} {value}"));
    let said = preset.messages.iter();
    let said = said.map(|message| format!("MESSAGE {} {}", message.role, quoted(&message.content)));
    let first = [format!("FROM {from}")].into_iter();
    first.chain(template).chain(system).chain(parameters).chain(said).map(|line| line + "\n").collect()
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
