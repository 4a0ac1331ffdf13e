//! `/v1/chat/completions`.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::{AnswerEvent, Generate, Input, Request, ToolChoice};
use samovar_core::generation::{FinishReason, TokenLogprob};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::logprobs::ChatLogprobs;
use super::messages::{self, WireMessage};
use super::options::Options;
#[cfg(test)]
use super::options::Wanted;
use super::respond::{Identity, respond};
use super::shape::{Shape, finish_reason};
use super::tools::{self, WireTool};
use super::{Refused, constraint, fields};
use crate::app::App;
use crate::client::Asker;
use crate::field::{Field, field};
use crate::generation::collected::Collected;
use crate::generation::params::{self, Length};
use crate::generation::{copies, thinking};
use crate::layer::RequestId;
use crate::payload::Payload;
use crate::refusal::Refusal;

const TOP_LOGPROBS: f64 = 20.0;
/// Variables that a client may give to a template.
const TEMPLATE_ARGUMENTS: usize = 64;

/// The fields that only chats have.
#[derive(Debug, Deserialize)]
struct Chat {
    messages: Option<Vec<WireMessage>>,
    max_tokens: Option<f64>,
    max_completion_tokens: Option<f64>,
    logprobs: Option<bool>,
    top_logprobs: Option<f64>,
    response_format: Option<Value>,
    tools: Option<Vec<WireTool>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    /// Variables of the model's template, by name.
    #[serde(rename = "chat_template_kwargs")]
    template_arguments: Option<Map<String, Value>>,
    /// One of them, as OpenAI's clients say it.
    reasoning_effort: Option<String>,
    /// Another, as many clients say it.
    enable_thinking: Option<bool>,
    /// By the name that llama.cpp's server gave it.
    thinking_budget_tokens: Option<f64>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "messages",
        "The conversation: a role, and a text or parts of the type `text`, each; of the assistant also `tool_calls` and `reasoning_content`, of the role `tool` a `tool_call_id`. Required.",
    ).list(),
    field(
        "max_tokens",
        "Tokens to generate at most; -1, null or absent = as many as the context holds, 0 = compute the prompt alone.",
    ).integer(),
    field("max_completion_tokens", "The same; it counts where both are given.").integer(),
    field("logprobs", "True: tell how likely each token of the content was.").boolean(),
    field("top_logprobs", "Tell the likeliest alternatives, too: from 0 to 20; needs `logprobs`.").integer(),
    field(
        "response_format",
        "What the answer must look like: `{\"type\": \"text\"}`, `{\"type\": \"json_object\"}`, or `{\"type\": \"json_schema\", \"json_schema\": {\"name\": \"…\", \"schema\": {…}}}`, which is obeyed with and without `strict`.",
    ).object(),
    field(
        "tools",
        "Functions that the model may call, at most 128: `{\"type\": \"function\", \"function\": {\"name\", \"description\", \"parameters\", \"strict\"}}`.",
    ).list(),
    field(
        "tool_choice",
        "`auto` (default), `none`, `required`, `{\"type\": \"function\", \"function\": {\"name\": \"…\"}}`, or OpenAI's `allowed_tools`.",
    ),
    field(
        "parallel_tool_calls",
        "False: at most one call in an answer. Default: true, but a function that is named is called once.",
    ).boolean(),
    field("chat_template_kwargs", "Variables of the model's chat template, by name; at most 64.").object(),
    field(
        "reasoning_effort",
        "How much the model thinks: `none`, `minimal`, `low`, `medium`, `high` or `xhigh`. It sets the variables by which templates are told so, unless they are given themselves.",
    ).one_of(&["none", "minimal", "low", "medium", "high", "xhigh"]),
    field("enable_thinking", "The template's variable of that name, unless `chat_template_kwargs` has it.").boolean(),
    field(
        "thinking_budget_tokens",
        "Tokens of thought after which the model is made to answer; -1 = as many as it likes. Default: 0 where `enable_thinking` is false, else -1.",
    ).integer(),
];

