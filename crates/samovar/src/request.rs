//! What a caller asks of the runtime, free of any wire format.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use samovar_core::generation::Sampling;
use samovar_core::units::KeepAlive;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or whatever else the model's template knows.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// What the person says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// How the model should behave.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// What the model is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A conversation, rendered by the model's chat template.
    Chat(Vec<Message>),
    /// Text to continue, as it is.
    Text(String),
    /// Token ids to continue, as they are.
    Tokens(Vec<u32>),
}

/// So many characters or tokens of a prompt that is no conversation stand for its beginning.
const BEGINNING: usize = 256;

impl Input {
    /// Stands for the beginning: of a conversation, all up to the user's first message. What begins alike may find its
    /// prompt's state where it was used last.
    pub(crate) fn affinity(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Chat(messages) => {
                let first = messages.iter().position(|message| message.role == "user").unwrap_or(0);
                let beginning = messages.iter().take(first + 1);
                beginning.for_each(|message| (&message.role, &message.content).hash(&mut hasher));
            }
            Self::Text(text) => text.chars().take(BEGINNING).for_each(|char| char.hash(&mut hasher)),
            Self::Tokens(tokens) => tokens.iter().take(BEGINNING).for_each(|token| token.hash(&mut hasher)),
        }
        hasher.finish()
    }
}

/// Where a request comes from, which decides what it may name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// The owner of the daemon, through its own process or Unix socket: may name any file it can read.
    #[default]
    Owner,
    /// Anyone who reaches the network port: only models that the owner has named.
    Network,
}

/// A request for text.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The model reference, as the user wrote it.
    pub model: String,
    /// What the model is given.
    pub input: Input,
    /// Variables of the chat template besides the conversation, by name: `enable_thinking`, `reasoning_effort`. What a
    /// template does not know is of no consequence; only conversations have one.
    pub template_arguments: Map<String, Value>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens to generate at most; `None` = as many as the context holds, 0 = compute the prompt alone.
    pub max_tokens: Option<u32>,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// Alternatives to report for each token; `None` = no logprobs.
    pub logprobs: Option<u32>,
    /// Generate on past the model's own end.
    pub ignore_eos: bool,
    /// How long the answer may take in all; afterwards the partial text is returned, or an error where there is none yet.
    pub deadline: Option<Duration>,
    /// How long the model stays ready after this request; `None` = the model's setting.
    pub keep_alive: Option<KeepAlive>,
    /// Who asks, for fairness between clients.
    pub client: String,
    /// Whose prompts' state the request may continue from, where that is not its client's: several processes of one
    /// person are several clients, and have no secrets from each other.
    pub person: Option<String>,
    /// Who of that client asks, from the outermost name to the innermost: they divide the client's turns among
    /// themselves. At most two names count.
    pub within: Vec<String>,
    /// Where the request comes from.
    pub origin: Origin,
}

impl Request {
    /// A conversation with `model`.
    pub fn chat(model: impl Into<String>, messages: impl IntoIterator<Item = Message>) -> Self {
        Self::new(model, Input::Chat(messages.into_iter().collect()))
    }

    /// Plain text for `model` to continue.
    pub fn text(model: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(model, Input::Text(text.into()))
    }

    /// Any input, with every option at its default.
    pub fn new(model: impl Into<String>, input: Input) -> Self {
        Self {
            model: model.into(),
            input,
            template_arguments: Map::new(),
            sampling: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            logprobs: None,
            ignore_eos: false,
            deadline: None,
            keep_alive: None,
            client: String::new(),
            person: None,
            within: Vec::new(),
            origin: Origin::Owner,
        }
    }

    /// The same request with at most `max_tokens` of answer.
    #[must_use]
    pub fn max_tokens(mut self, max_tokens: u32) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// The same request with another way to choose tokens.
    #[must_use]
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// The same request with a deadline, after which the partial text is returned, or an error where there is none yet.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_of_a_conversation_have_one_affinity_and_other_conversations_others() {
        let turn = |said: &[&str]| {
            let roles = ["system", "user", "assistant", "user"];
            let messages = roles.iter().zip(said).map(|(role, text)| Message::new(*role, *text)).collect();
            Input::Chat(messages).affinity()
        };
        let first = turn(&["be brief", "hello"]);
        assert_eq!(first, turn(&["be brief", "hello", "hi", "and now?"]));
        assert_ne!(first, turn(&["be brief", "good morning"]));
        assert_ne!(first, turn(&["be verbose", "hello"]));
        let text = |length: usize| Input::Text("x".repeat(length)).affinity();
        assert_eq!(text(300), text(400));
        assert_ne!(text(100), text(200));
    }
}
