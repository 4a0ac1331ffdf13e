//! What can go wrong between a published model and its answers.

use std::io;
use std::path::PathBuf;

use samovar_core::units::waiting_requests;
use samovar_core::{ErrorKind, Failure, system_words};

/// A failed action of the candle engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Something of a model that this engine does not compute.
    #[error("candle does not run {what}")]
    UnknownModel { what: String },
    /// Files of a model that contradict each other.
    #[error("the model's files disagree: {detail}")]
    Disagree { detail: String },
    /// A tokenizer that cannot be read.
    #[error("the model's tokenizer cannot be used: {detail}")]
    Tokenizer { detail: String },
    /// A file of weights that cannot be read.
    #[error("cannot read {}: {}", .path.display(), system_words(.source))]
    Read { path: PathBuf, source: io::Error },
    /// Weights that are no numbers.
    #[error("the tensor {0} has weights that are no finite numbers")]
    WeightsNotFinite(String),
    /// The load was cancelled by its caller.
    #[error("loading the model was cancelled")]
    LoadCancelled,
    /// An option of the load that this engine does not have.
    #[error("cannot load this model with candle: {detail}")]
    Options { detail: String },
    /// candle refused an operation.
    #[error("candle failed to compute: {0}")]
    Compute(#[from] candle_core::Error),
    /// No thread for the instance.
    #[error("no thread for the model: {detail}")]
    Thread { detail: String },
    /// No token had a probability.
    #[error("no token can be chosen: every token is banned, or the model computed no numbers")]
    NoToken,
    /// Something of a request that this engine lacks.
    #[error("candle, which runs this model, {what}")]
    Lacks { what: &'static str, param: &'static str, hint: &'static str },
    /// The prompt alone fills the context. Clients know it by its first words.
    #[error(
        "prompt is too long: it has {prompt} tokens, but the context holds {context} and one must be left for the answer"
    )]
    PromptTooLong { prompt: usize, context: u32 },
    /// The same, as its length says before it is tokenized.
    #[error("prompt is too long: at least {prompt} tokens, but the context holds {context}")]
    PromptFarTooLong { prompt: usize, context: u32 },
    /// A conversation of more messages than the context has tokens.
    #[error("prompt is too long: {messages} messages, but the context holds {context} tokens")]
    TooManyMessages { messages: u32, context: u32 },
    /// No caller waits for the prompt any more.
    #[error("the request for this prompt was cancelled")]
    PromptUnwanted,
    /// Nothing to continue.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A gap is to be filled in.
    #[error("this model does not fill in text when candle runs it")]
    NoInfill,
    /// A token id that the vocabulary does not have.
    #[error("token {token} is outside the vocabulary of {vocabulary} tokens")]
    UnknownToken { token: u32, vocabulary: u32 },
    /// The model writes no text.
    #[error("{architecture} models generate no text")]
    NotGenerative { architecture: String },
    /// The model makes no vectors, or was not loaded to.
    #[error("this model makes no vectors of texts")]
    NoVectors,
    /// Scores are asked of a model that makes vectors.
    #[error("this model makes vectors of texts, and no scores")]
    NoScores,
    /// Vectors are asked of a model that makes scores.
    #[error("this model makes scores of texts, and no vectors")]
    OnlyScores,
    /// A pair that is to become a vector.
    #[error("a pair of a query and a document becomes a score, not a vector")]
    PairForVector { index: usize },
    /// An input without any token.
    #[error("an input is empty")]
    EmptyInput { index: usize },
    /// An input that the model cannot read at once.
    #[error("an input is too long: it has {tokens} tokens, but the model reads {limit} at once")]
    InputTooLong { index: usize, tokens: usize, limit: u32 },
    /// More numbers than a vector has, or none.
    #[error("a vector of this model has 1 to {width} dimensions, not {wanted}")]
    Dimensions { wanted: u32, width: usize },
    /// Numbers that are none.
    #[error("the model computed no finite numbers for an input")]
    InputNotFinite { index: usize },
    /// The instance is parked.
    #[error("the model is parked")]
    Parked,
    /// The instance's thread has ended or is ending.
    #[error("the model has been unloaded")]
    Gone,
    /// More requests wait inside the instance than it keeps.
    #[error("{} for this model already", waiting_requests(*waiting))]
    TooManyWaiting { waiting: usize },
}

