//! `/v1/completions`, the older API that continues plain text.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::{Infill, Input, Request};
use samovar_core::generation::{FinishReason, TokenLogprob};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::logprobs::TextLogprobs;
use super::options::{Options, Wanted};
use super::respond::{Identity, respond};
use super::shape::{Shape, finish_reason};
use super::{Refused, constraint, fields};
use crate::app::App;
use crate::client::Asker;
use crate::field::{Field, field};
use crate::generation::collected::Collected;
use crate::generation::params::{self, Length};
use crate::layer::RequestId;
use crate::payload::Payload;
use crate::refusal::Refusal;

/// What OpenAI generates when nothing is said.
const DEFAULT_LENGTH: Length = Length::Tokens(16);
const MOST_LOGPROBS: f64 = 20.0;
/// Choices of one response: prompts times answers.
const MOST_CHOICES: usize = 128;

/// The fields that only texts have.
#[derive(Debug, Deserialize)]
struct Text {
    prompt: Option<Value>,
    #[serde(default, deserialize_with = "null_as_minus_one")]
    max_tokens: Option<f64>,
    logprobs: Option<f64>,
    echo: Option<bool>,
    suffix: Option<String>,
    best_of: Option<f64>,
    response_format: Option<Value>,
    tools: Option<Value>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "prompt",
        "What to continue: a text, texts, token ids, or lists of token ids. Control tokens in it count. Required.",
    ),
    field(
        "max_tokens",
        "Tokens to generate at most. Default: 16; -1 or null = as many as the context holds, 0 = compute the prompt alone.",
    ).integer(),
    field("logprobs", "Tell how likely each token was, with so many alternatives: from 0 to 20.").integer(),
    field("echo", "True: the prompt's text comes before the answer; not with `logprobs` or token ids.").boolean(),
    field(
        "suffix",
        "What comes behind the answer: the model fills the gap between `prompt` and this. Only with one prompt, a text in which no control token counts then, and a model that has tokens for gaps.",
    ).text(),
    field("best_of", "The same as `n`, or absent; anything else is refused.").integer(),
    field(
        "response_format",
        "`{\"type\": \"text\"}` or absent; anything else is refused: use `grammar`, or chats.",
    ).object(),
    field("tools", "Empty or absent; anything else is refused: only chats have tools.").list(),
];

/// A field that is missing has a default; one that is null says that there is no limit.
fn null_as_minus_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(Some(Option::<f64>::deserialize(deserializer)?.unwrap_or(-1.0)))
}

/// `POST /v1/completions`.
pub(crate) async fn complete(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    fields::refuse_unbuilt(&payload)?;
    let wanted = payload.parse::<Options>()?.check(&asker, &headers)?;
    let text: Text = payload.parse()?;
    let held = wanted.hold_copies(&app, &payload, 0)?;
    let (requests, shape) = text.check(&wanted)?;
    // What it says is in the requests.
    drop(payload);
    respond(&app, &wanted, (requests, held), shape, Identity { prefix: "cmpl", request: &id }).await
}

/// What a body asks for that has one prompt and one answer, for an API of ours that gives it in another form.
///
/// # Errors
/// 400 that names the parameter.
pub(crate) fn request(payload: &Payload, asker: &Asker) -> Result<Request, Refusal> {
    fields::refuse_unbuilt(payload)?;
    let wanted = payload.parse::<Options>()?.check(asker, &HeaderMap::new())?;
    let text: Text = payload.parse()?;
    if text.echo == Some(true) {
        return Err(Refusal::unsupported(
            "echo",
            "`echo` is not supported here: an answer does not contain its prompt",
        ));
    }
    wanted.refuse_several()?;
    let (mut requests, _) = text.check(&wanted)?;
    match (requests.pop(), requests.is_empty()) {
        (Some(request), true) => Ok(request),
        _ => Err(Refusal::invalid("prompt", "`prompt` must be one text, or the token ids of one")),
    }
}

#[cfg(test)]
pub(super) fn check(payload: &Payload, wanted: &Wanted) -> Result<(), Refusal> {
    fields::refuse_unbuilt(payload)?;
    payload.parse::<Text>()?.check(wanted).map(drop)
}

