//! `/v1/responses`.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use samovar::{Generate, Input, Message, Request, SamplingOptions, ToolChoice, Work};
use samovar_core::Failure;
use samovar_core::generation::Sampling;
use serde::Deserialize;
use serde_json::{Value, json};

use super::object::{Echo, Frame, Status};
use super::stream::Writer;
use super::{format, input, tools};
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::field::{Field, field};
use crate::generation::choices::Choices;
use crate::generation::params::{self, Length};
use crate::generation::parts::{self, Parts};
use crate::generation::request_terms::RequestTerms;
use crate::generation::{copies, event_stream, heading, thinking};
use crate::layer::RequestId;
use crate::moment::now_unix_s;
use crate::openai::Refused;
use crate::payload::Payload;
use crate::redact::redact;
use crate::refusal::{Refusal, shown};

/// OpenAI's own defaults, where the model's author set none; the rest is the engine's.
const TEMPERATURE: f32 = 1.0;
const TOP_P: f32 = 1.0;
/// The request's own form and choice as they are kept, and as the events of a stream say them.
const ECHOES: usize = 4;
/// Words for a summary of thoughts. All of them show the thoughts themselves.
const SUMMARIES: [&str; 3] = ["auto", "concise", "detailed"];

/// The fields apart from the terms.
#[derive(Debug, Deserialize)]
struct Create {
    input: Option<Value>,
    instructions: Option<String>,
    max_output_tokens: Option<f64>,
    stream: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    text: Option<Text>,
    reasoning: Option<Reasoning>,
    generate: Option<bool>,
    previous_response_id: Option<Value>,
    conversation: Option<Value>,
    prompt: Option<Value>,
    background: Option<bool>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "input",
        "What the user says, or the conversation: items of the types `message`, `reasoning`, `function_call` and `function_call_output`. Required.",
    ),
    field("instructions", "How the model should behave: a text before the conversation.").text(),
    field(
        "max_output_tokens",
        "Tokens to generate at most, thoughts included; -1, null or absent = as many as the context holds, 0 = compute the prompt alone.",
    ).integer(),
    field("stream", "True: the answer comes as it is generated, as server-sent events.").boolean(),
    field(
        "temperature",
        "From 0, always the likeliest token, to 2. Default: what the model's author set, or else 1.",
    ).number(),
    field(
        "top_p",
        "Draw from the smallest set of tokens whose probability reaches it. Default: what the model's author set, or else 1.",
    ).number(),
    field(
        "tools",
        "Functions that the model may call, at most 128: `{\"type\": \"function\", \"name\", \"description\", \"parameters\", \"strict\"}`. Tools of other types are passed over.",
    ).list(),
    field(
        "tool_choice",
        "`auto` (default), `none`, `required`, `{\"type\": \"function\", \"name\": \"…\"}`, or `allowed_tools`.",
    ),
    field(
        "parallel_tool_calls",
        "False: at most one call in an answer. Default: true, but a function that is named is called once.",
    ).boolean(),
    field(
        "text",
        "`format`: what the answer must look like: `{\"type\": \"text\"}`, `{\"type\": \"json_object\"}`, or `{\"type\": \"json_schema\", \"name\": \"…\", \"schema\": {…}}`.",
    ).object(),
    field(
        "reasoning",
        "`effort`: how much the model thinks: `none`, `minimal`, `low`, `medium`, `high` or `xhigh`; `summary` (`auto`, `concise` or `detailed`): the thoughts come as summaries instead of as reasoning text.",
    ).object(),
    field("generate", "False: compute the prompt alone, so that the next request finds it computed.").boolean(),
    field("previous_response_id", "Refused: no answer is kept."),
    field("conversation", "Refused: no conversation is kept."),
    field("prompt", "Refused: no templates of prompts are kept."),
    field("background", "Refused as true: an answer is sent to the client that asks for it.").boolean(),
];

