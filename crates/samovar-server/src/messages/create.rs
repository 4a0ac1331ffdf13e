//! `/v1/messages`.

use std::ops::RangeInclusive;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use samovar::{Constraint, Effort, Generate, Input, Request, SamplingOptions, Work};
use samovar_core::generation::Sampling;
use serde::Deserialize;
use serde_json::Value;

use super::content::{self, WireMessage};
use super::error::Refused;
use super::stream::Writer;
use super::tools::{self, WireChoice, WireTool};
use super::whole::{Stop, whole};
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::field::{Field, field};
use crate::generation::choices::Choices;
use crate::generation::request_terms::RequestTerms;
use crate::generation::{copies, event_stream, heading, params, parts, thinking};
use crate::layer::RequestId;
use crate::payload::Payload;
use crate::redact::redact;
use crate::refusal::{Refusal, shown};

/// Tokens that may be asked for; the context bounds them further.
const TOKENS: RangeInclusive<f64> = 0.0..=2_147_483_647.0;
/// The API's own defaults, where the model's author set none; the rest is the engine's.
const TEMPERATURE: f32 = 1.0;
const TOP_P: f32 = 1.0;

/// The fields apart from the terms.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Create {
    pub(super) messages: Option<Vec<WireMessage>>,
    pub(super) system: Option<Value>,
    pub(super) max_tokens: Option<f64>,
    pub(super) stream: Option<bool>,
    pub(super) stop_sequences: Option<Value>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<f64>,
    pub(super) tools: Option<Vec<WireTool>>,
    pub(super) tool_choice: Option<WireChoice>,
    pub(super) thinking: Option<Thinking>,
    pub(super) output_config: Option<OutputConfig>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "messages",
        "The conversation: the role `user`, `assistant` or `system`, and a text or blocks of the types `text`, `thinking`, `tool_use` and `tool_result`, each. The last message must not be the assistant's. Required.",
    ).list(),
    field("system", "How the model should behave: a text, or blocks of the type `text`."),
    field("max_tokens", "Tokens to generate at most; 0 = compute the prompt alone. Required.").integer(),
    field("stream", "True: the answer comes as it is generated, as server-sent events.").boolean(),
    field("stop_sequences", "Up to 16 texts that end the answer.").texts(),
    field(
        "temperature",
        "From 0, always the likeliest token, to 2. Default: what the model's author set, or else 1.",
    ).number(),
    field(
        "top_p",
        "Draw from the smallest set of tokens whose probability reaches it. Default: what the model's author set, or else 1.",
    ).number(),
    field("top_k", "Draw from so many of the likeliest tokens; 0 or -1 = all.").integer(),
    field(
        "tools",
        "Functions that the model may call, at most 128: `{\"name\", \"description\", \"input_schema\", \"strict\"}`. Tools of other types than `custom` are passed over, and one with `defer_loading` until a result has a `tool_reference` to it.",
    ).list(),
    field(
        "tool_choice",
        "`{\"type\": \"auto\"}` (default), `any`, `none`, or `{\"type\": \"tool\", \"name\": \"…\"}`; with `disable_parallel_tool_use`, at most one call in an answer.",
    ),
    field(
        "thinking",
        "`{\"type\": \"enabled\", \"budget_tokens\": N}`, `adaptive` or `disabled`. Default: as the model's settings say.",
    ).object(),
    field(
        "output_config",
        "`effort`: how much the model thinks (`low`, `medium`, `high`, `xhigh` or `max`); `format`: `{\"type\": \"json_schema\", \"schema\": {…}}`.",
    ).object(),
];