/// `POST /v1/chat/completions`.
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
    let chat: Chat = payload.parse()?;
    let (generate, shape) = chat.check(wanted.generate.clone())?;
    let held = wanted.hold_copies(&app, &payload, copies::value_bytes(&generate))?;
    let requests = wanted.for_each_answer(generate).collect();
    // What it says is in the requests.
    drop(payload);
    respond(&app, &wanted, (requests, held), shape, Identity { prefix: "chatcmpl", request: &id }).await
}

/// What a body asks for that has one answer, for an API of ours that gives it in another form.
///
/// # Errors
/// 400 that names the parameter.
pub(crate) fn request(payload: &Payload, asker: &Asker) -> Result<Request, Refusal> {
    fields::refuse_unbuilt(payload)?;
    let wanted = payload.parse::<Options>()?.check(asker, &HeaderMap::new())?;
    let (generate, _) = payload.parse::<Chat>()?.check(wanted.generate.clone())?;
    wanted.one_answer(generate)
}

#[cfg(test)]
pub(super) fn check(payload: &Payload, wanted: &Wanted) -> Result<(), Refusal> {
    fields::refuse_unbuilt(payload)?;
    payload.parse::<Chat>()?.check(wanted.generate.clone()).map(drop)
}

/// The conversation of such a body, with its tools and what its template is told, for callers that want no answer to it.
///
/// # Errors
/// 400 that names the field.
pub(crate) fn conversation(payload: &Payload) -> Result<Generate, Refusal> {
    fields::refuse_unbuilt(payload)?;
    let chat: Chat = payload.parse()?;
    chat.check(Generate::new(Input::Text(String::new()))).map(|(generate, _)| generate)
}

impl Chat {
    /// Puts what it says into `generate`, which has what all completions may set.
    fn check(self, mut generate: Generate) -> Result<(Generate, ChatShape), Refusal> {
        let max_tokens = params::length("max_tokens", self.max_tokens)?;
        let max_completion_tokens = params::length("max_completion_tokens", self.max_completion_tokens)?;
        let has_logprobs = self.logprobs.unwrap_or(false);
        let top = params::whole("top_logprobs", self.top_logprobs, &(0.0..=TOP_LOGPROBS))?;
        if top.is_some_and(|top| top > 0) && !has_logprobs {
            return Err(Refusal::invalid("top_logprobs", "`top_logprobs` needs `logprobs` to be true"));
        }
        // What is said in two places counts as the more specific one says it.
        if let Some(word) = &self.reasoning_effort {
            generate.think(thinking::effort("reasoning_effort", word)?);
        }
        let arguments = &mut generate.template_arguments;
        if let Some(is_thinking) = self.enable_thinking {
            arguments.insert("enable_thinking".to_owned(), is_thinking.into());
        }
        arguments.extend(template_arguments(self.template_arguments)?);
        generate.thinking_budget_tokens =
            thinking::budget("thinking_budget_tokens", self.thinking_budget_tokens, arguments)?;
        let (tools, tool_choice) = tools::of(self.tools, self.tool_choice.as_ref())?;
        if let Some(form) = constraint::of_format(self.response_format.as_ref())? {
            refuse_second_form(&generate, "response_format")?;
            generate.constraint = Some(form);
        } else if !tools.is_empty() && tool_choice != ToolChoice::None {
            refuse_second_form(&generate, "tools")?;
        }
        generate.input = Input::Chat(messages::of(self.messages)?);
        generate.tools = tools;
        // OpenAI's API: a function that is named is called exactly once.
        let is_named = matches!(tool_choice, ToolChoice::Named(_));
        generate.parallel_tool_calls = self.parallel_tool_calls.unwrap_or(true) && !is_named;
        generate.tool_choice = tool_choice;
        generate.max_tokens = max_completion_tokens.or(max_tokens).and_then(Length::max_tokens);
        generate.logprobs = has_logprobs.then(|| top.unwrap_or(0));
        Ok((generate, ChatShape { has_logprobs }))
    }
}

/// An answer has one form, and calls of tools have one of their own; JSON in the place of an answer's text goes with both.
fn refuse_second_form(generate: &Generate, other: &str) -> Result<(), Refusal> {
    if generate.constraint.is_none() {
        return Ok(());
    }
    let message = format!("`grammar` and `{other}` cannot be used together");
    Err(Refusal::invalid("grammar", message).with_hint("an answer has one form: leave one of them out"))
}

