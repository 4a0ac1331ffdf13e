//! Conversations as documents: `/chat/conversations/{id}/export` and `/chat/conversations/import`.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use samovar_chat::ExportFormat;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{history, number, on_disk, refusal};
use crate::app::App;
use crate::client::Asker;
use crate::openai::Refused;
use crate::payload::Payload;
use crate::refusal::Refusal;

#[derive(Debug, Deserialize)]
pub(crate) struct ExportQuery {
    format: Option<String>,
}

/// `GET /chat/conversations/{id}/export`.
pub(crate) async fn export(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
    asked: Result<Query<ExportQuery>, QueryRejection>,
) -> Result<Response, Refused> {
    let format = asked.ok().and_then(|Query(asked)| asked.format).unwrap_or_else(|| "json".to_owned());
    let format = ExportFormat::named(&format)
        .ok_or_else(|| Refusal::invalid("format", "`format` must be json or markdown"))?;
    let (id, history) = (number(&id)?, history(&app, &asker).await?);
    let text = on_disk(move || history.export(id, format)).await.map_err(refusal)?;
    let (content_type, extension) = match format {
        ExportFormat::Json => ("application/json", "json"),
        ExportFormat::Markdown => ("text/markdown; charset=utf-8", "md"),
    };
    let name = format!("attachment; filename=\"conversation-{id}.{extension}\"");
    Ok(([(header::CONTENT_TYPE, content_type.to_owned()), (header::CONTENT_DISPOSITION, name)], text)
        .into_response())
}

/// `POST /chat/conversations/import`.
pub(crate) async fn import(State(app): State<App>, asker: Asker, body: Body) -> Result<Json<Value>, Refused> {
    let bytes = Payload::read(body, &app.limits).await?.into_bytes();
    let text = String::from_utf8(bytes.into())
        .map_err(|_| Refusal::invalid("messages", "the document is not in UTF-8"))?;
    let history = history(&app, &asker).await?;
    let taken = on_disk(move || history.import(&text)).await.map_err(refusal)?;
    let taken: Vec<String> = taken.iter().map(i64::to_string).collect();
    Ok(Json(json!({ "conversations": taken })))
}
