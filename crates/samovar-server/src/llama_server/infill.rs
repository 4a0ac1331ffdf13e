//! `POST /infill`: a gap in a text is filled in, as editors ask for it. What may be set is that of `/completion`.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::{Infill, InfillChunk, Input};
use serde::Deserialize;

use super::completion::respond;
use super::error::Refused;
use super::options::Options;
use super::prompt::Prompt;
use super::query::Asked;
use crate::app::App;
use crate::client::Asker;
use crate::embedding::target::Ability;
use crate::field::{Field, field};
use crate::payload::Payload;
use crate::refusal::Refusal;

/// What a further text without a name is called.
const NAMELESS: &str = "tmp";

/// The fields that say what is filled in.
#[derive(Debug, Deserialize)]
struct ToFillIn {
    input_prefix: Option<String>,
    input_suffix: Option<String>,
    input_extra: Option<Vec<Extra>>,
    prompt: Option<String>,
}

/// A further text.
#[derive(Debug, Deserialize)]
struct Extra {
    filename: Option<String>,
    text: Option<String>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "input_prefix",
        "The text before the gap; as much of its end as fits. No text is read as a control token. Required.",
    ).text(),
    field("input_suffix", "The text behind the gap; as much of its beginning as fits. Required.").text(),
    field(
        "input_extra",
        "Further texts that help, the most helpful last: `[{\"filename\": \"…\", \"text\": \"…\"}]`, at most 256; those that do not fit are left out.",
    ).list(),
    field("prompt", "What already stands in the gap: it is put behind `input_prefix`.").text(),
];

/// `POST /infill`.
pub(crate) async fn fill_in(
    State(app): State<App>,
    asked: Asked,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let prompt = Prompt::Whole(Input::Infill(payload.parse::<ToFillIn>()?.check()?));
    let wanted = payload.parse::<Options>()?.check_with(vec![prompt], &asker, &headers)?;
    respond(app, payload, wanted, asked.model, Ability::Infill).await
}

impl ToFillIn {
    fn check(self) -> Result<Infill, Refusal> {
        let missing = |param: &str| Refusal::invalid(param, format!("`{param}` is missing"));
        let mut prefix = self.input_prefix.ok_or_else(|| missing("input_prefix"))?;
        let suffix = self.input_suffix.ok_or_else(|| missing("input_suffix"))?;
        prefix.push_str(&self.prompt.unwrap_or_default());
        let mut infill = Infill::new(prefix, suffix);
        let chunk = |(place, extra): (usize, Extra)| -> Result<InfillChunk, Refusal> {
            let text = extra.text.ok_or_else(|| missing(&format!("input_extra[{place}].text")))?;
            let name = extra.filename.filter(|name| !name.is_empty());
            Ok(InfillChunk { name: name.unwrap_or_else(|| NAMELESS.to_owned()), text })
        };
        let extra = self.input_extra.unwrap_or_default().into_iter().enumerate();
        infill.chunks = extra.map(chunk).collect::<Result<_, Refusal>>()?;
        Ok(infill)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<ToFillIn>());
    }

    fn read(body: &Value) -> Result<Infill, Refusal> {
        Payload::of(body.to_string()).parse::<ToFillIn>()?.check()
    }

    #[test]
    fn what_stands_in_the_gap_belongs_to_the_text_before_it() {
        let extra =
            json!([{ "filename": "a.rs", "text": "A" }, { "text": "B" }, { "filename": "", "text": "" }]);
        let body =
            json!({ "input_prefix": "fn a", "input_suffix": "}", "prompt": "() {", "input_extra": extra });
        let infill = read(&body).expect("sound");
        assert_eq!((infill.prefix.as_str(), infill.suffix.as_str()), ("fn a() {", "}"));
        let chunks: Vec<(&str, &str)> =
            infill.chunks.iter().map(|chunk| (chunk.name.as_str(), chunk.text.as_str())).collect();
        assert_eq!(chunks, [("a.rs", "A"), ("tmp", "B"), ("tmp", "")]);
        let bare = read(&json!({ "input_prefix": "", "input_suffix": "", "prompt": null })).expect("sound");
        assert_eq!(bare, Infill::new("", ""));
    }

    #[test]
    fn fields_that_are_missing_or_of_a_wrong_value_are_named() {
        for (body, param) in [
            (json!({ "input_suffix": "" }), "input_prefix"),
            (json!({ "input_prefix": "" }), "input_suffix"),
            (json!({ "input_prefix": 3, "input_suffix": "" }), "input_prefix"),
            (json!({ "input_prefix": "", "input_suffix": "", "prompt": [1] }), "prompt"),
            (json!({ "input_prefix": "", "input_suffix": "", "input_extra": {} }), "input_extra"),
            (json!({ "input_prefix": "", "input_suffix": "", "input_extra": [{}] }), "input_extra[0].text"),
        ] {
            let failure = read(&body).expect_err("refuses").failure;
            assert_eq!(failure.param.as_deref(), Some(param), "{body}");
        }
    }
}