#[derive(Debug, Deserialize)]
struct Text {
    format: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Reasoning {
    effort: Option<String>,
    summary: Option<String>,
}

/// `POST /v1/responses`.
pub(crate) async fn create(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let common = payload.parse::<RequestTerms>()?.check(&asker, &headers)?;
    let create: Create = payload.parse()?;
    let is_streamed = create.stream.unwrap_or(false);
    let (generate, echo) = create.check()?;
    let mut held = BufferCharge::new(&app, &common.client);
    held.add(copies::value_bytes(&generate) + ECHOES * echo.bytes())?;
    // What it says is in the request.
    drop(payload);
    let named = common.model.clone();
    let request = Request::of(common, Work::Generate(generate));
    let mut choices = Choices::start(&app, vec![request], held)?;
    let opening = if is_streamed { choices.open_soon().await } else { choices.open().await };
    let opening = opening.map_err(in_own_words)?;
    let headers = heading::of(&opening);
    let model = opening.granted.as_ref().map_or(named.as_str(), |granted| granted.model.as_str());
    let frame = Frame { id: id.0, created: now_unix_s(), model: redact(model), echo };
    if is_streamed {
        let writer = Writer::new(frame, Parts::new(choices.holds()));
        return Ok((headers, event_stream::response(choices, opening, writer)).into_response());
    }
    let (said, summary) = parts::collect(choices, opening.events).await.map_err(in_own_words)?;
    let status = Status::Ended(summary.finish, summary.usage);
    let object = frame.response(&status, frame.output(&said.list, &status));
    let bytes = serde_json::to_vec(&object).expect("invariant: responses are plain data");
    let bytes = said.held.becomes(bytes)?;
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response())
}

/// What the model is given for such a body.
///
/// # Errors
/// 400 that names the field.
pub(super) fn read(payload: &Payload) -> Result<Generate, Refusal> {
    payload.parse::<Create>()?.check().map(|(generate, _)| generate)
}

/// The runtime names places as chats have them.
pub(super) fn in_own_words(failure: Failure) -> Refusal {
    let mut refusal = Refusal::from(failure);
    if let Some(param) = &mut refusal.failure.param {
        if *param == "response_format" {
            "text.format".clone_into(param);
        } else if param.starts_with("messages") {
            "input".clone_into(param);
        } else if param.starts_with("tools[") {
            // Those of other types were passed over, so the place among all is another one.
            "tools".clone_into(param);
        }
    }
    refusal
}

impl Create {
    fn check(self) -> Result<(Generate, Echo), Refusal> {
        self.refuse_state()?;
        let length = params::length("max_output_tokens", self.max_output_tokens)?;
        let is_warm_up = self.generate == Some(false) || length == Some(Length::Tokens(0));
        let max_tokens = if is_warm_up { Some(0) } else { length.and_then(Length::max_tokens) };
        let mut messages = input::of(self.instructions.as_deref(), self.input.as_ref())?;
        if messages.is_empty() {
            if !is_warm_up {
                return Err(Refusal::invalid("input", "`input` is missing, or has no items"));
            }
            messages.push(Message::user(""));
        }
        let mut generate = Generate::new(Input::Chat(messages));
        generate.max_tokens = max_tokens;
        generate.sampling = SamplingOptions {
            temperature: params::temperature(self.temperature)?,
            top_p: params::top_p(self.top_p)?,
            ..SamplingOptions::default()
        };
        generate.sampling_defaults =
            Sampling { temperature: TEMPERATURE, top_p: TOP_P, ..Sampling::default() };
        let (tools, tool_choice) = tools::of(self.tools, self.tool_choice.as_ref())?;
        // A function that is named is called exactly once.
        let is_named = matches!(tool_choice, ToolChoice::Named(_));
        generate.tools = tools;
        generate.tool_choice = tool_choice;
        generate.parallel_tool_calls = self.parallel_tool_calls.unwrap_or(true) && !is_named;
        let text_format = self.text.and_then(|text| text.format);
        generate.constraint = format::of(text_format.as_ref())?;
        let (effort, summary) = self.reasoning.map_or((None, None), |said| (said.effort, said.summary));
        if let Some(word) = &effort {
            generate.think(thinking::effort("reasoning.effort", word)?);
        }
        let echo = Echo {
            temperature: self.temperature.unwrap_or(TEMPERATURE.into()),
            top_p: self.top_p.unwrap_or(TOP_P.into()),
            max_output_tokens: length.and_then(Length::max_tokens),
            parallel_tool_calls: generate.parallel_tool_calls,
            tool_choice: self.tool_choice.unwrap_or_else(|| "auto".into()),
            format: text_format.unwrap_or_else(|| json!({ "type": "text" })),
            effort,
            summary: summary_word(summary)?,
            is_warm_up,
        };
        Ok((generate, echo))
    }

    /// Refuses what needs something that was kept before.
    fn refuse_state(&self) -> Result<(), Refusal> {
        let state = [
            ("previous_response_id", &self.previous_response_id),
            ("conversation", &self.conversation),
            ("prompt", &self.prompt),
        ];
        for (param, value) in state {
            let is_asked = value.as_ref().is_some_and(|value| !value.is_null() && value != "");
            if is_asked {
                let message =
                    format!("`{param}` is not supported: nothing is kept from one request to the next");
                return Err(Refusal::unsupported(param, message)
                    .with_hint("send the whole conversation as items of `input`"));
            }
        }
        if self.background == Some(true) {
            let message = "`background` is not supported: no answer is kept";
            return Err(Refusal::unsupported("background", message).with_hint("set `stream` to true"));
        }
        Ok(())
    }
}

