//! `/chat/conversations`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{head, history, on_disk, refusal};
use crate::app::App;
use crate::client::Asker;
use crate::openai::Refused;
use crate::refusal::Refusal;

/// Conversations of an answer, where the request does not say how many.
const USUAL: u32 = 50;

#[derive(Debug, Deserialize)]
pub(crate) struct ListQuery {
    query: Option<String>,
    limit: Option<u32>,
    before: Option<i64>,
}

/// `GET /chat/conversations`.
pub(crate) async fn list(
    State(app): State<App>,
    asker: Asker,
    asked: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let Query(asked) = asked.map_err(|rejection| {
        Refusal::invalid("query", format!("the query cannot be read: {}", rejection.body_text()))
            .with_hint("write /chat/conversations?query=WORDS&limit=20")
    })?;
    let history = history(&app, &asker).await?;
    let limit = asked.limit.unwrap_or(USUAL);
    let Some(words) = asked.query.filter(|words| !words.trim().is_empty()) else {
        let heads = on_disk(move || history.list(limit, asked.before)).await.map_err(refusal)?;
        let list: Vec<Value> = heads.iter().map(head).collect();
        return Ok(Json(json!({ "conversations": list })));
    };
    if asked.before.is_some() {
        return Err(Refusal::invalid("before", "`before` and `query` do not go together").into());
    }
    let hits = on_disk(move || history.search(&words, limit)).await.map_err(refusal)?;
    let list: Vec<Value> = hits
        .iter()
        .map(|hit| {
            let mut object = head(&hit.conversation);
            object["snippet"] = hit.snippet.as_str().into();
            object["message"] = hit.message.map(|message| message.to_string()).into();
            object
        })
        .collect();
    Ok(Json(json!({ "conversations": list })))
}
