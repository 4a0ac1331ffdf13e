//! `/v1/responses/input_tokens`: how many tokens the input of a response would have, with its instructions and its tools. Nothing is
//! computed.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::create::{self, in_own_words};
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::generation::copies;
use crate::generation::request_terms::RequestTerms;
use crate::generation::running::{admit, until_cut};
use crate::openai::Refused;
use crate::payload::Payload;

/// `POST /v1/responses/input_tokens`.
pub(crate) async fn count(
    State(app): State<App>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let mut common = payload.parse::<RequestTerms>()?.check(&asker, &headers)?;
    let generate = create::read(&payload)?;
    let mut held = BufferCharge::new(&app, &common.client);
    held.add(copies::value_bytes(&generate))?;
    // What it says is in the request.
    drop(payload);
    let _in_flight = admit(&app, &mut common)?;
    let tokens = until_cut(&app, app.runtime.count(common, generate)).await.map_err(in_own_words)?;
    Ok(Json(json!({ "object": "response.input_tokens", "input_tokens": tokens })))
}
