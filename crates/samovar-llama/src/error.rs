//! What can go wrong between a request and the native code.

use std::path::{Path, PathBuf};

use samovar_core::embedding::INPUTS_MAX;
use samovar_core::units::{counted, waiting_requests};
use samovar_core::{ErrorKind, Failure};

use crate::adapter_set::MOST_ADAPTERS;
use crate::context::DecodeError;
use crate::log;

/// A failed action of the llama.cpp engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// llama.cpp refused the file.
    #[error("llama.cpp could not load {}: {detail}", path.display())]
    Load {
        /// The model file.
        path: PathBuf,
        /// What the native code said, or that it said nothing.
        detail: String,
    },
    /// Not all files of a model were given, or too many.
    #[error("cannot load {}: the model has its weights in {}, and {given} were given", path.display(), counted(*parts, "file"))]
    Parts {
        /// The first file.
        path: PathBuf,
        /// How many files with weights the model has.
        parts: u32,
        /// How many were given.
        given: usize,
    },
    /// The load was cancelled by its caller.
    #[error("loading {} was cancelled", path.display())]
    LoadCancelled {
        /// The model file.
        path: PathBuf,
    },
    /// An option or a fact of the header makes no sense.
    #[error("cannot load this model: {detail}")]
    Options {
        /// Which, and why.
        detail: String,
    },
    /// A model cannot be the draft model of another one.
    #[error("{} cannot be the draft model of {}: {why}", draft.display(), model.display())]
    Draft {
        /// The model file.
        model: PathBuf,
        /// The draft model's file.
        draft: PathBuf,
        /// Why.
        why: String,
    },
    /// The model is of a kind that generates no text.
    #[error("{architecture} models generate no text")]
    NotGenerative {
        /// `general.architecture` of the file.
        architecture: String,
    },
    /// No thread for the instance.
    #[error("no thread for the model: {detail}")]
    Thread {
        /// What the system said.
        detail: String,
    },
    /// No KV cache or compute buffers.
    #[error("llama.cpp could not make a context of {cells} tokens: {detail}")]
    Context {
        /// Tokens that were asked for.
        cells: u32,
        /// What the native code said, or that it said nothing.
        detail: String,
    },
    /// A step of inference failed.
    #[error("llama.cpp failed to compute ({code}): {detail}")]
    Decode {
        /// The native code's answer.
        code: i32,
        /// What it logged, or that it said nothing.
        detail: String,
    },
    /// No token had a probability.
    #[error("no token can be chosen: every token is banned, or the model computed no numbers")]
    NoToken,
    /// The prompt alone fills the context. Clients know it by its words: `LangChain` and litellm by the first four.
    #[error(
        "prompt is too long: it has {prompt} tokens, but the context holds {context} and one must be left for the answer"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of context of one slot.
        context: u32,
    },
    /// The prompt does not fit the context, as its length says before it is tokenized to its end.
    #[error("prompt is too long: at least {prompt} tokens, but the context holds {context}")]
    PromptFarTooLong {
        /// Tokens that the prompt has at least.
        prompt: usize,
        /// Tokens of context of one slot.
        context: u32,
    },
    /// A conversation of more messages than the context has tokens.
    #[error("prompt is too long: {messages} messages, but the context holds {context} tokens")]
    TooManyMessages {
        /// Messages of the conversation.
        messages: u32,
        /// Tokens of context of one slot.
        context: u32,
    },
    /// A gap is to be filled in by a model that was not made for it.
    #[error("this model does not fill in text: its file has no fill-in-the-middle (FIM) tokens")]
    NoInfill,
    /// No caller waits for the prompt any more.
    #[error("the request for this prompt was cancelled")]
    PromptUnwanted,
    /// Nothing to continue.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The model was loaded to write text alone.
    #[error("this model makes no vectors of texts")]
    NoVectors,
    /// Scores are asked of a model that makes vectors.
    #[error("this model makes vectors of texts, and no scores")]
    NoScores,
    /// Vectors are asked of a model that makes scores.
    #[error("this model makes scores of texts, and no vectors")]
    OnlyScores,
    /// Scores are to be made without a classifier.
    #[error("cannot load this model to score texts: its file has no classifier (cls.output.weight)")]
    NoClassifier,
    /// Nothing says how a query and a document become one text.
    #[error("this model's file does not say how a query and a document are joined")]
    NoPairs,
    /// A pair that is to become a vector.
    #[error("a pair of a query and a document becomes a score, not a vector")]
    PairForVector {
        /// The input's place.
        index: usize,
    },
    /// Nothing to make vectors of.
    #[error("there are no inputs")]
    NoInputs,
    /// More inputs than one request may have.
    #[error("one request may have {INPUTS_MAX} inputs, not {count}")]
    TooManyInputs {
        /// How many it has.
        count: usize,
    },
    /// An input without any token.
    #[error("an input is empty")]
    EmptyInput {
        /// Its place.
        index: usize,
    },
    /// An input that the model cannot read at once.
    #[error("an input is too long: it has {tokens} tokens, but the model reads {limit} at once")]
    InputTooLong {
        /// Its place.
        index: usize,
        /// Its tokens, special ones included.
        tokens: usize,
        /// Tokens of one input at most.
        limit: u32,
    },
    /// The same, as is known before all of it was read.
    #[error("an input is too long: it has at least {tokens} tokens, but the model reads {limit} at once")]
    InputFarTooLong {
        /// Its place.
        index: usize,
        /// Tokens that it has at least.
        tokens: usize,
        /// Tokens of one input at most.
        limit: u32,
    },
    /// A query that leaves no room for a document.
    #[error(
        "a query is too long: with what joins it to a document it has {tokens} tokens, but the model reads {limit} at once"
    )]
    QueryTooLong {
        /// The input's place.
        index: usize,
        /// Tokens of all but the document.
        tokens: usize,
        /// Tokens of one input at most.
        limit: u32,
    },
    /// More numbers than a vector has, or none.
    #[error("a vector of this model has 1 to {width} dimensions, not {wanted}")]
    Dimensions {
        /// How many are asked for.
        wanted: u32,
        /// How many there are.
        width: usize,
    },
    /// Numbers that are none.
    #[error("the model computed no finite numbers for an input")]
    NotFinite {
        /// The input's place.
        index: usize,
    },
    /// A token id that the vocabulary does not have.
    #[error("token {token} is outside the vocabulary of {vocabulary} tokens")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocabulary: u32,
    },
    /// A text too long to be tokenized at all.
    #[error("prompt is too long: a text of {bytes} bytes cannot be tokenized")]
    TextTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Reading a text came to an end before the text did.
    #[error("the prompt could not be tokenized")]
    NotTokenized,
    /// llama.cpp refused an adapter.
    #[error("llama.cpp could not load the adapter {}: {detail}", path.display())]
    Adapter {
        /// Its file.
        path: PathBuf,
        /// What the native code said, or that it said nothing.
        detail: String,
    },
    /// An adapter's file is not to be had.
    #[error("cannot use this adapter: {detail}")]
    AdapterFile {
        /// The file.
        path: PathBuf,
        /// What the system said; it names the path.
        detail: String,
    },
    /// A scale that is no number.
    #[error("the adapter {} cannot be scaled by {scale}", path.display())]
    AdapterScale {
        /// The adapter's file.
        path: PathBuf,
        /// The scale.
        scale: String,
    },
    /// More adapters than one request may name.
    #[error("a request may name {MOST_ADAPTERS} adapters, not {count}")]
    TooManyAdapters {
        /// How many it names.
        count: usize,
    },
    /// State that was to be saved is not there any more.
    #[error("this prompt state has been given up meanwhile")]
    PrefixGone,
    /// Saved state that is no use to this model.
    #[error("cannot take this prompt state in: {detail}")]
    SavedState {
        /// What is wrong with it.
        detail: String,
    },
    /// The file of saved state cannot be written or read.
    #[error("cannot {action} prompt state: {detail}")]
    StateFile {
        /// Write or read.
        action: &'static str,
        /// What the system said.
        detail: String,
    },
    /// Nothing of a model can be packed, or what was packed computes something else.
    #[error("cannot pack {}: {detail}", path.display())]
    NotPacked {
        /// The model file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// A model cannot be read, to be packed.
    #[error("cannot read {} to pack it: {detail}", path.display())]
    PackSource {
        /// The model file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// No memory to pack a tensor in.
    #[error("there is no memory to pack {tensor}, which has {bytes} bytes")]
    PackMemory {
        /// Its name.
        tensor: String,
        /// Its bytes in the model.
        bytes: u64,
    },
    /// A packed file could not be looked at: nothing is known about it.
    #[error("the packed weights of {} could not be used: {detail}", path.display())]
    PackedUnseen {
        /// The model file.
        path: PathBuf,
        /// What was in the way.
        detail: String,
    },
    /// A packed file cannot be written or read.
    #[error("cannot {action} packed weights: {detail}")]
    PackedFile {
        /// Write or read.
        action: &'static str,
        /// What the system said.
        detail: String,
    },
    /// The native code gave fewer bytes of state than it had announced.
    #[error("llama.cpp could not write the prompt's state: {detail}")]
    StateWrite {
        /// What it logged, or that it said nothing.
        detail: String,
    },
    /// State of this kind of model is of no use once it is cut.
    #[error("prompt state of recurrent models is not saved")]
    UnsavableState,
    /// An answer is to be bound, and nothing would end it.
    #[error("this model's vocabulary has no token that ends an answer")]
    NoEnd,
    /// What binds an answer has failed before.
    #[error("what binds this answer cannot be followed any further")]
    NoRules,
    /// A thought that was to come before what is bound ended within a token that says more.
    #[error("the model went on behind its thought where nothing binds its answer")]
    Unbound,
    /// No sequence or no cells for state that is to be restored.
    #[error("every sequence of the model is in use")]
    NoSequence,
    /// The instance is parked.
    #[error("the model is parked")]
    Parked,
    /// The instance's thread has ended or is ending.
    #[error("the model has been unloaded")]
    Gone,
    /// The instance has failed too often in a row.
    #[error("the model failed {} in a row and was given up: {detail}", counted(*failures, "time"))]
    Dead {
        /// Failed steps without a good one between them.
        failures: u32,
        /// The last failure.
        detail: String,
    },
    /// More requests wait inside the instance than it keeps.
    #[error("{} for this model already", waiting_requests(*waiting))]
    TooManyWaiting {
        /// How many.
        waiting: usize,
    },
}

impl Error {
    /// Why llama.cpp made no model of this file, as it logged it.
    pub(crate) fn not_loaded(path: &Path, is_cancelled: bool) -> Self {
        let (path, detail) = (path.to_owned(), log::take_complaints());
        if is_cancelled { Self::LoadCancelled { path } } else { Self::Load { path, detail } }
    }

    /// Why a model that is being looked at computed nothing.
    pub(crate) fn not_computed(path: &Path, error: DecodeError) -> Self {
        let code = match error {
            DecodeError::Interrupted => return Self::LoadCancelled { path: path.to_owned() },
            DecodeError::NoRoom => 1,
            DecodeError::Failed(code) => code,
        };
        Self::Decode { code, detail: log::take_complaints() }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Load { .. } | Self::Adapter { .. } => ErrorKind::InvalidModel,
            Self::LoadCancelled { .. } | Self::PromptUnwanted => ErrorKind::Cancelled,
            Self::Options { .. }
            | Self::Parts { .. }
            | Self::Draft { .. }
            | Self::EmptyPrompt
            | Self::NoInfill
            | Self::UnknownToken { .. }
            | Self::AdapterScale { .. }
            | Self::TooManyAdapters { .. }
            | Self::PairForVector { .. }
            | Self::NoInputs
            | Self::TooManyInputs { .. }
            | Self::EmptyInput { .. }
            | Self::Dimensions { .. }
            | Self::SavedState { .. } => ErrorKind::InvalidRequest,
            Self::PrefixGone | Self::AdapterFile { .. } => ErrorKind::NotFound,
            Self::NotGenerative { .. }
            | Self::NoVectors
            | Self::NoScores
            | Self::OnlyScores
            | Self::NoClassifier
            | Self::NoPairs
            | Self::UnsavableState
            | Self::NoEnd
            | Self::NotPacked { .. } => ErrorKind::Unsupported,
            Self::StateFile { .. } | Self::PackedFile { .. } | Self::PackSource { .. } => ErrorKind::Storage,
            Self::PromptTooLong { .. }
            | Self::PromptFarTooLong { .. }
            | Self::TooManyMessages { .. }
            | Self::InputTooLong { .. }
            | Self::InputFarTooLong { .. }
            | Self::QueryTooLong { .. }
            | Self::TextTooLong { .. } => ErrorKind::ContextExceeded,
            Self::Parked | Self::Gone => ErrorKind::Unavailable,
            Self::TooManyWaiting { .. } | Self::NoSequence => ErrorKind::Busy,
            Self::Thread { .. }
            | Self::Context { .. }
            | Self::Decode { .. }
            | Self::StateWrite { .. }
            | Self::PackMemory { .. }
            | Self::PackedUnseen { .. }
            | Self::NotTokenized
            | Self::NoToken
            | Self::NotFinite { .. }
            | Self::NoRules
            | Self::Unbound
            | Self::Dead { .. } => ErrorKind::EngineFailed,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Load { .. } => Some(
                "the file passed the header checks; it may be of an architecture newer than this build, or cut short",
            ),
            Self::Parts { .. } => Some(
                "give all files of the model, in their order, or join them with `llama-gguf-split --merge`",
            ),
            Self::Draft { .. } => {
                Some("name a smaller model of the same family as `draft` in the model's settings, or none")
            }
            Self::Adapter { .. } => Some("use the adapter with the base model that it was trained for"),
            Self::AdapterFile { .. } => Some("check the path; it must be readable for Samovar"),
            Self::NotGenerative { .. } => Some("choose a model that was made to generate text"),
            Self::NoInfill => Some("choose a model with FIM tokens, such as Qwen2.5-Coder"),
            Self::Thread { .. } => Some("the system may be out of threads or memory"),
            Self::Context { .. } => Some("ask for a smaller context, fewer slots or the q8_0 KV type"),
            Self::PromptTooLong { .. }
            | Self::PromptFarTooLong { .. }
            | Self::TooManyMessages { .. }
            | Self::TextTooLong { .. } => Some("shorten the prompt"),
            Self::InputTooLong { .. } | Self::InputFarTooLong { .. } => {
                Some("divide the text, or let it be cut: truncate")
            }
            Self::QueryTooLong { .. } => Some("shorten the query"),
            Self::NoVectors | Self::OnlyScores => Some("choose a model that was made for embeddings"),
            Self::NoScores | Self::NoClassifier | Self::NoPairs => {
                Some("choose a model that was made for reranking, converted with its classifier")
            }
            Self::NotFinite { .. } => Some("the model file may be damaged: get it again"),
            Self::NotTokenized => Some("the log says why"),
            Self::NoToken => Some("look at logit_bias; if it bans nothing, the model file may be damaged"),
            Self::PackMemory { .. } => Some("it is tried again; the model is loaded without packed weights"),
            Self::PackedUnseen { .. } => Some("it is tried again; the model can be loaded without them"),
            Self::NoEnd => Some("ask without response_format, grammar and forced tools"),
            Self::NoRules | Self::Unbound => Some("ask again"),
            Self::Dead { .. } => Some("the model is loaded again with the next request"),
            _ => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Self::new(error.kind(), error.to_string());
        let failure = match error.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        };
        match error {
            Error::PromptTooLong { .. } | Error::PromptFarTooLong { .. } | Error::EmptyPrompt => {
                failure.with_param("prompt")
            }
            Error::TooManyMessages { .. } => failure.with_param("messages"),
            Error::NoInputs | Error::TooManyInputs { .. } => failure.with_param("input"),
            Error::Dimensions { .. } => failure.with_param("dimensions"),
            Error::PairForVector { index }
            | Error::EmptyInput { index }
            | Error::InputTooLong { index, .. }
            | Error::InputFarTooLong { index, .. }
            | Error::QueryTooLong { index, .. }
            | Error::NotFinite { index } => failure.with_param(format!("input[{index}]")),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_does_not_fit_names_both_numbers() {
        let failure = Failure::from(Error::PromptTooLong { prompt: 5000, context: 4096 });
        assert_eq!(failure.kind, ErrorKind::ContextExceeded);
        assert!(failure.message.starts_with("prompt is too long"), "{failure}");
        assert!(failure.message.contains("5000") && failure.message.contains("4096"));
        assert!(failure.hint.is_some());
    }

    #[test]
    fn an_input_that_is_too_long_names_both_numbers_and_its_place() {
        let failure = Failure::from(Error::InputTooLong { index: 3, tokens: 700, limit: 512 });
        assert_eq!(failure.kind, ErrorKind::ContextExceeded);
        assert!(failure.message.contains("700") && failure.message.contains("512"), "{failure}");
        assert_eq!(failure.param.as_deref(), Some("input[3]"));
    }
}
