//! `/chat/conversations/{id}`: one conversation, its changes and its end.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use samovar_chat::{ConversationChange, ConversationDetail, StoredMessage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{head, history, number, on_disk, refusal};
use crate::app::App;
use crate::client::Asker;
use crate::openai::Refused;
use crate::payload::Payload;

#[derive(Debug, Default, Deserialize)]
pub(super) struct ChangeBody {
    title: Option<String>,
    system: Option<String>,
    facts: Option<bool>,
    leaf: Option<String>,
}

/// `GET /chat/conversations/{id}`.
pub(crate) async fn read(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refused> {
    let (id, history) = (number(&id)?, history(&app, &asker).await?);
    let detail = on_disk(move || history.open(id)).await.map_err(refusal)?;
    Ok(Json(object(&detail)))
}

/// `PATCH /chat/conversations/{id}`.
pub(crate) async fn change(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Refused> {
    let body: ChangeBody = Payload::read(body, &app.limits).await?.parse_or_default()?;
    let (id, history) = (number(&id)?, history(&app, &asker).await?);
    let change = ConversationChange {
        title: body.title,
        system: body.system,
        uses_facts: body.facts,
        leaf: body.leaf.as_deref().map(number).transpose()?,
    };
    let changed = on_disk(move || history.change(id, &change)).await.map_err(refusal)?;
    Ok(Json(head(&changed)))
}

/// `DELETE /chat/conversations/{id}`.
pub(crate) async fn delete(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refused> {
    let (id, history) = (number(&id)?, history(&app, &asker).await?);
    on_disk(move || history.forget(id)).await.map_err(refusal)?;
    Ok(Json(json!({ "id": id.to_string(), "deleted": true })))
}

fn object(detail: &ConversationDetail) -> Value {
    let text = |id: Option<i64>| id.map(|id| id.to_string());
    let summaries = detail.summaries.iter().map(|summary| {
        json!({ "through": summary.through.to_string(), "text": summary.text, "model": summary.model, "created_ms": summary.created_ms })
    });
    let mut object = head(&detail.head);
    object["system"] = detail.system.clone().into();
    object["facts"] = detail.uses_facts.into();
    object["leaf"] = text(detail.leaf).into();
    object["window_from"] = text(detail.window_from).into();
    object["summaries"] = summaries.collect();
    object["messages"] = detail.messages.iter().map(message).collect();
    object
}

fn message(message: &StoredMessage) -> Value {
    json!({
        "id": message.id.to_string(),
        "parent": message.parent.map(|parent| parent.to_string()),
        "role": message.role,
        "text": message.text,
        "thinking": message.thinking,
        "model": message.model,
        "prompt_tokens": message.prompt_tokens,
        "tokens": message.tokens,
        "finish": message.finish,
        "created_ms": message.created_ms,
    })
}
