//! `/api/generate`: an answer to one prompt.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::{Infill, Input, Message};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::context::Conversation;
use super::messages::refuse_images;
use super::respond::respond_after;
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
    context: Option<Vec<u32>>,
    images: Option<Vec<IgnoredAny>>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "prompt",
        "What the user says. Empty or absent: the model is loaded, or leaves if `keep_alive` is 0, and the answer is one object.",
    ).text(),
    field("system", "How the model should behave. Default: what the model's author set.").text(),
    field("raw", "True: the prompt is continued as it is, without the model's chat template.").boolean(),
    field(
        "suffix",
        "The text behind a gap that the answer fills in; `prompt` is the text before it. Only a model with the capability `insert` can. `system` and `context` are not used then.",
    ).text(),
    field("template", "Refused unless it is empty: the model's own template counts.").text(),
    field(
        "context",
        "The conversation so far: the list that the last object of the answer before held, which the prompt goes on with. Another server's is refused.",
    ).list(),
    field("images", "Refused unless it is empty.").list(),
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
    if !matches!(input, Input::Chat(_)) {
        // Without a template no thoughts are told from text.
        wanted.generate.template_arguments.clear();
        wanted.generate.thinking_budget_tokens = None;
    }
    let said = match &input {
        Input::Chat(messages) => Conversation::of(messages),
        _ => None,
    };
    wanted.generate.input = input;
    respond_after(&app, wanted, Shape::Generate, said).await
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
        let context = self.context.filter(|context| !context.is_empty());
        if is_raw && (system.is_some() || context.is_some()) {
            let param = if system.is_some() { "system" } else { "context" };
            let message = "raw mode does not support template, system, or context";
            return Err(Refusal::invalid(param, message).with_hint("write it into `prompt`"));
        }
        let before = context.map_or_else(|| Ok(Vec::new()), |context| Conversation::read(&context))?;
        refuse_images(self.images.as_deref(), "images")?;
        if let Some(suffix) = filled(self.suffix) {
            // At the beginning of a file there is nothing before the gap.
            return Ok(Some(Input::Infill(Infill::new(self.prompt.unwrap_or_default(), suffix))));
        }
        Ok(filled(self.prompt).map(|prompt| {
            if is_raw {
                return Input::Text(prompt);
            }
            // Instructions that are given anew take the place of those before.
            let is_replaced = system.is_some();
            let before = before.into_iter().filter(|message| !(is_replaced && message.role == "system"));
            let messages = system.map(Message::system).into_iter().chain(before);
            Input::Chat(messages.chain([Message::user(prompt)]).collect())
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
    fn a_prompt_is_a_conversation_unless_it_is_raw_or_has_a_gap() {
        assert_eq!(read(json!({})), Ok(None));
        assert_eq!(read(json!({ "prompt": "", "system": "x", "template": "", "images": [] })), Ok(None));
        let raw = read(json!({ "prompt": "a", "raw": true, "context": [], "suffix": "" }));
        assert_eq!(raw, Ok(Some(Input::Text("a".to_owned()))));
        let gap = |prefix: &str| Ok(Some(Input::Infill(Infill::new(prefix, "b"))));
        for more in [json!({}), json!({ "raw": true }), json!({ "system": "x" })] {
            let mut body = json!({ "prompt": "a", "suffix": "b" });
            body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            assert_eq!(read(body), gap("a"), "{more}");
        }
        assert_eq!(read(json!({ "suffix": "b" })), gap(""));
        let both = vec![Message::system("Be brief"), Message::user("a")];
        assert_eq!(read(json!({ "prompt": "a", "system": "Be brief" })), Ok(Some(Input::Chat(both))));
    }

    #[test]
    fn a_prompt_goes_on_with_the_conversation_so_far() {
        let context = Conversation::of(&[Message::system("Be brief"), Message::user("a")]);
        let context = context.expect("is short").written("b");
        let said = |messages: Vec<Message>| Ok(Some(Input::Chat(messages)));
        let rest = [Message::user("a"), Message::assistant("b"), Message::user("c")];
        let with = |system: &str| [&[Message::system(system)][..], &rest[..]].concat();
        assert_eq!(read(json!({ "prompt": "c", "context": context })), said(with("Be brief")));
        let anew = read(json!({ "prompt": "c", "context": context, "system": "Rhyme" }));
        assert_eq!(anew, said(with("Rhyme")));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (body, field) in [
            (json!({ "prompt": "a", "template": "{{ .Prompt }}" }), "template"),
            (json!({ "prompt": "a", "context": [1, 2] }), "context"),
            (json!({ "prompt": "a", "context": [1, 2], "raw": true }), "context"),
            (json!({ "prompt": "a", "images": ["aGk="] }), "images"),
            (json!({ "prompt": "a", "raw": true, "system": "x" }), "system"),
        ] {
            assert_eq!(read(body).expect_err("refuses"), field);
        }
    }
}
