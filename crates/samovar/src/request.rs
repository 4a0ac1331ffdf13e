//! What a caller asks of the runtime, free of any wire format: what all requests have in common, and the work.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use samovar_core::chat::ToolChoice;
use samovar_core::constraint::Constraint;
use samovar_core::generation::Sampling;
use samovar_core::infill::Infill;
use samovar_core::units::KeepAlive;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::embed::Embed;
use crate::sampling::SamplingOptions;
use crate::tools::{Tool, ToolCall};

/// One turn of a conversation.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or whatever else the model's template knows.
    pub role: String,
    /// What was said.
    pub content: String,
    /// What the model thought before it said that, if it is to read it again. Most templates leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "reasoning_content")]
    pub thinking: Option<String>,
    /// The tools that the model called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call it answers, where its role is `tool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Who says it, or which tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            thinking: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }
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

    /// What a tool said to the call of this id.
    pub fn tool(call_id: impl Into<String>, content: impl Into<String>) -> Self {
        Self { tool_call_id: Some(call_id.into()), ..Self::new("tool", content) }
    }

    /// The same message of the model, with what it thought before.
    #[must_use]
    pub fn thinking(mut self, thinking: impl Into<String>) -> Self {
        self.thinking = Some(thinking.into());
        self
    }

    /// The same message of the model, with the tools that it calls.
    #[must_use]
    pub fn tool_calls(mut self, calls: impl IntoIterator<Item = ToolCall>) -> Self {
        self.tool_calls = calls.into_iter().collect();
        self
    }

    /// The same message, with who says it.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// What the model is given.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A conversation, rendered by the model's chat template.
    Chat(Vec<Message>),
    /// Text to continue, as it is.
    Text(String),
    /// Token ids to continue, as they are.
    Tokens(Vec<u32>),
    /// A gap in a text, which a model that was made for it fills in. No text in it is read as a control token, and what does not fit
    /// the context is left out.
    Infill(Infill),
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
            Self::Infill(infill) => {
                let chunks = infill.chunks.iter().map(|chunk| chunk.name.as_str());
                chunks.for_each(|name| name.hash(&mut hasher));
                infill.prefix.chars().take(BEGINNING).for_each(|char| char.hash(&mut hasher));
            }
        }
        hasher.finish()
    }
}

/// Where a request comes from, which decides what it may name.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// The owner of the daemon, through its own process or Unix socket: may name any file it can read.
    #[default]
    Owner,
    /// Anyone who reaches the network port: only models that the owner has named.
    Network,
}

/// What every kind of request has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Common {
    /// The model reference, as the user wrote it.
    pub model: String,
    /// How long the answer may take in all; afterwards what there is of it is returned, or an error where there is none yet.
    pub deadline: Option<Duration>,
    /// How long the model stays ready after this request; `None` = the model's setting.
    pub keep_alive: Option<KeepAlive>,
    /// Tokens of context that the request needs, where the model's setting is less. A loaded model that has less becomes
    /// larger, without its weights leaving memory; one that has more serves the request as it is. The owner may ask for as
    /// much as the model was trained with, the network for as much as the owner allows.
    pub context_tokens: Option<u32>,
    /// Whether less context will do: a request that asks for more than it may have is then served with the most that it may
    /// have, and is not refused.
    pub takes_less_context: bool,
    /// A head start among the client's own requests, and among clients whose turn it is: each point counts as 100 ms of
    /// waiting.
    pub priority: u8,
    /// Who asks, for fairness between clients.
    pub client: String,
    /// Whose prompts' state the request may continue from, where that is not its client's: several processes of one
    /// person are several clients, and have no secrets from each other.
    pub person: Option<String>,
    /// Who of that client asks, from the outermost name to the innermost: they divide the client's turns among
    /// themselves. At most two names count.
    pub within: Vec<String>,
    /// How many requests the client has in each turn, where the configuration does not say it; `None` = one.
    pub weight: Option<u32>,
    /// Where the request comes from.
    pub origin: Origin,
}

impl Common {
    /// A request of the owner for this model, with every option at its default.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            deadline: None,
            keep_alive: None,
            context_tokens: None,
            takes_less_context: false,
            priority: 0,
            client: String::new(),
            person: None,
            within: Vec::new(),
            weight: None,
            origin: Origin::Owner,
        }
    }
}

/// What is to be done with the model.
#[allow(clippy::large_enum_variant, reason = "one for each request, and it is moved once")]
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Work {
    /// Text is to be generated.
    Generate(Generate),
    /// Texts are to become vectors or scores.
    Embed(Embed),
}

