//! `/v1/chat/completions`.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::{Input, Message, Request};
use samovar_core::generation::{FinishReason, TokenLogprob};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::logprobs::chat_entry;
use super::options::{Options, Wanted};
use super::respond::{Identity, respond};
use super::shape::{Shape, finish_reason};
use super::{Refused, params};
use crate::app::App;
use crate::client::Asker;
use crate::layer::RequestId;
use crate::payload::Payload;
use crate::refusal::Refusal;

const TOP_LOGPROBS: f64 = 20.0;
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// The fields that only chats have.
#[derive(Debug, Deserialize)]
struct Chat {
    messages: Option<Vec<WireMessage>>,
    max_tokens: Option<f64>,
    max_completion_tokens: Option<f64>,
    logprobs: Option<bool>,
    top_logprobs: Option<f64>,
    response_format: Option<ResponseFormat>,
    tools: Option<Vec<IgnoredAny>>,
    tool_choice: Option<Value>,
    functions: Option<Vec<IgnoredAny>>,
    modalities: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct WireMessage {
    role: String,
    content: Option<Value>,
    tool_calls: Option<Vec<IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    r#type: String,
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
    let wanted = payload.parse::<Options>()?.check(&asker, &headers)?;
    let chat: Chat = payload.parse()?;
    let (request, shape) = chat.check(&wanted)?;
    let requests = wanted.for_each_answer(&request);
    respond(&app, &wanted, requests, shape, Identity { prefix: "chatcmpl", request: &id }).await
}

#[cfg(test)]
pub(super) fn check(payload: &Payload, wanted: &Wanted) -> Result<(), Refusal> {
    payload.parse::<Chat>()?.check(wanted).map(drop)
}

impl Chat {
    fn check(self, wanted: &Wanted) -> Result<(Request, ChatShape), Refusal> {
        self.refuse_unsupported()?;
        let max_tokens = params::max_tokens("max_tokens", self.max_tokens)?;
        let max_completion_tokens = params::max_tokens("max_completion_tokens", self.max_completion_tokens)?;
        let has_logprobs = self.logprobs.unwrap_or(false);
        let top = params::whole("top_logprobs", self.top_logprobs, &(0.0..=TOP_LOGPROBS))?;
        if top.is_some_and(|top| top > 0) && !has_logprobs {
            return Err(Refusal::invalid("top_logprobs", "`top_logprobs` needs `logprobs` to be true"));
        }
        let request = Request {
            input: Input::Chat(messages(self.messages)?),
            max_tokens: max_completion_tokens.or(max_tokens),
            logprobs: has_logprobs.then(|| top.unwrap_or(0)),
            ..wanted.request.clone()
        };
        Ok((request, ChatShape { has_logprobs }))
    }

    fn refuse_unsupported(&self) -> Result<(), Refusal> {
        let is_none = self.tool_choice.as_ref().is_some_and(|choice| choice == "none");
        let has_tools =
            |tools: &Option<Vec<IgnoredAny>>| tools.as_ref().is_some_and(|tools| !tools.is_empty());
        if has_tools(&self.tools) && !is_none {
            return Err(Refusal::unsupported("tools", "tools are not supported yet")
                .with_hint("leave `tools` out, or set `tool_choice` to \"none\""));
        }
        if has_tools(&self.functions) {
            return Err(Refusal::unsupported("functions", "functions are not supported")
                .with_hint("leave `functions` out"));
        }
        if let Some(format) = &self.response_format
            && format.r#type != "text"
        {
            let shown: String = format.r#type.chars().take(40).collect();
            let message = format!("the response format {shown:?} is not supported yet");
            return Err(Refusal::unsupported("response_format", message)
                .with_hint("leave `response_format` out and ask for JSON in the prompt"));
        }
        if self.modalities.iter().flatten().any(|modality| modality != "text") {
            return Err(Refusal::unsupported("modalities", "text is the only modality"));
        }
        Ok(())
    }
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
    Ok(Message { role, content: content(message.content, &param("content"))? })
}

/// A text, or the texts of its parts.
fn content(content: Option<Value>, param: &str) -> Result<String, Refusal> {
    match content {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let mut whole = String::new();
            for (at, part) in parts.iter().enumerate() {
                whole.push_str(text_of(part, &format!("{param}[{at}]"))?);
            }
            Ok(whole)
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