impl Text {
    fn check(self, wanted: &Wanted) -> Result<(Vec<Request>, TextShape), Refusal> {
        self.refuse_unsupported(wanted)?;
        let length = params::length("max_tokens", self.max_tokens)?.unwrap_or(DEFAULT_LENGTH);
        let logprobs = params::whole("logprobs", self.logprobs, &(0.0..=MOST_LOGPROBS))?;
        let prompts = prompts(self.prompt)?;
        let answers = wanted.answers as usize;
        if prompts.len() * answers > MOST_CHOICES {
            let message = format!("{} prompts times `n` are more than {MOST_CHOICES} choices", prompts.len());
            return Err(Refusal::invalid("prompt", message).with_hint("send them in several requests"));
        }
        let echo = match self.echo {
            Some(true) => Some(echo(&prompts, logprobs)?),
            _ => None,
        };
        let shape = TextShape { has_logprobs: logprobs.is_some(), echo, answers };
        let prompts = match self.suffix.filter(|suffix| !suffix.is_empty()) {
            Some(suffix) => vec![with_suffix(prompts, suffix)?],
            None => prompts,
        };
        let with = |input: Input| {
            let mut generate = wanted.generate.clone();
            generate.input = input;
            generate.max_tokens = length.max_tokens();
            generate.logprobs = logprobs;
            generate
        };
        let requests = prompts.into_iter().flat_map(|prompt| wanted.for_each_answer(with(prompt))).collect();
        Ok((requests, shape))
    }

    fn refuse_unsupported(&self, wanted: &Wanted) -> Result<(), Refusal> {
        let best_of = params::whole("best_of", self.best_of, &(1.0..=20.0))?;
        if best_of.is_some_and(|best_of| best_of != wanted.answers) {
            return Err(Refusal::unsupported(
                "best_of",
                "`best_of` is not supported: no answer is chosen of several",
            )
            .with_hint("leave `best_of` out, or set it to `n`"));
        }
        if constraint::of_format(self.response_format.as_ref())?.is_some() {
            return Err(Refusal::unsupported(
                "response_format",
                "`response_format` is supported in chats alone",
            )
            .with_hint("use /v1/chat/completions, or a `grammar`"));
        }
        if self.tools.as_ref().is_some_and(fields::is_filled) {
            return Err(Refusal::unsupported("tools", "`tools` are supported in chats alone")
                .with_hint("use /v1/chat/completions"));
        }
        Ok(())
    }
}

/// The gap between the only prompt and what comes behind it.
fn with_suffix(prompts: Vec<Input>, suffix: String) -> Result<Input, Refusal> {
    if let Ok([Input::Text(prefix)]) = <[Input; 1]>::try_from(prompts) {
        return Ok(Input::Infill(Infill::new(prefix, suffix)));
    }
    let message = "`suffix` needs one `prompt`, and that must be a text";
    Err(Refusal::unsupported("suffix", message)
        .with_hint("send one text as `prompt`, and each other one in a request of its own"))
}

/// The prompts' texts, to be said before the answers.
fn echo(prompts: &[Input], logprobs: Option<u32>) -> Result<Vec<String>, Refusal> {
    if logprobs.is_some() {
        return Err(Refusal::unsupported(
            "echo",
            "`echo` with `logprobs` is not supported: prompts have no logprobs",
        ));
    }
    let text = |prompt: &Input| match prompt {
        Input::Text(text) => Ok(text.clone()),
        _ => Err(Refusal::unsupported("echo", "`echo` of a prompt made of token ids is not supported")),
    };
    prompts.iter().map(text).collect()
}