/// What a template is told besides the messages.
fn template_arguments(arguments: Option<Map<String, Value>>) -> Result<Map<String, Value>, Refusal> {
    let arguments = arguments.unwrap_or_default();
    if arguments.len() > TEMPLATE_ARGUMENTS {
        let message = format!(
            "`chat_template_kwargs` may have {TEMPLATE_ARGUMENTS} fields, and has {}",
            arguments.len()
        );
        return Err(Refusal::invalid("chat_template_kwargs", message));
    }
    Ok(arguments)
}

/// Chats on the wire.
struct ChatShape {
    has_logprobs: bool,
}

impl ChatShape {
    fn logprobs<'a>(&self, tokens: &'a [TokenLogprob]) -> Option<ChatLogprobs<'a>> {
        self.has_logprobs.then_some(ChatLogprobs(tokens))
    }
}

/// A whole choice.
#[derive(Serialize)]
struct WholeChoice<'a> {
    index: usize,
    message: Value,
    logprobs: Option<ChatLogprobs<'a>>,
    finish_reason: &'static str,
}

impl Shape for ChatShape {
    const CHUNK_OBJECT: &'static str = "chat.completion.chunk";
    const WHOLE_OBJECT: &'static str = "chat.completion";

    fn first(&self, index: usize, is_text: bool) -> Option<(Value, usize)> {
        let content = is_text.then_some("");
        let delta = json!({ "role": "assistant", "content": content });
        Some((json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null }), 0))
    }

    fn piece(&self, index: usize, text: &str, logprob: Option<&TokenLogprob>, _offset: usize) -> Value {
        let logprobs = logprob.and_then(|token| self.logprobs(std::slice::from_ref(token)));
        json!({ "index": index, "delta": { "content": text }, "logprobs": logprobs, "finish_reason": null })
    }

    fn part(&self, index: usize, event: &AnswerEvent) -> Option<Value> {
        let delta = match event {
            AnswerEvent::Thinking { text } => json!({ "reasoning_content": text }),
            AnswerEvent::ToolCall { index, id, name } => json!({ "tool_calls": [{
                "index": index, "id": id, "type": "function", "function": { "name": name, "arguments": "" },
            }] }),
            AnswerEvent::ToolArguments { index, text } => {
                json!({ "tool_calls": [{ "index": index, "function": { "arguments": text } }] })
            }
            _ => return None,
        };
        Some(json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null }))
    }

    fn last(&self, index: usize, finish: FinishReason) -> Value {
        json!({ "index": index, "delta": {}, "logprobs": null, "finish_reason": finish_reason(finish) })
    }

    fn whole(&self, index: usize, said: &Collected, finish: FinishReason) -> impl Serialize {
        let calls_alone = said.text.is_empty() && !said.calls.is_empty();
        let content = (!calls_alone).then_some(&said.text);
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !said.thinking.is_empty() {
            message["reasoning_content"] = json!(said.thinking);
        }
        if !said.calls.is_empty() {
            message["tool_calls"] = json!(said.calls);
        }
        WholeChoice {
            index,
            message,
            logprobs: self.logprobs(&said.logprobs),
            finish_reason: finish_reason(finish),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use samovar::{Constraint, ToolCall};

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<Chat>());
    }

    fn read(more: &Value) -> Result<Generate, Refusal> {
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] });
        for (field, value) in more.as_object().expect("object") {
            body[field] = value.clone();
        }
        let payload = Payload::of(body.to_string());
        let wanted = payload.parse::<Options>()?.check(&Asker::stranger(), &HeaderMap::new())?;
        payload.parse::<Chat>()?.check(wanted.generate).map(|(generate, _)| generate)
    }

    fn request(more: &Value) -> Generate {
        read(more).expect("sound")
    }

    fn arguments(more: &Value) -> Value {
        Value::Object(request(more).template_arguments)
    }

    #[test]
    fn the_template_is_told_what_three_fields_say() {
        assert_eq!(arguments(&json!({})), json!({}));
        let all = json!({ "chat_template_kwargs": { "builtin_tools": ["a"], "x": null }, "reasoning_effort": "low",
                          "enable_thinking": false });
        let told = json!({ "builtin_tools": ["a"], "x": null, "reasoning_effort": "low", "thinking": true,
                           "enable_thinking": false });
        assert_eq!(arguments(&all), told);
        let null = json!({ "chat_template_kwargs": null, "reasoning_effort": null, "enable_thinking": null });
        assert_eq!(arguments(&null), json!({}));
        let none = json!({ "enable_thinking": false, "thinking": false, "reasoning_effort": "none" });
        assert_eq!(arguments(&json!({ "reasoning_effort": "none" })), none);
    }

    #[test]
    fn what_the_arguments_say_counts_before_the_short_forms() {
        let own = json!({ "enable_thinking": true, "thinking": true, "reasoning_effort": "max" });
        let twice =
            json!({ "chat_template_kwargs": own, "reasoning_effort": "none", "enable_thinking": false });
        assert_eq!(arguments(&twice), own);
        assert_eq!(request(&twice).thinking_budget_tokens, None);
        assert_eq!(request(&json!({ "reasoning_effort": "none" })).thinking_budget_tokens, Some(0));
    }

    fn refused(more: &Value) -> String {
        let refusal = read(more).expect_err("refuses");
        refusal.failure.param.expect("names the parameter")
    }

    #[test]
    fn an_answer_has_one_form() {
        let json = json!({ "type": "json_object" });
        let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
        assert_eq!(request(&json!({ "response_format": json })).constraint, Some(Constraint::JsonObject));
        assert_eq!(refused(&json!({ "response_format": json, "grammar": "root ::= \"x\"" })), "grammar");
        assert_eq!(refused(&json!({ "tools": tools, "grammar": "root ::= \"x\"" })), "grammar");
        for sound in [
            json!({ "tools": tools, "response_format": json }),
            json!({ "tools": tools, "tool_choice": "none", "grammar": "root ::= \"x\"" }),
            json!({ "tools": [], "grammar": "root ::= \"x\"", "response_format": { "type": "text" } }),
        ] {
            assert!(request(&sound).constraint.is_some(), "{sound}");
        }
    }

    #[test]
    fn what_a_choice_said_is_one_message() {
        let shape = ChatShape { has_logprobs: false };
        let message = |said: &Collected| json!(shape.whole(0, said, FinishReason::Stop))["message"].clone();
        let plain = Collected { text: "hi".to_owned(), ..Collected::default() };
        assert_eq!(message(&plain), json!({ "role": "assistant", "content": "hi", "refusal": null }));
        let silent = Collected::default();
        assert_eq!(message(&silent)["content"], "");
        let calls = || vec![ToolCall::new("a", "f", "{}")];
        let all = Collected { thinking: "so".to_owned(), calls: calls(), ..plain };
        let expected = json!({
            "role": "assistant", "content": "hi", "refusal": null, "reasoning_content": "so",
            "tool_calls": [{ "id": "a", "type": "function", "function": { "name": "f", "arguments": "{}" } }],
        });
        assert_eq!(message(&all), expected);
        let calls_alone = Collected { calls: calls(), ..Collected::default() };
        assert_eq!(message(&calls_alone)["content"], Value::Null);
    }

    #[test]
    fn a_whole_choice_has_its_fields_in_one_order() {
        let token = TokenLogprob { token: 1, bytes: b"hi".to_vec(), logprob: -0.5, top: Vec::new() };
        let said = Collected { text: "hi".to_owned(), logprobs: vec![token], ..Collected::default() };
        let logprobs = r#"{"content":[{"token":"hi","logprob":-0.5,"bytes":[104,105],"top_logprobs":[]}],"refusal":null}"#;
        for (has_logprobs, logprobs) in [(true, logprobs), (false, "null")] {
            let shape = ChatShape { has_logprobs };
            let written =
                serde_json::to_string(&shape.whole(2, &said, FinishReason::Stop)).expect("plain data");
            let message = r#"{"role":"assistant","content":"hi","refusal":null}"#;
            assert_eq!(
                written,
                format!(r#"{{"index":2,"message":{message},"logprobs":{logprobs},"finish_reason":"stop"}}"#)
            );
        }
    }
}