#[derive(Debug, Deserialize)]
pub(super) struct Thinking {
    #[serde(rename = "type")]
    kind: String,
    budget_tokens: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct OutputConfig {
    effort: Option<String>,
    format: Option<Value>,
}

/// `POST /v1/messages`.
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
    let generate = create.check()?;
    let has_stops = !generate.stop.is_empty();
    let mut held = BufferCharge::new(&app, &common.client);
    held.add(copies::value_bytes(&generate))?;
    // What it says is in the request.
    drop(payload);
    let request = Request::of(common, Work::Generate(generate));
    let mut choices = Choices::start(&app, vec![request], held)?;
    let opening = if is_streamed { choices.open_soon().await? } else { choices.open().await? };
    let headers = heading::of(&opening);
    let id = format!("msg_{}", id.0);
    let model = opening.granted.as_ref().map(|granted| redact(&granted.model)).unwrap_or_default();
    if is_streamed {
        let writer = Writer::new(id, model, opening.prompt, has_stops);
        return Ok((headers, event_stream::response(choices, opening, writer)).into_response());
    }
    let (said, summary) = parts::collect(choices, opening.events).await?;
    let object = whole(&id, &model, &said.list, Stop::of(&summary, has_stops), summary.usage);
    let bytes = serde_json::to_vec(&object).expect("invariant: answers are plain data");
    let bytes = said.held.becomes(bytes)?;
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response())
}

impl Create {
    /// Checks everything.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(super) fn check(self) -> Result<Generate, Refusal> {
        content::refuse_begun_answer(self.messages.as_deref().unwrap_or_default())?;
        self.check_unanswered()
    }

    /// The same for callers that want no answer: one may be begun.
    ///
    /// # Errors
    /// As [`Create::check`].
    pub(super) fn check_unanswered(self) -> Result<Generate, Refusal> {
        let max_tokens = params::whole("max_tokens", self.max_tokens, &TOKENS)?
            .ok_or_else(|| Refusal::invalid("max_tokens", "`max_tokens` is missing"))?;
        let referenced = content::referenced_tools(self.messages.as_deref().unwrap_or_default());
        let messages = content::of(self.system.as_ref(), self.messages)?;
        let mut generate = Generate::new(Input::Chat(messages));
        generate.max_tokens = Some(max_tokens);
        generate.sampling = SamplingOptions {
            temperature: params::temperature(self.temperature)?,
            top_p: params::top_p(self.top_p)?,
            top_k: params::top_k(self.top_k)?,
            ..SamplingOptions::default()
        };
        generate.sampling_defaults =
            Sampling { temperature: TEMPERATURE, top_p: TOP_P, ..Sampling::default() };
        generate.stop = params::stop(self.stop_sequences).map_err(of_stop_sequences)?;
        generate.tools = tools::of(self.tools, &referenced)?;
        let (tool_choice, parallel_tool_calls) = tools::choice(self.tool_choice)?;
        generate.tool_choice = tool_choice;
        generate.parallel_tool_calls = parallel_tool_calls;
        let OutputConfig { effort, format } =
            self.output_config.unwrap_or(OutputConfig { effort: None, format: None });
        think(&mut generate, effort.as_deref(), self.thinking)?;
        generate.constraint = constraint(format.as_ref())?;
        Ok(generate)
    }
}

/// The same refusal under this API's name of the field.
fn of_stop_sequences(mut refusal: Refusal) -> Refusal {
    refusal.failure.message = refusal.failure.message.replace("`stop`", "`stop_sequences`");
    refusal.failure.param = Some("stop_sequences".to_owned());
    refusal
}

/// An effort without a word of `thinking` says how much; `thinking` says whether at all.
fn think(generate: &mut Generate, effort: Option<&str>, thinking: Option<Thinking>) -> Result<(), Refusal> {
    let effort = match effort {
        None => None,
        Some("max") => Some(Effort::High),
        Some(word) => Some(thinking::effort("output_config.effort", word)?),
    };
    let Some(thinking) = thinking else {
        if let Some(effort) = effort {
            generate.think(effort);
        }
        return Ok(());
    };
    match thinking.kind.as_str() {
        "disabled" => generate.think(Effort::Off),
        "adaptive" => generate.think(effort.unwrap_or(Effort::Medium)),
        "enabled" => {
            generate.think(effort.unwrap_or(Effort::Medium));
            let budget = params::whole("thinking.budget_tokens", thinking.budget_tokens, &TOKENS)?;
            generate.thinking_budget_tokens = budget.or(generate.thinking_budget_tokens);
        }
        other => {
            let message =
                format!("`thinking.type` must be enabled, adaptive or disabled, and is {:?}", shown(other));
            return Err(Refusal::invalid("thinking.type", message));
        }
    }
    Ok(())
}

