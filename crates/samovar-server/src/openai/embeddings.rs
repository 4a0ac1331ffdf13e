//! `/v1/embeddings`.

use std::io::Write;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::{Common, Embed};
use serde::Deserialize;

use super::{Refused, fields};
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::embedding::compute::{Computed, compute};
use crate::embedding::inputs::{self, Cut, Inputs};
use crate::embedding::number::{self, Encoding};
use crate::embedding::pieces;
use crate::embedding::terms::{Terms, Wanted};
use crate::field::{Field, field};
use crate::payload::Payload;
use crate::refusal::Refusal;

/// The fields that only embeddings have.
#[derive(Debug, Deserialize)]
struct Embeddings {
    input: Option<Inputs>,
    encoding_format: Option<String>,
    dimensions: Option<f64>,
    truncate: Option<Cut>,
    input_type: Option<String>,
    prompt_name: Option<String>,
    normalize: Option<bool>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "input",
        "What becomes vectors: a text, texts, token ids, or lists of token ids; at most 10,000. No text may be empty. Required.",
    ),
    field(
        "encoding_format",
        "`float`: vectors are arrays of numbers; `base64`: the base64 of their little-endian 32-bit floats. Default: `float`.",
    ).one_of(&["float", "base64"]),
    field("dimensions", "So many of a vector's first numbers, whose length then becomes 1 again.").integer(),
    field(
        "truncate",
        "What becomes of inputs that are too long: true or `end`, the end is left out; `start`, the beginning is; false or `none`, the request is refused with both counts. Default: false.",
    ),
    field(
        "input_type",
        "`query` or `document`: a model that tells them apart has a prompt before each. No prompt when it is absent.",
    ).text(),
    field("prompt_name", "The same by another name; `input_type` counts where both are given.").text(),
    field("normalize", "False: vectors keep the length that the model gave them. Default: true.").boolean(),
];

/// `POST /v1/embeddings`.
pub(crate) async fn create(
    State(app): State<App>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let (common, embed, encoding) = request(&payload, &asker, &headers)?;
    // What it says is in the request.
    drop(payload);
    let held = BufferCharge::new(&app, &common.client);
    let computed = compute(&app, common, embed, held, "input").await?;
    Ok(respond(computed, encoding)?)
}

/// What a body asks for, and how its vectors are to be written.
///
/// # Errors
/// 400 that names the parameter.
pub(crate) fn request(
    payload: &Payload,
    asker: &Asker,
    headers: &HeaderMap,
) -> Result<(Common, Embed, Encoding), Refusal> {
    fields::refuse_unbuilt(payload)?;
    let wanted = payload.parse::<Terms>()?.check(asker, headers)?;
    let (embed, encoding) = payload.parse::<Embeddings>()?.check(&wanted)?;
    let Wanted { model, mut common, .. } = wanted;
    common.model = model.filter(|model| !model.is_empty()).ok_or_else(|| {
        Refusal::invalid("model", "`model` is missing").with_hint("GET /v1/models lists what there is")
    })?;
    Ok((common, embed, encoding))
}

#[cfg(test)]
pub(super) fn check(payload: &Payload, wanted: &Wanted) -> Result<(), Refusal> {
    fields::refuse_unbuilt(payload)?;
    payload.parse::<Embeddings>()?.check(wanted).map(drop)
}

impl Embeddings {
    fn check(self, wanted: &Wanted) -> Result<(Embed, Encoding), Refusal> {
        let encoding = match self.encoding_format.as_deref() {
            None | Some("float") => Encoding::Float,
            Some("base64") => Encoding::Base64,
            Some(other) => {
                let shown: String = other.chars().take(40).collect();
                let message = format!("`encoding_format` must be \"float\" or \"base64\", and is {shown:?}");
                return Err(Refusal::invalid("encoding_format", message));
            }
        };
        let output = inputs::vector(self.dimensions, self.normalize)?;
        let role = inputs::role([
            ("input_type", self.input_type.as_deref()),
            ("prompt_name", self.prompt_name.as_deref()),
        ])?;
        let mut embed = Embed::new(Inputs::check(self.input, "input")?);
        embed.output = output;
        embed.truncate = self.truncate.map(|cut| cut.0).unwrap_or_default();
        embed.role = role;
        embed.urgency = wanted.urgency;
        Ok((embed, encoding))
    }
}

fn respond(computed: Computed, encoding: Encoding) -> Result<Response, samovar_core::Failure> {
    let Computed { headers, model, values, tokens, held, .. } = computed;
    let mut vectors = values.into_iter().enumerate();
    pieces::respond(headers, held, move |bytes| {
        let Some((index, vector)) = vectors.next() else {
            bytes.extend_from_slice(br#"],"model":"#);
            number::write_json(bytes, &model);
            write(bytes, format_args!(r#","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#));
            return false;
        };
        let before = if index == 0 { r#"{"object":"list","data":["# } else { "," };
        write(bytes, format_args!(r#"{before}{{"object":"embedding","index":{index},"embedding":"#));
        number::write(bytes, &vector, encoding);
        bytes.push(b'}');
        true
    })
}

fn write(bytes: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    bytes.write_fmt(text).expect("invariant: writing to memory succeeds");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<Embeddings>());
    }
}
