//! Methods that ask a model: text, which is told as it comes, and vectors. The parameters are the fields of OpenAI's API, read by
//! its own code.

use axum::http::HeaderMap;
use samovar::{AnswerEvent, Summary, ToolCall};
use samovar_core::generation::TokenLogprob;
use serde::Serialize;
use serde_json::{Value, json};

use super::cache::tell;
use super::session::{Answered, CallContext};
use super::wire::{Fault, written};
use crate::admin::wire::WaitEvent;
use crate::embedding::compute::{Computed, compute};
use crate::embedding::number;
use crate::field::{Field, field};
use crate::generation::collected::Collected;
use crate::generation::running::Running;
use crate::openai::{chat, completions, embeddings};
use crate::payload::Payload;

/// What differs from OpenAI's API; these come first.
pub(super) const GENERATE: &[Field] = &[
    field("model", "The model.").text(),
    field("messages", "The conversation, as in OpenAI's API. Either this or `prompt` is given.").list(),
    field(
        "prompt",
        "A text to continue as it is, or the token ids of one. Neither tools nor `response_format` go with it.",
    ),
    field("stream", "False: the answer is not told in parts. Default: true, as `generate.delta`.").boolean(),
    field("stream_options", "Has no effect: the result contains the token counts.").object(),
    field("n", "1 or absent.").integer(),
];

/// `generate`: an answer to a conversation, or a text continued.
pub(super) async fn generate(mut call: CallContext) -> Result<Answered, Fault> {
    let mut params = std::mem::take(&mut call.params);
    if params.get("stream") == Some(&Value::Bool(false)) {
        call.notifier.silence();
    }
    let is_given = |name: &str| params.get(name).is_some_and(|value| !value.is_null());
    let mut request = match (is_given("messages"), is_given("prompt")) {
        (true, true) => return Err(Fault::params("give either `messages` or `prompt`")),
        (false, true) => {
            // OpenAI's API ends after 16 tokens where nothing is said; null is no limit.
            params.entry("max_tokens").or_insert(Value::Null);
            completions::request(&Payload::of(written(&params)), &call.asker)?
        }
        (_, false) => chat::request(&Payload::of(written(&params)), &call.asker)?,
    };
    drop(params);
    // As on the owner's other routes, all requests share one memory.
    request.common.person = Some(call.asker.client(None));
    let mut running = Running::start(&call.app, request)?;
    let (mut held, mut model, mut said) = (call.holds(), String::new(), Collected::default());
    while let Some(event) = running.next().await {
        match &event {
            AnswerEvent::Waiting(wait) => {
                let wait = WaitEvent::of(wait.clone());
                tell(&call.notifier, "generate.progress", wait).await;
            }
            AnswerEvent::Granted { model: name, .. } => model.clone_from(name),
            event if call.notifier.tells() => {
                if let Some(delta) = delta(event) {
                    call.notifier.tell("generate.delta", &delta).await;
                }
            }
            _ => {}
        }
        said.take(event, &mut held)?;
    }
    let generated = Generated {
        model: &model,
        text: &said.text,
        thinking: &said.thinking,
        tool_calls: &said.calls,
        logprobs: &said.logprobs,
        summary: said.end()?,
    };
    Ok(Answered { json: written(&generated), held: Some(held) })
}

/// What is told of an event; nothing of text that is withheld.
fn delta(event: &AnswerEvent) -> Option<Value> {
    Some(match event {
        AnswerEvent::Text { text, logprob: None } if text.is_empty() => return None,
        AnswerEvent::Text { text, logprob: None } => json!({ "text": text }),
        AnswerEvent::Text { text, logprob } => json!({ "text": text, "logprob": logprob }),
        AnswerEvent::Thinking { text } => json!({ "thinking": text }),
        AnswerEvent::ToolCall { index, id, name } => {
            json!({ "tool_call": { "index": index, "id": id, "name": name } })
        }
        AnswerEvent::ToolArguments { index, text } => {
            json!({ "tool_arguments": { "index": index, "text": text } })
        }
        _ => return None,
    })
}

/// A whole answer.
#[derive(Serialize)]
struct Generated<'a> {
    model: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: &'a [ToolCall],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    logprobs: &'a [TokenLogprob],
    #[serde(flatten)]
    summary: &'a Summary,
}

/// `embed`: a vector for each input.
pub(super) async fn embed(mut call: CallContext) -> Result<Answered, Fault> {
    let payload = Payload::of(written(&std::mem::take(&mut call.params)));
    let (common, embed, encoding) = embeddings::request(&payload, &call.asker, &HeaderMap::new())?;
    drop(payload);
    let computed = compute(&call.app, common, embed, call.holds(), "input").await?;
    let Computed { model, values, tokens, timings, mut held, .. } = computed;
    let mut json = br#"{"embeddings":["#.to_vec();
    for (index, vector) in values.into_iter().enumerate() {
        let before = json.len();
        if index > 0 {
            json.push(b',');
        }
        number::write(&mut json, &vector, encoding);
        held.add(json.len() - before)?;
    }
    json.extend_from_slice(br#"],"model":"#);
    number::write_json(&mut json, &model);
    json.extend_from_slice(br#","usage":"#);
    number::write_json(&mut json, &json!({ "prompt_tokens": tokens }));
    json.extend_from_slice(br#","timings":"#);
    number::write_json(&mut json, &timings);
    json.push(b'}');
    Ok(Answered { json, held: Some(held) })
}