/// Asks for text.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Generate {
    /// What the model is given.
    pub input: Input,
    /// Variables of the chat template besides the conversation, by name: `enable_thinking`, `reasoning_effort`. What a
    /// template does not know is of no consequence; only conversations have one.
    pub template_arguments: Map<String, Value>,
    /// The tools that the model may call, at most 128; only conversations have any.
    pub tools: Vec<Tool>,
    /// Which of them it may or must call.
    pub tool_choice: ToolChoice,
    /// It may call several of them in one answer.
    pub parallel_tool_calls: bool,
    /// What the answer must look like; at most 64 KiB. Thoughts before it need not, and calls of tools take its place.
    pub constraint: Option<Constraint>,
    /// Tokens of thought after which a model that still thinks is made to answer; `None` = as many as it likes.
    pub thinking_budget_tokens: Option<u32>,
    /// How tokens are chosen, as far as the request says so; else the model's author may have said so.
    pub sampling: SamplingOptions,
    /// How tokens are chosen where neither does.
    pub sampling_defaults: Sampling,
    /// Tokens to generate at most; `None` = as many as the context holds, 0 = compute the prompt alone.
    pub max_tokens: Option<u32>,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// Alternatives to report for each token; `None` = no logprobs.
    pub logprobs: Option<u32>,
    /// Generate on past the model's own end.
    pub ignore_eos: bool,
    /// How long the answer may take from its first token on: after that it ends as soon as a line break is in its text, cut at its
    /// length. For editors, which show the first lines at once. `None` = as long as it takes.
    pub answer_limit: Option<Duration>,
}

impl Generate {
    /// Any input, with every option at its default.
    pub fn new(input: Input) -> Self {
        Self {
            input,
            template_arguments: Map::new(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            constraint: None,
            thinking_budget_tokens: None,
            sampling: SamplingOptions::default(),
            sampling_defaults: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            logprobs: None,
            ignore_eos: false,
            answer_limit: None,
        }
    }

    /// Stands for the beginning of its prompt: its input's, and its tools, which templates write before the conversation.
    pub(crate) fn affinity(&self) -> u64 {
        let of_input = self.input.affinity();
        if self.tools.is_empty() {
            return of_input;
        }
        let mut hasher = DefaultHasher::new();
        of_input.hash(&mut hasher);
        self.tools.iter().for_each(|tool| tool.name.hash(&mut hasher));
        hasher.finish()
    }
}

/// A request: who asks which model under which terms, and for what.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What it has in common with every other.
    pub common: Common,
    /// What is to be done.
    pub work: Work,
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

    /// Text for any input, with every option at its default.
    pub fn new(model: impl Into<String>, input: Input) -> Self {
        Self { common: Common::new(model), work: Work::Generate(Generate::new(input)) }
    }

    /// Vectors or scores of texts by `model`.
    pub fn embed(model: impl Into<String>, embed: Embed) -> Self {
        Self { common: Common::new(model), work: Work::Embed(embed) }
    }

    /// This work under these terms.
    pub fn of(common: Common, work: Work) -> Self {
        Self { common, work }
    }

    /// The same request with at most `max_tokens` of answer; of no consequence to other work than text, as are the four
    /// that follow.
    #[must_use]
    pub fn max_tokens(self, max_tokens: u32) -> Self {
        self.generating(|generate| generate.max_tokens = Some(max_tokens))
    }

    /// The same request with another way to choose tokens: all of it, or what matters.
    #[must_use]
    pub fn sampling(self, sampling: impl Into<SamplingOptions>) -> Self {
        self.generating(|generate| generate.sampling = sampling.into())
    }

    /// The same request, whose answer ends at any of these strings.
    #[must_use]
    pub fn stop<T: Into<String>>(self, texts: impl IntoIterator<Item = T>) -> Self {
        self.generating(|generate| generate.stop = texts.into_iter().map(Into::into).collect())
    }

    /// The same request with `top` alternatives reported for each token.
    #[must_use]
    pub fn logprobs(self, top: u32) -> Self {
        self.generating(|generate| generate.logprobs = Some(top))
    }

    /// The same request, whose answer goes on past the model's own end.
    #[must_use]
    pub fn ignore_eos(self) -> Self {
        self.generating(|generate| generate.ignore_eos = true)
    }

    /// The same request with a deadline, after which the partial text is returned, or an error where there is none yet.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.common.deadline = Some(deadline);
        self
    }

    /// The same request with so much context, for which a loaded model that has less becomes larger.
    #[must_use]
    pub fn context_tokens(mut self, context_tokens: u32) -> Self {
        self.common.context_tokens = Some(context_tokens);
        self
    }

    /// The same request from this client.
    #[must_use]
    pub fn client(mut self, client: impl Into<String>) -> Self {
        self.common.client = client.into();
        self
    }

    /// The same request from another place.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.common.origin = origin;
        self
    }

    pub(crate) fn generating(mut self, change: impl FnOnce(&mut Generate)) -> Self {
        if let Work::Generate(generate) = &mut self.work {
            change(generate);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_with_the_same_tools_begin_alike() {
        let with = |tools: &[&str], said: &[Message]| {
            let mut generate = Generate::new(Input::Chat(said.to_vec()));
            generate.tools = tools.iter().map(|name| Tool::new(*name)).collect();
            generate.affinity()
        };
        let first = [Message::user("what is the time?")];
        let call = ToolCall::new("call_1", "clock", "{}");
        let next =
            [&first[..], &[Message::assistant("").tool_calls([call]), Message::tool("call_1", "noon")]];
        assert_eq!(with(&["clock"], &first), with(&["clock"], &next.concat()));
        assert_ne!(with(&["clock"], &first), with(&["clock", "add"], &first));
        assert_eq!(with(&[], &first), Input::Chat(first.to_vec()).affinity());
    }

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
