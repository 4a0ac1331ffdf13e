//! A conversation on its way to the engine, which renders it by the model's chat template and tokenizes it.
//!
//! What has no fixed form (messages, tools, arguments) travels as JSON text: the daemon only checks it, and nothing
//! here interprets it.

use serde::{Deserialize, Serialize};

/// A conversation that the model answers next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// The messages: a JSON array of objects with `role` and `content` (a text, or an array of parts), as a client sent
    /// them, and whatever else the template may know (`tool_calls`, `name`).
    pub messages: String,
    /// How many messages these are.
    pub message_count: u32,
    /// The tools that the model may call: a JSON array; `None` = none were given.
    pub tools: Option<String>,
    /// Which of them it may or must call.
    pub tool_choice: ToolChoice,
    /// It may call several of them in one answer.
    pub parallel_tool_calls: bool,
    /// The documents that it may cite: a JSON array; `None` = none were given.
    pub documents: Option<String>,
    /// Further variables of the template by name, a JSON object: `enable_thinking`, `reasoning_effort` and what else a
    /// client gave. They never replace what Samovar sets itself.
    pub arguments: Option<String>,
    /// A template instead of the model's own: Jinja, or the name of a built-in one.
    pub template: Option<String>,
    /// Ends with what makes the model speak next; false where the last message is one to go on with.
    pub add_generation_prompt: bool,
    /// Reads control tokens in what people wrote as control tokens, as other servers do.
    pub special_tokens_in_content: bool,
    /// The time that the template is told.
    pub now: WallTime,
}

/// Which tools a model may or must call. Of no consequence where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it sees fit.
    #[default]
    Auto,
    /// None: its answer is text.
    None,
    /// At least one.
    Required,
    /// The one of this name.
    Named(String),
}

/// Names of chat templates that need no file: what [`Chat::template`] can name.
pub const BUILT_IN_TEMPLATES: [&str; 7] =
    ["chatml", "gemma", "llama3", "mistral", "phi3", "vicuna", "zephyr"];

/// A moment as a template may print it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallTime {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub unix_s: i64,
    /// What the local clock shows more than UTC, in seconds.
    pub utc_offset_s: i32,
}

impl Chat {
    /// A conversation of `message_count` messages in the form of [`messages`](Self::messages), with every option at its
    /// default.
    pub fn new(messages: impl Into<String>, message_count: u32) -> Self {
        Self {
            messages: messages.into(),
            message_count,
            tools: None,
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            documents: None,
            arguments: None,
            template: None,
            add_generation_prompt: true,
            special_tokens_in_content: false,
            now: WallTime::default(),
        }
    }

    /// Everything that a user wrote, as JSON text.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let others = [&self.tools, &self.documents, &self.arguments];
        std::iter::once(self.messages.as_str()).chain(others.into_iter().flatten().map(String::as_str))
    }

    /// Whether a text stands in it somewhere, as it is.
    pub fn contains(&self, text: &str) -> bool {
        self.texts().any(|other| other.contains(text))
    }

    /// Bytes of what it says.
    pub fn bytes(&self) -> usize {
        self.texts().map(str::len).sum()
    }
}