/// What `output_config.format` asks for.
fn constraint(format: Option<&Value>) -> Result<Option<Constraint>, Refusal> {
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(None) };
    if format.get("type").and_then(Value::as_str) != Some("json_schema") {
        let param = "output_config.format.type";
        return Err(Refusal::invalid(param, format!("`{param}` must be json_schema")));
    }
    let schema = format.get("schema").filter(|schema| schema.is_object()).ok_or_else(|| {
        let param = "output_config.format.schema";
        Refusal::invalid(param, format!("`{param}` must be a JSON schema: an object"))
    })?;
    Ok(Some(Constraint::JsonSchema(schema.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<Create>());
    }

    fn read(more: &Value) -> Result<Generate, Refusal> {
        let mut body = json!({ "max_tokens": 7, "messages": [{ "role": "user", "content": "x" }] });
        for (field, value) in more.as_object().expect("object") {
            body[field] = value.clone();
        }
        Payload::of(body.to_string()).parse::<Create>()?.check()
    }

    #[test]
    fn thinking_is_an_effort_with_a_budget() {
        let of = |more: Value| {
            let generate = read(&more).expect("sound");
            (generate.template_arguments.get("reasoning_effort").cloned(), generate.thinking_budget_tokens)
        };
        let word = |word: &str| Some(json!(word));
        assert_eq!(of(json!({})), (None, None));
        assert_eq!(of(json!({ "thinking": { "type": "disabled" } })), (word("none"), Some(0)));
        assert_eq!(of(json!({ "thinking": { "type": "adaptive" } })), (word("medium"), None));
        let enabled = json!({ "type": "enabled", "budget_tokens": 2048 });
        assert_eq!(of(json!({ "thinking": enabled })), (word("medium"), Some(2048)));
        let max = json!({ "effort": "max" });
        assert_eq!(of(json!({ "output_config": max })), (word("high"), None));
        assert_eq!(of(json!({ "thinking": enabled, "output_config": max })), (word("high"), Some(2048)));
    }

    #[test]
    fn a_format_is_a_schema() {
        let schema = json!({ "type": "object" });
        let format = json!({ "format": { "type": "json_schema", "schema": schema } });
        let generate = read(&json!({ "output_config": format })).expect("sound");
        assert_eq!(generate.constraint, Some(Constraint::JsonSchema(schema.to_string())));
        assert_eq!(read(&json!({ "output_config": { "format": null } })).expect("sound").constraint, None);
    }

    #[test]
    fn fields_of_a_wrong_value_are_refused_by_name() {
        for (more, param) in [
            (json!({ "max_tokens": null }), "max_tokens"),
            (json!({ "max_tokens": -1 }), "max_tokens"),
            (json!({ "max_tokens": 0.5 }), "max_tokens"),
            (json!({ "max_tokens": "many" }), "max_tokens"),
            (json!({ "messages": {} }), "messages"),
            (json!({ "messages": [{ "content": "x" }] }), "messages[0]"),
            (json!({ "messages": [{ "role": "assistant", "content": "Once" }] }), "messages"),
            (json!({ "temperature": 9 }), "temperature"),
            (json!({ "top_k": 0.5 }), "top_k"),
            (json!({ "stop_sequences": [3] }), "stop_sequences"),
            (json!({ "stop_sequences": vec!["x"; 17] }), "stop_sequences"),
            (json!({ "tools": {} }), "tools"),
            (json!({ "tool_choice": "auto" }), "tool_choice"),
            (json!({ "thinking": { "type": "sometimes" } }), "thinking.type"),
            (json!({ "thinking": { "type": "enabled", "budget_tokens": -1 } }), "thinking.budget_tokens"),
            (json!({ "output_config": { "effort": "immense" } }), "output_config.effort"),
            (json!({ "output_config": { "format": { "type": "xml" } } }), "output_config.format.type"),
            (
                json!({ "output_config": { "format": { "type": "json_schema" } } }),
                "output_config.format.schema",
            ),
        ] {
            let failure = read(&more).expect_err("refuses").failure;
            assert_eq!(failure.param.as_deref(), Some(param), "{more}: {failure}");
        }
    }
}
