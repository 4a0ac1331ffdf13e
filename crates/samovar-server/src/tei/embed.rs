//! `/embed`.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::{Embed, Truncate};
use serde::Deserialize;

use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::embedding::compute::{Computed, compute};
use crate::embedding::inputs::{self, Cut, Inputs};
use crate::embedding::number::{self, Encoding};
use crate::embedding::pieces;
use crate::embedding::target::{self, Ability};
use crate::embedding::terms::{Named, Terms, Wanted};
use crate::field::{Field, field};
use crate::openai::Refused;
use crate::payload::Payload;
use crate::refusal::Refusal;

/// The fields that only this route has.
#[derive(Debug, Deserialize)]
struct ToEmbed {
    inputs: Option<Inputs>,
    normalize: Option<bool>,
    truncate: Option<Cut>,
    truncation_direction: Option<String>,
    prompt_name: Option<String>,
    dimensions: Option<f64>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "inputs",
        "What becomes vectors: a text, texts, token ids, or lists of token ids; at most 10,000. No text may be empty. Required.",
    ),
    field("normalize", "False: vectors keep the length that the model gave them. Default: true.").boolean(),
    field(
        "truncate",
        "What becomes of inputs that are too long: true, a part is left out; false, the request is refused with both counts. Default: false.",
    ),
    field(
        "truncation_direction",
        "`right`: the end is left out; `left`: the beginning is. Default: `right`.",
    ).one_of(&["right", "left"]),
    field(
        "prompt_name",
        "`query` or `document`: a model that tells them apart has a prompt before each. No prompt when it is absent.",
    ).text(),
    field("dimensions", "So many of a vector's first numbers, whose length then becomes 1 again.").integer(),
];

/// `POST /embed`.
pub(crate) async fn embed(
    State(app): State<App>,
    named: Named,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let wanted = payload.parse::<Terms>()?.check(&asker, &headers)?.or_named(named);
    let mut embed = payload.parse::<ToEmbed>()?.check()?;
    // What it says is in the request.
    drop(payload);
    let Wanted { model, mut common, urgency } = wanted;
    embed.urgency = urgency;
    common.model = target::model(&app, model, Ability::Embed).await?;
    let held = BufferCharge::new(&app, &common.client);
    let computed = compute(&app, common, embed, held, "inputs").await?;
    Ok(respond(computed)?)
}

impl ToEmbed {
    fn check(self) -> Result<Embed, Refusal> {
        let output = inputs::vector(self.dimensions, self.normalize)?;
        let direction = self.truncation_direction.unwrap_or_default();
        let cut_end = match direction.to_ascii_lowercase().as_str() {
            "" | "right" => true,
            "left" => false,
            _ => {
                let shown: String = direction.chars().take(40).collect();
                let message =
                    format!("`truncation_direction` must be \"left\" or \"right\", and is {shown:?}");
                return Err(Refusal::invalid("truncation_direction", message));
            }
        };
        let role = inputs::role([("prompt_name", self.prompt_name.as_deref()), ("", None)])?;
        let mut embed = Embed::new(Inputs::check(self.inputs, "inputs")?);
        embed.output = output;
        embed.truncate = match self.truncate.map(|cut| cut.0).unwrap_or_default() {
            Truncate::End if !cut_end => Truncate::Start,
            truncate => truncate,
        };
        embed.role = role;
        Ok(embed)
    }
}

fn respond(computed: Computed) -> Result<Response, samovar_core::Failure> {
    let Computed { headers, values, held, .. } = computed;
    let mut vectors = values.into_iter();
    let mut before = b'[';
    pieces::respond(headers, held, move |bytes| {
        let Some(vector) = vectors.next() else {
            bytes.push(b']');
            return false;
        };
        bytes.push(std::mem::replace(&mut before, b','));
        number::write(bytes, &vector, Encoding::Float);
        true
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<ToEmbed>());
    }

    #[test]
    fn the_direction_counts_where_something_is_cut() {
        let of = |body: serde_json::Value| {
            let body = Payload::of(body.to_string()).parse::<ToEmbed>().expect("reads");
            body.check().map(|embed| embed.truncate)
        };
        let left = "Left";
        assert_eq!(of(json!({ "inputs": "a" })).expect("sound"), Truncate::Refuse);
        assert_eq!(of(json!({ "inputs": "a", "truncate": true })).expect("sound"), Truncate::End);
        let both = json!({ "inputs": "a", "truncate": true, "truncation_direction": left });
        assert_eq!(of(both).expect("sound"), Truncate::Start);
        let alone = json!({ "inputs": "a", "truncation_direction": left });
        assert_eq!(of(alone).expect("sound"), Truncate::Refuse);
        let wrong = of(json!({ "inputs": "a", "truncation_direction": "up" })).expect_err("refuses");
        assert_eq!(wrong.failure.param.as_deref(), Some("truncation_direction"));
    }
}
