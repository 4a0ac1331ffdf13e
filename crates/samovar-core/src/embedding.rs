//! A request for vectors or scores of texts, which is answered as [`TokenEvent`](crate::TokenEvent)s are: each input's
//! [`Embedded`] as soon as it is computed, in any order, then `Done`.

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Failure};

/// One text of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmbedInput {
    /// Text to be tokenized by the model's own vocabulary, whose special tokens are added around it. No text is read as
    /// a special token.
    Text(String),
    /// Token ids as they are; nothing is added.
    Tokens(Vec<u32>),
    /// A query and a document that a reranker reads together, joined as its tokenizer joins pairs.
    Pair {
        /// What is looked for.
        query: String,
        /// What may answer it. Where the pair is too long, this is what is cut.
        document: String,
    },
}

impl EmbedInput {
    /// Bytes of text, and four for each token id.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(tokens) => tokens.len() * size_of::<u32>(),
            Self::Pair { query, document } => query.len() + document.len(),
        }
    }
}

/// What each input becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmbedOutput {
    /// A vector.
    Vector {
        /// So many of its first numbers; `None` = all.
        dimensions: Option<u32>,
        /// Its length becomes 1, after it was cut to its dimensions.
        normalize: bool,
    },
    /// The numbers that the model's classifier says: of a reranker one, how well the document answers the query. Raw, before
    /// any sigmoid or softmax.
    Score,
}

/// What becomes of an input that is longer than the model can read at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncate {
    /// The request is refused, with both counts.
    #[default]
    Refuse,
    /// Its end is left out. Special tokens that end it stay: models read their answer there.
    End,
    /// Its beginning is left out. Special tokens that begin it stay.
    Start,
}

/// How soon the answer is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// A person waits: a query. It is computed before anything of bulk.
    #[default]
    Interactive,
    /// A part of an import, which may take as long as it takes.
    Bulk,
}

/// One request for vectors or scores to one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedRequest {
    /// At least one, at most [`INPUTS_MAX`].
    pub inputs: Vec<EmbedInput>,
    /// What each becomes.
    pub output: EmbedOutput,
    /// What becomes of inputs that are too long.
    pub truncate: Truncate,
    /// How soon the answer is needed.
    pub urgency: Urgency,
}

impl EmbedRequest {
    /// Refuses a request without inputs, and one of too many.
    ///
    /// # Errors
    /// `InvalidRequest`.
    pub fn check_inputs(&self) -> Result<(), Failure> {
        let message = match self.inputs.len() {
            1..=INPUTS_MAX => return Ok(()),
            0 => "the request has no inputs".to_owned(),
            inputs => {
                format!("{inputs} inputs are too many for one request to a model: {INPUTS_MAX} are allowed")
            }
        };
        Err(Failure::new(ErrorKind::InvalidRequest, message).with_param("input"))
    }
}

/// Inputs of one [`EmbedRequest`] at most. A caller that has more sends several, one after the other, so that what waits inside
/// an instance stays small and others come between.
pub const INPUTS_MAX: usize = 256;

/// What an input became.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedded {
    /// The input's place in its request, from 0.
    pub index: u32,
    /// Tokens that were computed for it, special ones included.
    pub tokens: u32,
    /// Whether a part of it was left out, because it was too long.
    pub was_cut: bool,
    /// The vector, or the scores. All finite.
    pub values: Vec<f32>,
}

/// How an encoder makes one vector of all its tokens'.
///
/// *Source:* `enum llama_pooling_type` of llama.cpp; the numbers are those of the GGUF key `{arch}.pooling_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    Last,
    /// A classifier's scores.
    Rank,
}

impl Pooling {
    /// Every one, in the order of the settings' reference.
    pub const ALL: [Self; 4] = [Self::Mean, Self::Cls, Self::Last, Self::Rank];

    /// As settings and reports write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Last => "last",
            Self::Rank => "rank",
        }
    }

    /// The one of this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pooling| pooling.as_str() == word)
    }
}