/// A text, texts, token ids, or lists of token ids.
fn prompts(prompt: Option<Value>) -> Result<Vec<Input>, Refusal> {
    let wrong =
        || Refusal::invalid("prompt", "`prompt` must be a string, strings, token ids, or lists of token ids");
    match prompt {
        None | Some(Value::Null) => Err(Refusal::invalid("prompt", "`prompt` is missing")),
        Some(Value::String(text)) => Ok(vec![Input::Text(text)]),
        Some(Value::Array(items)) if items.is_empty() => {
            Err(Refusal::invalid("prompt", "`prompt` must not be an empty list"))
        }
        Some(Value::Array(items)) if items[0].is_number() => Ok(vec![tokens(&items).ok_or_else(wrong)?]),
        Some(Value::Array(items)) => {
            let prompt = |item| match item {
                Value::String(text) => Some(Input::Text(text)),
                Value::Array(ids) if !ids.is_empty() => tokens(&ids),
                _ => None,
            };
            items.into_iter().map(|item| prompt(item).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn tokens(ids: &[Value]) -> Option<Input> {
    let ids = ids.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()));
    ids.collect::<Option<_>>().map(Input::Tokens)
}

/// Texts on the wire.
struct TextShape {
    has_logprobs: bool,
    /// The prompts, when they are to be said before their answers.
    echo: Option<Vec<String>>,
    /// Answers to each prompt.
    answers: usize,
}

impl TextShape {
    fn echoed(&self, index: usize) -> &str {
        self.echo.as_ref().map_or("", |prompts| &prompts[index / self.answers])
    }

    fn logprobs<'a>(&self, tokens: &'a [TokenLogprob], offset: usize) -> Option<TextLogprobs<'a>> {
        self.has_logprobs.then_some(TextLogprobs { tokens, offset })
    }
}

/// A choice, or a piece of one.
#[derive(Serialize)]
struct Choice<'a, T> {
    index: usize,
    text: T,
    logprobs: Option<TextLogprobs<'a>>,
    finish_reason: Option<&'static str>,
}

impl<'a, T> Choice<'a, T> {
    fn new(index: usize, text: T, logprobs: Option<TextLogprobs<'a>>, finish: Option<FinishReason>) -> Self {
        Self { index, text, logprobs, finish_reason: finish.map(finish_reason) }
    }
}

impl Shape for TextShape {
    const CHUNK_OBJECT: &'static str = "text_completion";
    const WHOLE_OBJECT: &'static str = "text_completion";

    fn first(&self, index: usize, _is_text: bool) -> Option<(Value, usize)> {
        let prompt = self.echoed(index);
        let is_said = !prompt.is_empty();
        is_said.then(|| (json!(Choice::new(index, prompt, None, None)), prompt.chars().count()))
    }

    fn piece(&self, index: usize, text: &str, logprob: Option<&TokenLogprob>, offset: usize) -> Value {
        let logprobs = logprob.and_then(|token| self.logprobs(std::slice::from_ref(token), offset));
        json!(Choice::new(index, text, logprobs, None))
    }

    fn last(&self, index: usize, finish: FinishReason) -> Value {
        json!(Choice::new(index, "", None, Some(finish)))
    }

    fn whole(&self, index: usize, said: &Collected, finish: FinishReason) -> impl Serialize {
        let prompt = self.echoed(index);
        let logprobs = self.logprobs(&said.logprobs, prompt.chars().count());
        Choice::new(index, format!("{prompt}{}", said.text), logprobs, Some(finish))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{names, parsed};

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        assert_eq!(names(FIELDS), parsed::<Text>());
    }

    #[test]
    fn a_whole_choice_has_its_prompt_and_its_fields_in_one_order() {
        let token = TokenLogprob { token: 1, bytes: b"hi".to_vec(), logprob: -0.5, top: Vec::new() };
        let said = Collected { text: "hi".to_owned(), logprobs: vec![token], ..Collected::default() };
        let whole = |shape: &TextShape| {
            serde_json::to_string(&shape.whole(1, &said, FinishReason::Length)).expect("plain data")
        };
        let echo = Some(vec!["a".to_owned(), "é".to_owned()]);
        assert_eq!(
            whole(&TextShape { has_logprobs: false, echo, answers: 1 }),
            r#"{"index":1,"text":"éhi","logprobs":null,"finish_reason":"length"}"#
        );
        let lists =
            r#"{"tokens":["hi"],"token_logprobs":[-0.5],"top_logprobs":[{"hi":-0.5}],"text_offset":[0]}"#;
        assert_eq!(
            whole(&TextShape { has_logprobs: true, echo: None, answers: 1 }),
            format!(r#"{{"index":1,"text":"hi","logprobs":{lists},"finish_reason":"length"}}"#)
        );
    }
}
