//! What asking for text looks like: the request, and each event of its answer, which other work shares.

use std::time::Duration;

use samovar::store::Progress;
use samovar::{
    AnswerEvent, CacheStatus, Common, Constraint, Embedded, Generate, Input, Message, Origin, Preparing,
    Request, SamplingOptions, Summary, Tool, ToolChoice, Wait, Work,
};
use samovar_core::generation::{TokenLogprob, Usage};
use samovar_core::units::KeepAlive;
use samovar_core::{ErrorKind, Failure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What the model is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerateInput {
    /// A conversation, rendered by the model's chat template.
    Chat(Vec<Message>),
    /// Text to continue, as it is.
    Text(String),
    /// Token ids to continue, as they are.
    Tokens(Vec<u32>),
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolBody {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON schema of its arguments; absent = it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// The model can write no arguments but those that the schema allows.
    #[serde(default)]
    pub strict: bool,
}

impl From<ToolBody> for Tool {
    fn from(body: ToolBody) -> Self {
        let mut tool = Self::new(body.name);
        tool.description = body.description;
        tool.parameters = body.parameters;
        tool.strict = body.strict;
        tool
    }
}

impl From<Tool> for ToolBody {
    fn from(tool: Tool) -> Self {
        let Tool { name, description, parameters, strict, .. } = tool;
        Self { name, description, parameters, strict }
    }
}

/// Asks for text. Every field but `model` and `input` may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateBody {
    /// The model reference, as the user wrote it; files relative to the daemon, so send absolute paths.
    pub model: String,
    /// What the model is given.
    pub input: GenerateInput,
    /// Variables of the chat template besides the conversation, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub template_arguments: Map<String, Value>,
    /// The tools that the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolBody>,
    /// Which of them it may or must call.
    #[serde(default, skip_serializing_if = "is_auto")]
    pub tool_choice: ToolChoice,
    /// It may call several of them in one answer.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub parallel_tool_calls: bool,
    /// What the answer must look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// Tokens of thought after which a model that still thinks is made to answer; absent = as many as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking_budget_tokens: Option<u32>,
    /// How tokens are chosen; what is absent is what the model's author set, or else the default.
    #[serde(default)]
    pub sampling: SamplingOptions,
    /// Tokens to generate at most; absent = as many as the context holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Strings that end the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Alternatives to report for each token; absent = no logprobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u32>,
    /// Generate on past the model's own end.
    #[serde(default)]
    pub ignore_eos: bool,
    /// How long the answer may take in all, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// How long the model stays ready after this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
    /// Tokens of context that the request needs; absent = the model's usual number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// A head start in the queue, in steps of 100 ms of waiting.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u8,
    /// Who asks, for fairness between clients; absent = the owner.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
}

impl GenerateBody {
    /// What this body asks of the runtime, from `origin`.
    pub fn into_request(self, origin: Origin) -> Request {
        let input = match self.input {
            GenerateInput::Chat(messages) => Input::Chat(messages),
            GenerateInput::Text(text) => Input::Text(text),
            GenerateInput::Tokens(tokens) => Input::Tokens(tokens),
        };
        let mut generate = Generate::new(input);
        generate.template_arguments = self.template_arguments;
        generate.tools = self.tools.into_iter().map(Tool::from).collect();
        generate.tool_choice = self.tool_choice;
        generate.parallel_tool_calls = self.parallel_tool_calls;
        generate.constraint = self.constraint;
        generate.thinking_budget_tokens = self.thinking_budget_tokens;
        generate.sampling = self.sampling;
        generate.max_tokens = self.max_tokens;
        generate.stop = self.stop;
        generate.logprobs = self.logprobs;
        generate.ignore_eos = self.ignore_eos;
        let mut common = Common::new(self.model);
        common.deadline = self.deadline_ms.map(Duration::from_millis);
        common.keep_alive = self.keep_alive;
        common.context_tokens = self.context_tokens;
        common.priority = self.priority;
        common.client = self.client;
        common.origin = origin;
        Request::of(common, Work::Generate(generate))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(priority: &u8) -> bool {
    *priority == 0
}

const fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_true(truth: &bool) -> bool {
    *truth
}

fn is_auto(choice: &ToolChoice) -> bool {
    *choice == ToolChoice::Auto
}

impl TryFrom<Request> for GenerateBody {
    /// `Unsupported`: the request asks for something else than text.
    type Error = Failure;

    fn try_from(Request { common, work, .. }: Request) -> Result<Self, Failure> {
        let Work::Generate(generate) = work else {
            return Err(Failure::new(ErrorKind::Unsupported, "this route generates text alone"));
        };
        let input = match generate.input {
            Input::Chat(messages) => GenerateInput::Chat(messages),
            Input::Text(text) => GenerateInput::Text(text),
            Input::Tokens(tokens) => GenerateInput::Tokens(tokens),
            _ => {
                let message = "this route takes conversations, texts and tokens alone";
                return Err(Failure::new(ErrorKind::Unsupported, message));
            }
        };
        Ok(Self {
            model: common.model,
            input,
            template_arguments: generate.template_arguments,
            tools: generate.tools.into_iter().map(ToolBody::from).collect(),
            tool_choice: generate.tool_choice,
            parallel_tool_calls: generate.parallel_tool_calls,
            constraint: generate.constraint,
            thinking_budget_tokens: generate.thinking_budget_tokens,
            sampling: generate.sampling,
            max_tokens: generate.max_tokens,
            stop: generate.stop,
            logprobs: generate.logprobs,
            ignore_eos: generate.ignore_eos,
            deadline_ms: common.deadline.map(|deadline| deadline.as_millis() as u64),
            keep_alive: common.keep_alive,
            context_tokens: common.context_tokens,
            priority: common.priority,
            client: common.client,
        })
    }
}

/// What a request waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitEvent {
    /// The model is not on this machine yet.
    Fetching(Progress),
    /// The model is converted from the form in which it was published.
    Preparing(Preparing),
    /// A slot.
    Queued {
        /// Requests ahead, this one counted.
        position: u32,
        /// How long that may take, in milliseconds, when it can be told.
        estimate_ms: Option<u64>,
    },
    /// The model is being loaded.
    Loading {
        /// The part done, 0..=1.
        fraction: f32,
        /// Which instance, counted from 1.
        instance: u32,
        /// Of how many.
        of: u32,
    },
    /// The model is being made ready again.
    Resuming,
}

impl WaitEvent {
    /// A wait as it travels; `None` for one that has no form here.
    pub fn of(wait: Wait) -> Option<Self> {
        Some(match wait {
            Wait::Fetching(progress) => Self::Fetching(progress),
            Wait::Preparing(preparing) => Self::Preparing(preparing),
            Wait::Queued { position, estimate_ms } => Self::Queued { position, estimate_ms },
            Wait::Loading { fraction, instance, of } => Self::Loading { fraction, instance, of },
            Wait::Resuming => Self::Resuming,
            _ => return None,
        })
    }
}

impl From<WaitEvent> for Wait {
    fn from(wait: WaitEvent) -> Self {
        match wait {
            WaitEvent::Fetching(progress) => Self::Fetching(progress),
            WaitEvent::Preparing(preparing) => Self::Preparing(preparing),
            WaitEvent::Queued { position, estimate_ms } => Self::Queued { position, estimate_ms },
            WaitEvent::Loading { fraction, instance, of } => Self::Loading { fraction, instance, of },
            WaitEvent::Resuming => Self::Resuming,
        }
    }
}

/// One line of an answer; the last is `done` or `failed`. Turns into [`AnswerEvent`] and back, so that a
/// client treats the daemon's answers and those of a runtime of its own alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerateEvent {
    /// The request waits.
    Waiting(WaitEvent),
    /// A slot was granted; the prompt is being computed.
    Granted {
        /// The model's name as the catalog knows it.
        model: String,
        /// Where it was found.
        tier: CacheStatus,
        /// Milliseconds waited for a slot.
        queue_ms: f64,
        /// Milliseconds waited for a load or resume.
        load_ms: f64,
    },
    /// A part of the prompt has been computed.
    Prefilling {
        /// Tokens of the prompt whose state is there.
        computed: u32,
        /// Tokens of the prompt.
        of: u32,
    },
    /// The prompt has been computed.
    Prefilled {
        /// Token counts so far.
        usage: Usage,
    },
    /// Text to append; may be empty when only a logprob is reported.
    Text {
        /// The text.
        text: String,
        /// The token's probability, when asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        logprob: Option<TokenLogprob>,
    },
    /// Text to append to the thoughts before the answer.
    Thinking {
        /// The text.
        text: String,
    },
    /// The model begins to call a tool.
    ToolCall {
        /// Counts the calls of this answer from 0.
        index: u32,
        /// Names it among all calls of the conversation.
        id: String,
        /// The tool.
        name: String,
    },
    /// Text to append to the arguments of a call that has begun: together they are JSON.
    ToolArguments {
        /// Which call.
        index: u32,
        /// The text.
        text: String,
    },
    /// An input became a vector or scores, in any order of the inputs.
    Embedded(Embedded),
    /// The answer is complete, or complete as far as its deadline let it be.
    Done(Summary),
    /// The answer broke off.
    Failed(Failure),
}

impl GenerateEvent {
    /// An event as it travels; `None` for one that has no form here.
    pub fn of(event: AnswerEvent) -> Option<Self> {
        Some(match event {
            AnswerEvent::Waiting(wait) => Self::Waiting(WaitEvent::of(wait)?),
            AnswerEvent::Granted { model, tier, queue_ms, load_ms } => {
                Self::Granted { model, tier, queue_ms, load_ms }
            }
            AnswerEvent::Prefilling { computed, of } => Self::Prefilling { computed, of },
            AnswerEvent::Prefilled { usage } => Self::Prefilled { usage },
            AnswerEvent::Text { text, logprob } => Self::Text { text, logprob },
            AnswerEvent::Thinking { text } => Self::Thinking { text },
            AnswerEvent::ToolCall { index, id, name } => Self::ToolCall { index, id, name },
            AnswerEvent::ToolArguments { index, text } => Self::ToolArguments { index, text },
            AnswerEvent::Embedded(embedded) => Self::Embedded(embedded),
            AnswerEvent::Done(summary) => Self::Done(summary),
            AnswerEvent::Failed(failure) => Self::Failed(failure),
            _ => return None,
        })
    }
}

impl From<GenerateEvent> for AnswerEvent {
    fn from(event: GenerateEvent) -> Self {
        match event {
            GenerateEvent::Waiting(wait) => Self::Waiting(wait.into()),
            GenerateEvent::Granted { model, tier, queue_ms, load_ms } => {
                Self::Granted { model, tier, queue_ms, load_ms }
            }
            GenerateEvent::Prefilling { computed, of } => Self::Prefilling { computed, of },
            GenerateEvent::Prefilled { usage } => Self::Prefilled { usage },
            GenerateEvent::Text { text, logprob } => Self::Text { text, logprob },
            GenerateEvent::Thinking { text } => Self::Thinking { text },
            GenerateEvent::ToolCall { index, id, name } => Self::ToolCall { index, id, name },
            GenerateEvent::ToolArguments { index, text } => Self::ToolArguments { index, text },
            GenerateEvent::Embedded(embedded) => Self::Embedded(embedded),
            GenerateEvent::Done(summary) => Self::Done(summary),
            GenerateEvent::Failed(failure) => Self::Failed(failure),
        }
    }
}
