//! `/v1/chat/completions`.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::{Generate, Input, Message};
use samovar_core::generation::{FinishReason, TokenLogprob};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::logprobs::chat_entry;
use super::options::{Options, Wanted};
use super::respond::{Identity, respond};
use super::shape::{Shape, finish_reason};
use super::{Refused, fields};
use crate::app::App;
use crate::client::Asker;
use crate::generation::params::{self, Length};
use crate::layer::RequestId;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::routes::{Field, field};

const TOP_LOGPROBS: f64 = 20.0;
/// Variables that a client may give to a template.
const TEMPLATE_ARGUMENTS: usize = 64;
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// The fields that only chats have.
#[derive(Debug, Deserialize)]
struct Chat {
    messages: Option<Vec<WireMessage>>,
    max_tokens: Option<f64>,
    max_completion_tokens: Option<f64>,
    logprobs: Option<bool>,
    top_logprobs: Option<f64>,
    /// Variables of the model's template, by name.
    #[serde(rename = "chat_template_kwargs")]
    template_arguments: Option<Map<String, Value>>,
    /// One of them, as OpenAI's clients say it.
    reasoning_effort: Option<String>,
    /// Another, as many clients say it.
    enable_thinking: Option<bool>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field("messages", "The conversation: a role, and a text or parts of the type `text`, each. Required."),
    field(
        "max_tokens",
        "Tokens to generate at most; -1, null or absent = as many as the context holds, 0 = compute the prompt alone.",
    ),
    field("max_completion_tokens", "The same; it counts where both are given."),
    field("logprobs", "True: tell how likely each token was."),
    field("top_logprobs", "Tell the likeliest alternatives, too: from 0 to 20; needs `logprobs`."),
    field("chat_template_kwargs", "Variables of the model's chat template, by name; at most 64."),
    field("reasoning_effort", "The variable of that name, unless `chat_template_kwargs` has it."),
    field("enable_thinking", "The variable of that name, unless `chat_template_kwargs` has it."),
];

#[derive(Debug, Deserialize)]
struct WireMessage {
    role: String,
    content: Option<Value>,
    tool_calls: Option<Vec<IgnoredAny>>,
}

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
    let (generate, shape) = chat.check(&wanted)?;
    let held = wanted.hold_copies(&app, &payload)?;
    let requests = wanted.for_each_answer(generate).collect();
    // What it says is in the requests.
    drop(payload);
    respond(&app, &wanted, (requests, held), shape, Identity { prefix: "chatcmpl", request: &id }).await
}

#[cfg(test)]
pub(super) fn check(payload: &Payload, wanted: &Wanted) -> Result<(), Refusal> {
    fields::refuse_unbuilt(payload)?;
    payload.parse::<Chat>()?.check(wanted).map(drop)
}

impl Chat {
    fn check(self, wanted: &Wanted) -> Result<(Generate, ChatShape), Refusal> {
        let max_tokens = params::length("max_tokens", self.max_tokens)?;
        let max_completion_tokens = params::length("max_completion_tokens", self.max_completion_tokens)?;
        let has_logprobs = self.logprobs.unwrap_or(false);
        let top = params::whole("top_logprobs", self.top_logprobs, &(0.0..=TOP_LOGPROBS))?;
        if top.is_some_and(|top| top > 0) && !has_logprobs {
            return Err(Refusal::invalid("top_logprobs", "`top_logprobs` needs `logprobs` to be true"));
        }
        let template_arguments =
            template_arguments(self.template_arguments, self.reasoning_effort, self.enable_thinking)?;
        let mut generate = wanted.generate.clone();
        generate.input = Input::Chat(messages(self.messages)?);
        generate.template_arguments = template_arguments;
        generate.max_tokens = max_completion_tokens.or(max_tokens).and_then(Length::max_tokens);
        generate.logprobs = has_logprobs.then(|| top.unwrap_or(0));
        Ok((generate, ChatShape { has_logprobs }))
    }
}

/// What a template is told besides the messages; what is said in two places counts as the more specific one says it.
fn template_arguments(
    arguments: Option<Map<String, Value>>,
    reasoning_effort: Option<String>,
    enable_thinking: Option<bool>,
) -> Result<Map<String, Value>, Refusal> {
    let mut arguments = arguments.unwrap_or_default();
    if arguments.len() > TEMPLATE_ARGUMENTS {
        let message = format!(
            "`chat_template_kwargs` may have {TEMPLATE_ARGUMENTS} fields, and has {}",
            arguments.len()
        );
        return Err(Refusal::invalid("chat_template_kwargs", message));
    }
    if let Some(effort) = reasoning_effort {
        arguments.entry("reasoning_effort").or_insert(effort.into());
    }
    if let Some(is_thinking) = enable_thinking {
        arguments.entry("enable_thinking").or_insert(is_thinking.into());
    }
    Ok(arguments)
}

fn messages(messages: Option<Vec<WireMessage>>) -> Result<Vec<Message>, Refusal> {
    let messages = messages.ok_or_else(|| Refusal::invalid("messages", "`messages` is missing"))?;
    if messages.is_empty() {
        return Err(Refusal::invalid("messages", "`messages` must hold at least one message"));
    }
    messages.into_iter().enumerate().map(|(at, message)| self::message(at, message)).collect()
}

