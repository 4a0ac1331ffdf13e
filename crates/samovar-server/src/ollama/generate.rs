//! `/api/generate`: an answer to one prompt.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::{Input, Message};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::messages::refuse_images;
use super::respond::respond;
use super::shape::Shape;
use super::terms::Terms;
use super::{Refused, presence};
use crate::app::App;
use crate::client::Asker;
use crate::field::{Field, field};
use crate::payload::Payload;
use crate::refusal::Refusal;

/// The fields that only this route has.
#[derive(Debug, Deserialize)]
struct ToGenerate {
    prompt: Option<String>,
    system: Option<String>,
    raw: Option<bool>,
    suffix: Option<String>,
    template: Option<String>,
    context: Option<Vec<IgnoredAny>>,
    images: Option<Vec<IgnoredAny>>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "prompt",
        "What the user says. Empty or absent: the model is loaded, or leaves if `keep_alive` is 0, and the answer is one object.",
    ),
    field("system", "How the model should behave. Default: what the model's author set."),
    field("raw", "True: the prompt is continued as it is, without the model's chat template."),
    field("suffix", "Refused unless it is empty: no text is put between two others yet."),
    field("template", "Refused unless it is empty: the model's own template counts."),
    field("context", "Refused unless it is empty; `/api/chat` takes a conversation."),
    field("images", "Refused unless it is empty."),
];

/// `POST /api/generate`.
pub(crate) async fn generate(
    State(app): State<App>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let terms: Terms = payload.parse()?;
    let input = payload.parse::<ToGenerate>()?.check()?;
    // What it says is in the request.
    drop(payload);
    let mut wanted = terms.check(&app, &asker, &headers).await?;
    let Some(input) = input else { return Box::pin(presence::answer(&app, wanted, Shape::Generate)).await };
    if matches!(input, Input::Text(_)) {
        // Without a template no thoughts are told from text.
        wanted.generate.template_arguments.clear();
        wanted.generate.thinking_budget_tokens = None;
    }
    wanted.generate.input = input;
    respond(&app, wanted, Shape::Generate).await
}

impl ToGenerate {
    /// What the model is given; `None` = nothing, and it is only to be loaded or unloaded.
    fn check(self) -> Result<Option<Input>, Refusal> {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let is_raw = self.raw.unwrap_or(false);
        let system = filled(self.system);
        if filled(self.template).is_some() {
            return Err(Refusal::unsupported("template", "`template` is not supported: it is a Go template")
                .with_hint("leave it out, or send `raw` with a prompt that you rendered"));
        }
        if self.context.is_some_and(|context| !context.is_empty()) {
            return Err(Refusal::unsupported("context", "`context` is not supported")
                .with_hint("send the conversation to /api/chat"));
        }
        if is_raw && system.is_some() {
            let message = "raw mode does not support template, system, or context";
            return Err(Refusal::invalid("system", message).with_hint("write it into `prompt`"));
        }
        if filled(self.suffix).is_some() {
            return Err(Refusal::unsupported(
                "suffix",
                "this model does not support insert: `suffix` cannot be used",
            )
            .with_hint("leave it out, or send `raw` with the model's own tokens for filling in"));
        }
        refuse_images(self.images.as_deref(), "images")?;
        Ok(filled(self.prompt).map(|prompt| {
            if is_raw {
                return Input::Text(prompt);
            }
            let messages = system.map(Message::system).into_iter().chain([Message::user(prompt)]);
            Input::Chat(messages.collect())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<ToGenerate>());
    }

    fn read(body: Value) -> Result<Option<Input>, String> {
        let body: ToGenerate = serde_json::from_value(body).expect("parses");
        body.check().map_err(|refusal| refusal.failure.param.expect("names the field"))
    }

    #[test]
    fn a_prompt_is_a_conversation_unless_it_is_raw() {
        assert_eq!(read(json!({})), Ok(None));
        assert_eq!(read(json!({ "prompt": "", "system": "x", "template": "", "images": [] })), Ok(None));
        let raw = read(json!({ "prompt": "a", "raw": true, "context": [], "suffix": "" }));
        assert_eq!(raw, Ok(Some(Input::Text("a".to_owned()))));
        let both = vec![Message::system("Be brief"), Message::user("a")];
        assert_eq!(read(json!({ "prompt": "a", "system": "Be brief" })), Ok(Some(Input::Chat(both))));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (body, field) in [
            (json!({ "prompt": "a", "suffix": "b" }), "suffix"),
            (json!({ "prompt": "a", "template": "{{ .Prompt }}" }), "template"),
            (json!({ "prompt": "a", "context": [1, 2] }), "context"),
            (json!({ "prompt": "a", "images": ["aGk="] }), "images"),
            (json!({ "prompt": "a", "raw": true, "system": "x" }), "system"),
        ] {
            assert_eq!(read(body).expect_err("refuses"), field);
        }
    }
}
