//! What a route's answers and refusals look like, as far as the OpenAPI document tells it.

use serde_json::{Value, json};

/// What a route answers with.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// One JSON value.
    #[default]
    Json,
    /// One JSON value, or server-sent events where `stream` asks for them.
    JsonOrEvents,
    /// One JSON value, or one JSON object a line where `stream` asks for that.
    JsonOrLines,
    /// One JSON object a line.
    Lines,
    /// Server-sent events.
    Events,
    /// A page for browsers; a JSON value or plain text for programs.
    Page,
    /// A file of that page.
    PageFile,
    /// Metrics in the `OpenMetrics` format.
    Metrics,
}

impl Answers {
    /// The content types of a successful answer.
    pub const fn content_types(self) -> &'static [&'static str] {
        match self {
            Self::Json => &["application/json"],
            Self::JsonOrEvents => &["application/json", "text/event-stream"],
            Self::JsonOrLines => &["application/json", "application/x-ndjson"],
            Self::Lines => &["application/x-ndjson"],
            Self::Events => &["text/event-stream"],
            Self::Page => &["text/html", "application/json", "text/plain"],
            Self::PageFile => &["text/javascript", "text/css", "image/svg+xml"],
            Self::Metrics => &["application/openmetrics-text"],
        }
    }
}

/// Whose clients a route is for, which decides how its refusals look.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Api {
    /// OpenAI's.
    #[default]
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Ollama's.
    Ollama,
    /// llama-server's.
    LlamaServer,
    /// The owner's.
    Owner,
}

impl Api {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::OpenAi, Self::Anthropic, Self::Ollama, Self::LlamaServer, Self::Owner];

    /// The name of its refusals in the document.
    pub(crate) const fn error_schema(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAiError",
            Self::Anthropic => "AnthropicError",
            Self::Ollama => "OllamaError",
            Self::LlamaServer => "LlamaServerError",
            Self::Owner => "Failure",
        }
    }

    /// How its refusals look.
    pub(crate) fn error(self) -> Value {
        let text = json!({ "type": "string" });
        let maybe_text = json!({ "type": ["string", "null"] });
        match self {
            Self::OpenAi => wrapped(
                "message",
                &json!({ "message": text, "type": text, "code": maybe_text, "param": maybe_text }),
            ),
            Self::Anthropic => {
                let mut wrapped = wrapped("message", &json!({ "type": text, "message": text }));
                wrapped["properties"]["type"] = json!({ "const": "error" });
                wrapped
            }
            Self::Ollama => {
                json!({ "type": "object", "properties": { "error": text }, "required": ["error"] })
            }
            Self::LlamaServer => wrapped("message", &json!({ "message": text, "type": text, "code": {} })),
            Self::Owner => json!({
                "type": "object",
                "description": "What went wrong, by kind, with what to do about it.",
                "properties": {
                    "kind": text,
                    "message": text,
                    "hint": maybe_text,
                    "param": maybe_text,
                    "retry_after_ms": { "type": ["integer", "null"] },
                },
                "required": ["kind", "message"],
            }),
        }
    }
}

/// An object with an `error`, of which one field is always there.
fn wrapped(required: &str, properties: &Value) -> Value {
    let error = json!({ "type": "object", "properties": properties, "required": [required] });
    json!({ "type": "object", "properties": { "error": error }, "required": ["error"] })
}