impl Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownModel { .. }
            | Self::Tokenizer { .. }
            | Self::Lacks { .. }
            | Self::NotGenerative { .. }
            | Self::NoVectors
            | Self::NoScores
            | Self::OnlyScores => ErrorKind::Unsupported,
            Self::Disagree { .. } | Self::WeightsNotFinite(_) => ErrorKind::InvalidModel,
            Self::Read { .. } => ErrorKind::Storage,
            Self::LoadCancelled | Self::PromptUnwanted => ErrorKind::Cancelled,
            Self::Options { .. }
            | Self::EmptyPrompt
            | Self::NoInfill
            | Self::UnknownToken { .. }
            | Self::PairForVector { .. }
            | Self::EmptyInput { .. }
            | Self::Dimensions { .. } => ErrorKind::InvalidRequest,
            Self::PromptTooLong { .. }
            | Self::PromptFarTooLong { .. }
            | Self::TooManyMessages { .. }
            | Self::InputTooLong { .. } => ErrorKind::ContextExceeded,
            Self::Parked | Self::Gone => ErrorKind::Unavailable,
            Self::TooManyWaiting { .. } => ErrorKind::Busy,
            Self::Compute(_) | Self::Thread { .. } | Self::NoToken | Self::InputNotFinite { .. } => {
                ErrorKind::EngineFailed
            }
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UnknownModel { .. } => {
                Some("take `engine` out of the model's settings, so that it is prepared for llama.cpp")
            }
            Self::Disagree { .. } => Some("take all files from the same revision of the model"),
            Self::WeightsNotFinite(_) => {
                Some("fetch the model again; if its source has the same files, tell its author")
            }
            Self::Tokenizer { .. } => Some("look for a revision with a sound tokenizer.json"),
            Self::Lacks { hint, .. } => Some(hint),
            Self::Options { .. } => Some("change the model's settings, or set engine = \"llama\" there"),
            Self::Thread { .. } => Some("the system may be out of threads or memory"),
            Self::NoToken => Some("look at logit_bias; if it bans nothing, the model's files may be damaged"),
            Self::PromptTooLong { .. } | Self::PromptFarTooLong { .. } | Self::TooManyMessages { .. } => {
                Some("shorten the prompt")
            }
            Self::NotGenerative { .. } => Some("choose a model that was made to generate text"),
            Self::NoInfill => Some("choose a GGUF model with FIM tokens, such as Qwen2.5-Coder"),
            Self::NoVectors | Self::OnlyScores => Some("choose a model that was made for embeddings"),
            Self::NoScores => Some("choose a model that was made for reranking"),
            Self::InputTooLong { .. } => Some("divide the text, or let it be cut: truncate"),
            Self::InputNotFinite { .. } => Some("the model's files may be damaged: get them again"),
            _ => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = Self::new(error.kind(), error.to_string());
        if let Some(hint) = error.hint() {
            failure = failure.with_hint(hint);
        }
        match error {
            Error::PromptTooLong { .. } | Error::PromptFarTooLong { .. } | Error::EmptyPrompt => {
                failure.with_param("prompt")
            }
            Error::TooManyMessages { .. } => failure.with_param("messages"),
            Error::Dimensions { .. } => failure.with_param("dimensions"),
            Error::Lacks { param, .. } => failure.with_param(param),
            Error::UnknownModel { .. } | Error::Disagree { .. } | Error::Tokenizer { .. } => {
                failure.with_param("model")
            }
            Error::PairForVector { index }
            | Error::EmptyInput { index }
            | Error::InputTooLong { index, .. }
            | Error::InputNotFinite { index } => failure.with_param(format!("input[{index}]")),
            _ => failure,
        }
    }
}
