//! The objects of the Responses API: the response, and the items of its output.

use samovar_core::generation::{FinishReason, Usage};
use samovar_core::{ErrorKind, Failure};
use serde_json::{Value, json};

use crate::generation::copies;
use crate::generation::parts::Part;
use crate::refusal::Refusal;

/// What all objects of one response have in common.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Tells it and its items from others.
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    /// What the request said, as far as it is said again.
    pub(super) echo: Echo,
}

/// Fields of the request that are said again.
#[derive(Clone, Debug)]
pub(super) struct Echo {
    pub(super) temperature: f64,
    pub(super) top_p: f64,
    pub(super) max_output_tokens: Option<u32>,
    pub(super) parallel_tool_calls: bool,
    pub(super) tool_choice: Value,
    pub(super) format: Value,
    pub(super) effort: Option<String>,
    pub(super) summary: Option<String>,
    /// The prompt alone was wanted, so an answer of no tokens is complete.
    pub(super) is_warm_up: bool,
}

impl Echo {
    /// Bytes of what may be as large as the request.
    pub(super) fn bytes(&self) -> usize {
        copies::weight(&self.format) + copies::weight(&self.tool_choice)
    }
}

/// How far a response is.
#[derive(Clone, Debug)]
pub(super) enum Status {
    InProgress,
    Ended(FinishReason, Usage),
    Failed(Failure),
}

impl Status {
    fn is_cut(&self, echo: &Echo) -> bool {
        let is_short = matches!(self, Self::Ended(FinishReason::Length | FinishReason::TimedOut, _));
        is_short && !echo.is_warm_up
    }

    /// The word for it, of a response and of its last item.
    pub(super) fn word(&self, echo: &Echo) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Ended(..) if self.is_cut(echo) => "incomplete",
            Self::Ended(..) => "completed",
            Self::Failed(_) => "failed",
        }
    }
}

impl Frame {
    /// The response, with this output.
    pub(super) fn response(&self, status: &Status, output: Vec<Value>) -> Value {
        let echo = &self.echo;
        let reason = status.is_cut(echo).then(|| json!({ "reason": "max_output_tokens" }));
        let (error, usage) = match status {
            Status::InProgress => (Value::Null, Value::Null),
            Status::Ended(_, usage) => (Value::Null, self::usage(*usage)),
            Status::Failed(failure) => (error(failure), Value::Null),
        };
        let mut response = json!({
            "id": format!("resp_{}", self.id),
            "object": "response",
            "created_at": self.created,
            "status": status.word(echo),
            "background": false,
            "error": error,
            "incomplete_details": reason,
            "instructions": null,
            "max_output_tokens": echo.max_output_tokens,
            "metadata": {},
            "model": self.model,
            "output": null,
            "parallel_tool_calls": echo.parallel_tool_calls,
            "previous_response_id": null,
            "reasoning": { "effort": echo.effort, "summary": echo.summary },
            "store": false,
            "temperature": echo.temperature,
            "text": { "format": echo.format },
            "tool_choice": echo.tool_choice,
            "tools": [],
            "top_p": echo.top_p,
            "truncation": "disabled",
            "usage": usage,
            "user": null,
        });
        // All that was said is not copied.
        response["output"] = Value::Array(output);
        response
    }

    /// The id of the item `at` of the output.
    pub(super) fn item_id(&self, at: usize, part: &Part) -> String {
        let prefix = match part {
            Part::Thinking(_) => "rs",
            Part::Text(_) => "msg",
            Part::Call(_) => "fc",
        };
        format!("{prefix}_{}_{at}", self.id)
    }

    /// The item `at` of the output, of the status `word`; `is_empty` where it only begins.
    pub(super) fn item(&self, at: usize, part: &Part, word: &str, is_empty: bool) -> Value {
        let id = self.item_id(at, part);
        let contents = || if is_empty { Vec::new() } else { vec![self.content(part, part.text())] };
        match part {
            Part::Thinking(_) if self.has_summaries() => {
                json!({ "id": id, "type": "reasoning", "status": word, "summary": contents() })
            }
            Part::Thinking(_) => {
                json!({ "id": id, "type": "reasoning", "status": word, "summary": [], "content": contents() })
            }
            Part::Text(_) => {
                json!({ "id": id, "type": "message", "status": word, "role": "assistant", "content": contents() })
            }
            Part::Call(call) => {
                let arguments = if is_empty { "" } else { call.arguments.as_str() };
                json!({
                    "id": id, "type": "function_call", "status": word,
                    "call_id": call.id, "name": call.name, "arguments": arguments,
                })
            }
        }
    }

    /// The only content of an item, with this text. Calls have none.
    pub(super) fn content(&self, part: &Part, text: &str) -> Value {
        match part {
            Part::Thinking(_) if self.has_summaries() => json!({ "type": "summary_text", "text": text }),
            Part::Thinking(_) => json!({ "type": "reasoning_text", "text": text }),
            Part::Text(_) | Part::Call(_) => {
                json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
            }
        }
    }

    /// Whether thoughts are told where clients look for summaries of them: where they asked for some.
    pub(super) fn has_summaries(&self) -> bool {
        self.echo.summary.is_some()
    }

    /// The output of a response of this status.
    pub(super) fn output(&self, parts: &[Part], status: &Status) -> Vec<Value> {
        let last = parts.len().saturating_sub(1);
        let word = |at: usize| if at == last { item_word(status, &self.echo) } else { "completed" };
        parts.iter().enumerate().map(|(at, part)| self.item(at, part, word(at), false)).collect()
    }
}

/// Items know no failure.
pub(super) fn item_word(status: &Status, echo: &Echo) -> &'static str {
    if let Status::Failed(_) = status { "incomplete" } else { status.word(echo) }
}

/// The error of a response that failed. Its codes are few, and clients look for them.
fn error(failure: &Failure) -> Value {
    let refusal = Refusal::from(failure.clone());
    let code = match failure.kind {
        ErrorKind::ContextExceeded => refusal.code,
        // After any other code, agents ask the same again.
        ErrorKind::InvalidRequest
        | ErrorKind::Unsupported
        | ErrorKind::NotFound
        | ErrorKind::Forbidden
        | ErrorKind::Unauthenticated
        | ErrorKind::InvalidModel
        | ErrorKind::TooLarge => "invalid_prompt",
        ErrorKind::Busy | ErrorKind::RateLimited => "rate_limit_exceeded",
        _ => "server_error",
    };
    json!({ "code": code, "message": refusal.text() })
}

fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": { "cached_tokens": usage.cached_tokens },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": { "reasoning_tokens": usage.thinking_tokens },
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
    })
}
