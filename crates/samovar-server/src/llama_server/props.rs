//! `GET /props`, `/slots` and `/health`: what editors look at before they ask. Nothing here loads a model.

use axum::Json;
use axum::extract::State;
use samovar::{ModelInfo, ModelStats};
use samovar_core::generation::Sampling;
use samovar_core::{ErrorKind, Failure};
use serde_json::{Value, json};

use super::error::Refused;
use super::query::Asked;
use crate::app::App;
use crate::embedding::target::{self, Ability};
use crate::generation::running::leaving;
use crate::redact::redact;
use crate::refusal::Refusal;

/// `GET /health`: requests are accepted. A model that is not in memory is loaded by its first request.
pub(crate) async fn health(State(app): State<App>) -> Result<Json<Value>, Refused> {
    if app.server.is_draining() {
        return Err(leaving().into());
    }
    Ok(Json(json!({ "status": "ok" })))
}

/// `GET /props`.
pub(crate) async fn props(State(app): State<App>, asked: Asked) -> Result<Json<Value>, Refused> {
    Ok(Json(Found::of(&app, asked.model).await?.props()))
}

/// `GET /slots`.
pub(crate) async fn slots(State(app): State<App>, asked: Asked) -> Result<Json<Value>, Refused> {
    let found = Found::of(&app, asked.model).await?;
    let must_be_free = asked.fail_on_no_slot.is_some_and(|value| !value.is_empty());
    if must_be_free && found.busy_slots() >= found.slots() {
        let failure = Failure::new(ErrorKind::Unavailable, "no slot is free");
        return Err(failure.with_hint("a request that comes now waits in the queue").into());
    }
    Ok(Json(found.slot_objects()))
}

/// A model, and what the pool has of it.
#[derive(Debug)]
struct Found {
    model: ModelInfo,
    /// Once it was asked for.
    stats: Option<ModelStats>,
}

impl Found {
    async fn of(app: &App, asked: Option<String>) -> Result<Self, Refusal> {
        let name = target::model(app, asked, Ability::Generate).await?;
        let model = app.runtime.model(&name, app.surface.origin()).await?;
        let stats = app.runtime.stats().await.models.into_iter().find(|stats| stats.name == model.name);
        Ok(Self { model, stats })
    }

    fn in_memory(&self) -> Option<&ModelStats> {
        self.stats.as_ref().filter(|stats| stats.instances > 0)
    }

    /// Those in memory, or else those that it would have.
    fn slots(&self) -> u32 {
        self.in_memory().map_or(self.model.slots, |stats| stats.slots)
    }

    fn busy_slots(&self) -> u32 {
        self.in_memory().map_or(0, |stats| stats.busy_slots)
    }

    fn context_tokens(&self) -> u32 {
        let loaded = self.in_memory().and_then(|stats| stats.options.as_ref());
        loaded.map_or(self.model.context_tokens, |options| options.context_tokens)
    }

    fn props(&self) -> Value {
        let name = redact(&self.model.name);
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            repeat_last_tokens,
            frequency_penalty,
            presence_penalty,
            ..
        } = Sampling::default();
        json!({
            "default_generation_settings": {
                "n_ctx": self.context_tokens(),
                "params": {
                    "n_predict": -1,
                    "temperature": temperature,
                    "top_k": top_k,
                    "top_p": top_p,
                    "min_p": min_p,
                    "repeat_penalty": repeat_penalty,
                    "repeat_last_n": repeat_last_tokens,
                    "frequency_penalty": frequency_penalty,
                    "presence_penalty": presence_penalty,
                },
            },
            "total_slots": self.slots(),
            "model_alias": name,
            // Only the owner may learn where a file is.
            "model_path": name,
            "model_ftype": self.model.quantization,
            "modalities": { "vision": false, "video": false, "audio": false },
            "endpoint_slots": true,
            "endpoint_props": false,
            "endpoint_metrics": true,
            "build_info": concat!("samovar-", env!("CARGO_PKG_VERSION")),
            "is_sleeping": self.in_memory().is_none(),
        })
    }

    /// The pool counts the slots that are in use, and those of all instances are alike: the first ones stand for them.
    fn slot_objects(&self) -> Value {
        let (busy, context_tokens) = (self.busy_slots(), self.context_tokens());
        let slot = |id: u32| json!({ "id": id, "n_ctx": context_tokens, "speculative": false, "is_processing": id < busy });
        (0..self.slots()).map(slot).collect()
    }
}