fn message(at: usize, message: WireMessage) -> Result<Message, Refusal> {
    let param = |field: &str| format!("messages[{at}].{field}");
    if !ROLES.contains(&message.role.as_str()) {
        let shown: String = message.role.chars().take(40).collect();
        let known = ROLES.join(", ");
        return Err(Refusal::invalid(param("role"), format!("the role {shown:?} is not one of {known}")));
    }
    if message.tool_calls.is_some_and(|calls| !calls.is_empty()) {
        return Err(Refusal::unsupported(param("tool_calls"), "tool calls are not supported yet"));
    }
    // Templates know the older name only.
    let role = if message.role == "developer" { "system".to_owned() } else { message.role };
    Ok(Message::new(role, content(message.content, &param("content"))?))
}

/// A text, or the texts of its parts, each on lines of its own.
fn content(content: Option<Value>, param: &str) -> Result<String, Refusal> {
    match content {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().enumerate().map(|(at, part)| text_of(part, &format!("{param}[{at}]")));
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(Refusal::invalid(param, format!("`{param}` must be a string or an array of parts"))),
    }
}

fn text_of<'a>(part: &'a Value, param: &str) -> Result<&'a str, Refusal> {
    match part.get("type").and_then(Value::as_str) {
        Some("text") => part.get("text").and_then(Value::as_str).ok_or_else(|| {
            Refusal::invalid(format!("{param}.text"), format!("`{param}.text` must be a string"))
        }),
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            Err(Refusal::unsupported(
                format!("{param}.type"),
                format!("parts of the type {shown:?} are not supported"),
            )
            .with_hint("only parts of the type \"text\" are"))
        }
        None => Err(Refusal::invalid(format!("{param}.type"), format!("`{param}` has no type"))),
    }
}

/// Chats on the wire.
struct ChatShape {
    has_logprobs: bool,
}

impl ChatShape {
    fn logprobs(&self, tokens: &[TokenLogprob]) -> Value {
        if !self.has_logprobs {
            return Value::Null;
        }
        json!({ "content": tokens.iter().map(chat_entry).collect::<Vec<_>>(), "refusal": null })
    }
}

impl Shape for ChatShape {
    const CHUNK_OBJECT: &'static str = "chat.completion.chunk";
    const WHOLE_OBJECT: &'static str = "chat.completion";

    fn first(&self, index: usize) -> Option<(Value, usize)> {
        let delta = json!({ "role": "assistant", "content": "" });
        Some((json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null }), 0))
    }

    fn piece(&self, index: usize, text: &str, logprob: Option<&TokenLogprob>, _offset: usize) -> Value {
        let logprobs = logprob.map_or(Value::Null, |token| self.logprobs(std::slice::from_ref(token)));
        json!({ "index": index, "delta": { "content": text }, "logprobs": logprobs, "finish_reason": null })
    }

    fn last(&self, index: usize, finish: FinishReason) -> Value {
        json!({ "index": index, "delta": {}, "logprobs": null, "finish_reason": finish_reason(finish) })
    }

    fn whole(&self, index: usize, text: &str, logprobs: &[TokenLogprob], finish: FinishReason) -> Value {
        json!({
            "index": index,
            "message": { "role": "assistant", "content": text, "refusal": null },
            "logprobs": self.logprobs(logprobs),
            "finish_reason": finish_reason(finish),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::routes::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<Chat>());
    }

    fn request(more: &Value) -> Generate {
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] });
        for (field, value) in more.as_object().expect("object") {
            body[field] = value.clone();
        }
        let payload = Payload::of(body.to_string());
        let wanted = payload.parse::<Options>().expect("parses");
        let wanted = wanted.check(&Asker::stranger(), &HeaderMap::new()).expect("sound");
        payload.parse::<Chat>().expect("parses").check(&wanted).expect("sound").0
    }

    fn arguments(more: &Value) -> Value {
        Value::Object(request(more).template_arguments)
    }

    #[test]
    fn the_template_is_told_what_three_fields_say() {
        assert_eq!(arguments(&json!({})), json!({}));
        let all = json!({ "chat_template_kwargs": { "builtin_tools": ["a"], "x": null }, "reasoning_effort": "low",
                          "enable_thinking": false });
        let told =
            json!({ "builtin_tools": ["a"], "x": null, "reasoning_effort": "low", "enable_thinking": false });
        assert_eq!(arguments(&all), told);
        let null = json!({ "chat_template_kwargs": null, "reasoning_effort": null, "enable_thinking": null });
        assert_eq!(arguments(&null), json!({}));
    }

    #[test]
    fn what_the_arguments_say_counts_before_the_short_forms() {
        let twice = json!({ "chat_template_kwargs": { "enable_thinking": true, "reasoning_effort": "high" },
                            "reasoning_effort": "low", "enable_thinking": false });
        assert_eq!(arguments(&twice), json!({ "enable_thinking": true, "reasoning_effort": "high" }));
    }

    #[test]
    fn parts_are_lines_of_their_own() {
        let parts = json!([{ "type": "text", "text": "one" }, { "type": "text", "text": "two\n" },
                           { "type": "text", "text": "" }, { "type": "text", "text": "three" }]);
        let Input::Chat(messages) =
            request(&json!({ "messages": [{ "role": "user", "content": parts }] })).input
        else {
            panic!("a chat")
        };
        assert_eq!(messages[0].content, "one\ntwo\n\n\nthree");
    }
}
