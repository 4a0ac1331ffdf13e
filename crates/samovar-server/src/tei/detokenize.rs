//! `/detokenize` and `/decode`: texts of token ids, as llama-server and text-embeddings-inference write them.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::EmbedInput;
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::embedding::inputs::{Inputs, present};
use crate::embedding::target::{self, Ability};
use crate::embedding::terms::{Named, Terms, Wanted};
use crate::embedding::{number, pieces};
use crate::field::{Field, field};
use crate::generation::running::{admit, until_cut};
use crate::openai::Refused;
use crate::payload::Payload;
use crate::refusal::Refusal;

/// The fields of llama-server's route.
#[derive(Debug, Deserialize)]
struct ToDetokenize {
    tokens: Option<Vec<u32>>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] =
    &[field("tokens", "Token ids. The answer is `{\"content\": \"…\"}`, without control tokens. Required.")
        .list()];

/// The fields of text-embeddings-inference's route.
#[derive(Debug, Deserialize)]
struct ToDecode {
    ids: Option<Inputs>,
    skip_special_tokens: Option<bool>,
}

/// The same with what they mean.
pub(crate) const DECODE_FIELDS: &[Field] = &[
    field("ids", "Token ids, or at most 1,024 lists of them. The answer is an array of texts. Required."),
    field("skip_special_tokens", "True or absent; false is refused, for control tokens have no text here.")
        .boolean(),
];

/// `POST /detokenize`.
pub(crate) async fn detokenize(
    State(app): State<App>,
    named: Named,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let wanted = payload.parse::<Terms>()?.check(&asker, &headers)?.or_named(named);
    let tokens = present(payload.parse::<ToDetokenize>()?.tokens, "tokens")?;
    drop(payload);
    let (texts, held) = texts(&app, wanted, vec![tokens]).await?;
    let mut bytes = Vec::new();
    number::write_json(&mut bytes, &json!({ "content": texts.into_iter().next().unwrap_or_default() }));
    Ok(pieces::whole(HeaderMap::new(), held, bytes)?)
}

/// `POST /decode`.
pub(crate) async fn decode(
    State(app): State<App>,
    named: Named,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let wanted = payload.parse::<Terms>()?.check(&asker, &headers)?.or_named(named);
    let lists = payload.parse::<ToDecode>()?.check()?;
    drop(payload);
    let (texts, held) = texts(&app, wanted, lists).await?;
    let mut bytes = Vec::new();
    number::write_json(&mut bytes, &texts);
    Ok(pieces::whole(HeaderMap::new(), held, bytes)?)
}

impl ToDecode {
    fn check(self) -> Result<Vec<Vec<u32>>, Refusal> {
        if self.skip_special_tokens == Some(false) {
            let message =
                "`skip_special_tokens` is supported as true alone: control tokens have no text here";
            return Err(Refusal::unsupported("skip_special_tokens", message).with_hint("leave it out"));
        }
        let list = |input| match input {
            EmbedInput::Tokens(tokens) => Ok(tokens),
            _ => Err(Refusal::invalid("ids", "`ids` must be token ids or lists of token ids")),
        };
        Inputs::check(self.ids, "ids")?.into_iter().map(list).collect()
    }
}

/// The text of each list, counted. Bytes that are no text are replaced.
async fn texts(
    app: &App,
    wanted: Wanted,
    lists: Vec<Vec<u32>>,
) -> Result<(Vec<String>, BufferCharge), Refusal> {
    let Wanted { model, mut common, .. } = wanted;
    common.model = target::model(app, model, Ability::Tokenize).await?;
    let _in_flight = admit(app, &mut common)?;
    let mut held = BufferCharge::new(app, &common.client);
    let all = until_cut(app, app.runtime.detokenize(common, lists)).await?;
    held.add(all.iter().map(Vec::len).sum())?;
    let text = |bytes| String::from_utf8(bytes).unwrap_or_else(|error| lossy(error.as_bytes()));
    Ok((all.into_iter().map(text).collect(), held))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<ToDetokenize>());
        assert_eq!(names(DECODE_FIELDS), parsed::<ToDecode>());
    }
}
