//! The bodies of the admin API, for both of its ends: the daemon that answers and the client that asks.
//!
//! ```text
//!   POST /admin/generate   GenerateBody ──► one GenerateEvent a line   (NDJSON)
//!   POST /admin/warm       WarmBody     ──► one WarmEvent a line       (NDJSON)
//!   POST /admin/pack       PackBody     ──► one PackEvent a line       (NDJSON)
//!   POST /admin/pin        PinBody      ──► {}
//!   POST /admin/unload     UnloadBody   ──► Unloaded
//!   POST /admin/shutdown   ShutdownBody ──► ShutdownAnswer
//!   GET  /admin/stats                   ──► DaemonStats
//!   GET  /admin/models                  ──► ModelList
//!   GET  /admin/why?model=NAME          ──► WhyAnswer
//! ```
//!
//! Every error is a [`Failure`] as JSON, with the status of its kind; in a stream it is the last event.
//! This is the only part of the server's wire that others may name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use samovar::store::Progress;
use samovar::{
    AnswerEvent, Decision, Input, Message, ModelInfo, Origin, PackedInfo, Request, Summary, Tier, Wait,
};
use samovar_core::generation::{Sampling, TokenLogprob, Usage};
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

/// Asks for text. Every field but `model` and `input` may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateBody {
    /// The model reference, as the user wrote it; files relative to the daemon, so send absolute paths.
    pub model: String,
    /// What the model is given.
    pub input: GenerateInput,
    /// How tokens are chosen.
    #[serde(default)]
    pub sampling: Sampling,
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
        Request {
            sampling: self.sampling,
            max_tokens: self.max_tokens,
            stop: self.stop,
            logprobs: self.logprobs,
            ignore_eos: self.ignore_eos,
            deadline: self.deadline_ms.map(Duration::from_millis),
            keep_alive: self.keep_alive,
            client: self.client,
            origin,
            ..Request::new(self.model, input)
        }
    }
}

impl From<Request> for GenerateBody {
    fn from(request: Request) -> Self {
        let input = match request.input {
            Input::Chat(messages) => GenerateInput::Chat(messages),
            Input::Text(text) => GenerateInput::Text(text),
            Input::Tokens(tokens) => GenerateInput::Tokens(tokens),
        };
        Self {
            model: request.model,
            input,
            sampling: request.sampling,
            max_tokens: request.max_tokens,
            stop: request.stop,
            logprobs: request.logprobs,
            ignore_eos: request.ignore_eos,
            deadline_ms: request.deadline.map(|deadline| deadline.as_millis() as u64),
            keep_alive: request.keep_alive,
            client: request.client,
        }
    }
}

/// What a request waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitEvent {
    /// The model is not on this machine yet.
    Fetching(Progress),
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

impl From<Wait> for WaitEvent {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Fetching(progress) => Self::Fetching(progress),
            Wait::Queued { position, estimate_ms } => Self::Queued { position, estimate_ms },
            Wait::Loading { fraction, instance, of } => Self::Loading { fraction, instance, of },
            Wait::Resuming => Self::Resuming,
        }
    }
}

impl From<WaitEvent> for Wait {
    fn from(wait: WaitEvent) -> Self {
        match wait {
            WaitEvent::Fetching(progress) => Self::Fetching(progress),
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
        tier: Tier,
        /// Milliseconds waited for a slot.
        queue_ms: f64,
        /// Milliseconds waited for a load or resume.
        load_ms: f64,
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
    /// The answer is complete, or complete as far as its deadline let it be.
    Done(Summary),
    /// The answer broke off.
    Failed(Failure),
}

impl From<AnswerEvent> for GenerateEvent {
    fn from(event: AnswerEvent) -> Self {
        match event {
            AnswerEvent::Waiting(wait) => Self::Waiting(wait.into()),
            AnswerEvent::Granted { model, tier, queue_ms, load_ms } => {
                Self::Granted { model, tier, queue_ms, load_ms }
            }
            AnswerEvent::Prefilled { usage } => Self::Prefilled { usage },
            AnswerEvent::Text { text, logprob } => Self::Text { text, logprob },
            AnswerEvent::Done(summary) => Self::Done(summary),
            AnswerEvent::Failed(failure) => Self::Failed(failure),
        }
    }
}

impl From<GenerateEvent> for AnswerEvent {
    fn from(event: GenerateEvent) -> Self {
        match event {
            GenerateEvent::Waiting(wait) => Self::Waiting(wait.into()),
            GenerateEvent::Granted { model, tier, queue_ms, load_ms } => {
                Self::Granted { model, tier, queue_ms, load_ms }
            }
            GenerateEvent::Prefilled { usage } => Self::Prefilled { usage },
            GenerateEvent::Text { text, logprob } => Self::Text { text, logprob },
            GenerateEvent::Done(summary) => Self::Done(summary),
            GenerateEvent::Failed(failure) => Self::Failed(failure),
        }
    }
}

/// Asks for a model to be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmBody {
    /// The model reference.
    pub model: String,
    /// Keep it from being parked or unloaded by the pool afterwards.
    #[serde(default)]
    pub pin: bool,
}

/// One line of a load's progress; the last is `done` or `failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarmEvent {
    /// The load waits or gets on.
    Waiting(WaitEvent),
    /// The model is ready.
    Done {
        /// How long it took, in milliseconds.
        took_ms: f64,
    },
    /// The model could not be made ready.
    Failed(Failure),
}

