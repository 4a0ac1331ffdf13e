//! `POST /apply-template`: the text that a conversation becomes by the model's chat template. The model is loaded for it, because its
//! template runs where it does; nothing is computed.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::error::Refused;
use super::query::Asked;
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::embedding::target::{self, Ability};
use crate::field::{Field, field};
use crate::generation::copies;
use crate::generation::request_terms::RequestTerms;
use crate::generation::running::{admit, until_cut};
use crate::openai::chat;
use crate::payload::Payload;

/// The fields besides those of `/v1/chat/completions` that say what the model is given.
pub(crate) const FIELDS: &[Field] = &[
    field("model", "The model; also `?model=NAME`. The only model here that writes text where it is absent.")
        .text(),
    field("timeout", "Seconds that the whole answer may take, from 0.001 to 86400.").number(),
    field("keep_alive", "How long the model stays ready afterwards, as for `/v1/completions`."),
    field("context_tokens", "Tokens of context that the model is to have, as for `/v1/completions`.")
        .integer(),
    field("user", "The client. It counts only if `server.client_header` is set.").text(),
];

/// `POST /apply-template`.
pub(crate) async fn apply(
    State(app): State<App>,
    asked: Asked,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let mut terms: RequestTerms = payload.parse()?;
    let named = terms.model.take().filter(|model| !model.is_empty()).or(asked.model);
    let mut common = terms.check_all_but_model(&asker, &headers)?;
    let generate = chat::conversation(&payload)?;
    let mut held = BufferCharge::new(&app, &common.client);
    held.add(copies::value_bytes(&generate))?;
    // What it says is in the request.
    drop(payload);
    common.model = target::model(&app, named, Ability::Generate).await?;
    let _in_flight = admit(&app, &mut common)?;
    let text = until_cut(&app, app.runtime.render(common, generate)).await?;
    held.add(text.len())?;
    let bytes = serde_json::to_vec(&json!({ "prompt": text })).expect("invariant: a text is plain data");
    let bytes = held.becomes(bytes)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<RequestTerms>());
    }
}
