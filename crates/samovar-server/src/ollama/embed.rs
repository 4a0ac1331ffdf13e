//! `/api/embed` and `/api/embeddings`: vectors of texts.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::{Common, Embed, EmbedInput, Truncate};
use samovar_core::Failure;
use samovar_core::units::KeepAlive;
use serde::Deserialize;

use super::shape::ns;
use super::{Refused, names, presence, terms};
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::embedding::compute::{Computed, compute};
use crate::embedding::inputs::{self, List};
use crate::embedding::number::{self, Encoding};
use crate::embedding::pieces;
use crate::field::{Field, field};
use crate::payload::Payload;
use crate::redact::redact;
use crate::refusal::Refusal;

/// The fields of `/api/embed`.
#[derive(Debug, Deserialize)]
struct ToEmbed {
    model: Option<String>,
    input: Option<Texts>,
    truncate: Option<bool>,
    dimensions: Option<f64>,
    keep_alive: Option<KeepAlive>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field("model", "The model; `NAME:latest` is the same as `NAME`. Required.").text(),
    field("input", "A text, or at most 10,000 of them. Nothing: the model is loaded."),
    field("truncate", "False: an input that is too long is refused. Default: true, its end is left out.")
        .boolean(),
    field("dimensions", "So many of a vector's first numbers, whose length then becomes 1 again.").integer(),
    field("keep_alive", "How long the model stays ready afterwards, such as `10m`."),
];

/// The fields of `/api/embeddings`, which came before.
#[derive(Debug, Deserialize)]
struct ToEmbedOne {
    model: Option<String>,
    prompt: Option<String>,
    keep_alive: Option<KeepAlive>,
}

/// The same with what they mean.
pub(crate) const OLD_FIELDS: &[Field] = &[
    field("model", "The model; `NAME:latest` is the same as `NAME`. Required.").text(),
    field("prompt", "The text. Nothing: the model is loaded.").text(),
    field("keep_alive", "How long the model stays ready afterwards, such as `10m`."),
];

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(List<String>),
}

impl Texts {
    /// The inputs; none where nothing is given.
    fn check(self) -> Result<Vec<EmbedInput>, Refusal> {
        let texts = match self {
            Self::One(text) if text.is_empty() => Vec::new(),
            Self::One(text) => vec![text],
            Self::Several(List(texts)) => texts,
        };
        if let Some(at) = texts.iter().position(String::is_empty) {
            let place = format!("input[{at}]");
            return Err(Refusal::invalid(place.clone(), format!("`{place}` cannot be an empty string")));
        }
        Ok(texts.into_iter().map(EmbedInput::Text).collect())
    }
}

/// `POST /api/embed`.
pub(crate) async fn embed(
    State(app): State<App>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let ToEmbed { model, input, truncate, dimensions, keep_alive } = payload.parse()?;
    drop(payload);
    let asked = names::required(model)?;
    let mut embed = Embed::new(input.map_or_else(|| Ok(Vec::new()), Texts::check)?);
    embed.output = inputs::vector(dimensions, None)?;
    embed.truncate = if truncate.unwrap_or(true) { Truncate::End } else { Truncate::Refuse };
    let mut common = terms::common(&asker, &headers, keep_alive)?;
    common.model = names::find(&app, &asked).await.reference;
    let computed = vectors(&app, common, embed, "input").await?;
    Ok(respond(computed, &redact(&asked))?)
}

/// `POST /api/embeddings`: the vector has the length that the model gave it.
pub(crate) async fn embeddings(
    State(app): State<App>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let ToEmbedOne { model, prompt, keep_alive } = payload.parse()?;
    drop(payload);
    let asked = names::required(model)?;
    let prompt = prompt.filter(|prompt| !prompt.is_empty());
    let mut embed = Embed::new(prompt.map(EmbedInput::Text).into_iter().collect());
    embed.output = inputs::vector(None, Some(false))?;
    embed.truncate = Truncate::End;
    let mut common = terms::common(&asker, &headers, keep_alive)?;
    common.model = names::find(&app, &asked).await.reference;
    let Computed { headers, values, held, .. } = vectors(&app, common, embed, "prompt").await?;
    let vector = values.into_iter().next().unwrap_or_default();
    let mut bytes = br#"{"embedding":"#.to_vec();
    number::write(&mut bytes, &vector, Encoding::Float);
    bytes.push(b'}');
    Ok(pieces::whole(headers, held, bytes)?)
}

/// The vectors. Where there are no inputs, the model is only loaded.
async fn vectors(app: &App, common: Common, embed: Embed, param: &str) -> Result<Computed, Failure> {
    let held = BufferCharge::new(app, &common.client);
    if embed.inputs.is_empty() {
        presence::come(app, common).await?;
        return Ok(Computed::nothing(held));
    }
    compute(app, common, embed, held, param).await
}

fn respond(computed: Computed, model: &str) -> Result<Response, Failure> {
    let Computed { headers, values, tokens, timings, held, .. } = computed;
    let mut vectors = values.into_iter();
    let mut begin = br#"{"model":"#.to_vec();
    number::write_json(&mut begin, model);
    begin.extend_from_slice(br#","embeddings":["#);
    let mut begin = Some(begin);
    pieces::respond(headers, held, move |bytes| {
        let is_first = begin.is_some();
        bytes.extend_from_slice(&begin.take().unwrap_or_default());
        let Some(vector) = vectors.next() else {
            let (total, load) = (ns(timings.total_ms), ns(timings.fetch_ms + timings.load_ms));
            let end = format!(
                r#"],"total_duration":{total},"load_duration":{load},"prompt_eval_count":{tokens}}}"#
            );
            bytes.extend_from_slice(end.as_bytes());
            return false;
        };
        if !is_first {
            bytes.push(b',');
        }
        number::write(bytes, &vector, Encoding::Float);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<ToEmbed>());
        assert_eq!(names(OLD_FIELDS), parsed::<ToEmbedOne>());
    }
}