/// Asks for a model's weights to be packed now, and for its layouts to be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackBody {
    /// The model reference.
    pub model: String,
}

/// One line of a packing's progress; the last is `done` or `failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackEvent {
    /// The model is not on this machine yet.
    Waiting(WaitEvent),
    /// It gets on: first the file, then the measuring.
    Progress {
        /// The part done, 0..=1.
        fraction: f32,
    },
    /// What was made and measured, or was there already.
    Done(PackedInfo),
    /// The model could not be packed.
    Failed(Failure),
}

/// Pins a model, or lets it go again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinBody {
    /// The model reference.
    pub model: String,
    /// Whether the pool must keep it.
    pub pinned: bool,
}

/// Unloads one model or all: exactly one of the two is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnloadBody {
    /// The model reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Every model.
    #[serde(default)]
    pub all: bool,
}

impl UnloadBody {
    /// The model to unload, `None` for all.
    ///
    /// # Errors
    /// `InvalidRequest` unless exactly one of the two is given.
    pub fn target(self) -> Result<Option<String>, Failure> {
        match (self.model, self.all) {
            (Some(model), false) => Ok(Some(model)),
            (None, true) => Ok(None),
            _ => Err(Failure::new(ErrorKind::InvalidRequest, "give either `model` or `all: true`")
                .with_param("model")),
        }
    }
}

/// What an unload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unloaded {
    /// Instances that are unloaded or will be as soon as nothing uses them.
    pub instances: u32,
}

/// Asks the daemon to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownBody {
    /// How long running requests may take to end, in milliseconds; absent = as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

/// What the daemon says before it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownAnswer {
    /// Its process id, so that a client can see it end.
    pub pid: u32,
    /// Requests that it still waits for.
    pub requests_in_flight: u32,
}

/// Numbers of the runtime, and of the daemon around it. `S` is [`samovar::Stats`] where they are written; those
/// who read them may take any part they know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DaemonStats<S = Map<String, Value>> {
    /// Process id of the daemon.
    pub pid: u32,
    /// Where it listens for HTTP.
    pub listen: Option<SocketAddr>,
    /// Its Unix socket.
    pub socket: Option<PathBuf>,
    /// Requests being answered.
    pub requests_in_flight: u32,
    /// Milliseconds since the last request ended; 0 while one is being answered.
    pub idle_ms: u64,
    /// The runtime's own numbers.
    #[serde(flatten)]
    pub stats: S,
}

/// Every model that requests may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// The models.
    pub models: Vec<ModelInfo>,
}

/// The pool's latest decisions about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyAnswer {
    /// The model that was asked about.
    pub model: String,
    /// Newest first.
    pub decisions: Vec<Decided>,
    /// How its weights lie, and why; absent when it is not on this machine any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<PackedInfo>,
}

/// A decision of the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// How long ago, in milliseconds.
    pub at_ms_ago: u64,
    /// The model's name.
    pub model: String,
    /// What was done with it.
    pub what: String,
    /// Why, as data.
    pub reason: Value,
    /// The same as a sentence.
    pub text: String,
}

impl From<Decision> for Decided {
    fn from(decision: Decision) -> Self {
        let data =
            |value: Result<Value, serde_json::Error>| value.expect("invariant: decisions are plain data");
        let what = data(serde_json::to_value(decision.what));
        Self {
            at_ms_ago: decision.at_ms_ago,
            model: decision.model,
            what: what.as_str().map_or_else(|| what.to_string(), str::to_owned),
            reason: data(serde_json::to_value(decision.reason)),
            text: decision.text,
        }
    }
}