fn summary_word(word: Option<String>) -> Result<Option<String>, Refusal> {
    let Some(word) = word.filter(|word| word != "none") else { return Ok(None) };
    if SUMMARIES.contains(&word.as_str()) {
        return Ok(Some(word));
    }
    let message =
        format!("`reasoning.summary` must be one of {}, and is {:?}", SUMMARIES.join(", "), shown(&word));
    Err(Refusal::invalid("reasoning.summary", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use samovar::Constraint;
    use samovar_core::ErrorKind;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<Create>());
    }

    fn read_with(more: &Value) -> Result<(Generate, Echo), Refusal> {
        let mut body = json!({ "input": "x" });
        for (field, value) in more.as_object().expect("object") {
            body[field] = value.clone();
        }
        Payload::of(body.to_string()).parse::<Create>()?.check()
    }

    #[test]
    fn a_warm_up_computes_the_prompt_alone() {
        for more in [
            json!({ "generate": false, "input": [] }),
            json!({ "generate": false, "input": null, "max_output_tokens": 5 }),
            json!({ "max_output_tokens": 0 }),
        ] {
            let (generate, echo) = read_with(&more).expect("sound");
            assert_eq!((generate.max_tokens, echo.is_warm_up), (Some(0), true), "{more}");
        }
        let (generate, echo) = read_with(&json!({ "input": "", "max_output_tokens": 1 })).expect("sound");
        assert_eq!((generate.max_tokens, echo.is_warm_up), (Some(1), false));
        assert_eq!(read_with(&json!({ "max_output_tokens": -1 })).expect("sound").0.max_tokens, None);
    }

    #[test]
    fn forms_efforts_and_choices_are_read() {
        let more = json!({
            "text": { "format": { "type": "json_object" }, "verbosity": "low" },
            "reasoning": { "effort": "none", "summary": "auto" },
            "tools": [{ "type": "function", "name": "f" }],
            "tool_choice": { "type": "function", "name": "f" },
            "store": false, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "x",
            "client_metadata": {}, "truncation": "auto", "service_tier": "auto", "previous_response_id": null,
        });
        let (generate, echo) = read_with(&more).expect("sound");
        assert_eq!(generate.constraint, Some(Constraint::JsonObject));
        assert_eq!(generate.thinking_budget_tokens, Some(0));
        assert!(!generate.parallel_tool_calls, "a function that is named is called once");
        assert_eq!((echo.effort.as_deref(), echo.summary.as_deref()), (Some("none"), Some("auto")));
    }

    #[test]
    fn fields_of_a_wrong_value_are_refused_by_name() {
        for (more, param) in [
            (json!({ "input": null }), "input"),
            (json!({ "input": [] }), "input"),
            (json!({ "instructions": 3 }), "instructions"),
            (json!({ "max_output_tokens": -2 }), "max_output_tokens"),
            (json!({ "temperature": -1 }), "temperature"),
            (json!({ "top_p": 7 }), "top_p"),
            (json!({ "tools": {} }), "tools"),
            (json!({ "text": "json" }), "text"),
            (json!({ "text": { "format": { "type": "xml" } } }), "text.format.type"),
            (json!({ "reasoning": { "effort": "immense" } }), "reasoning.effort"),
            (json!({ "reasoning": { "summary": "x".repeat(9_000) } }), "reasoning.summary"),
            (json!({ "previous_response_id": "resp_1" }), "previous_response_id"),
            (json!({ "conversation": { "id": "conv_1" } }), "conversation"),
            (json!({ "prompt": { "id": "pmpt_1" } }), "prompt"),
            (json!({ "background": true }), "background"),
        ] {
            let failure = read_with(&more).expect_err("refuses").failure;
            assert_eq!(failure.param.as_deref(), Some(param), "{failure}");
            assert!(failure.message.len() < 300, "{failure}");
        }
    }

    #[test]
    fn places_have_the_names_of_this_api() {
        for (param, expected) in [
            ("response_format", "text.format"),
            ("messages[3].tool_call_id", "input"),
            ("tools[1].function.name", "tools"),
            ("tool_choice", "tool_choice"),
        ] {
            let failure = Failure::new(ErrorKind::InvalidRequest, "no").with_param(param);
            assert_eq!(in_own_words(failure).failure.param.as_deref(), Some(expected));
        }
    }
}
