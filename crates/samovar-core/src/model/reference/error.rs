//! Why a text names no model, and what to write instead.

use super::{HUB_SCHEME, MAX_BYTES};
use crate::digest::ParseDigestError;
use crate::error::{ErrorKind, Failure};

/// Text that names no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// Nothing but white space.
    #[error("the model reference is empty")]
    Empty,
    /// Too long to be one.
    #[error("the model reference has {0} bytes, {MAX_BYTES} is the limit")]
    TooLong(usize),
    /// A control character, NUL among them.
    #[error("the model reference holds the control character {0:?}")]
    ControlCharacter(char),
    /// White space around it.
    #[error("the model reference begins or ends with white space")]
    Padded,
    /// A scheme that no source here serves.
    #[error("model references of the scheme {scheme:?} are not known")]
    Scheme {
        /// What stands before `://`.
        scheme: String,
        /// What to write instead.
        instead: String,
    },
    /// An address of the hub behind which there is no model.
    #[error("{0:?} is a page of the hub that shows no model")]
    HubPage(String),
    /// An address of the hub with a digest behind it.
    #[error("{0:?} is a page of the hub, and a digest behind # is not checked there")]
    HubDigest(String),
    /// A path from `~`, which only a shell expands.
    #[error("the path {0:?} begins with ~, which only a shell expands")]
    Tilde(String),
    /// A part of a reference that cannot be one.
    #[error("{text:?} is not {what}: {reason}")]
    Part {
        /// Which part.
        what: &'static str,
        /// Its text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Several separators, but neither a path nor a hub reference.
    #[error("{0:?} is neither a path nor organisation/name")]
    Shape(String),
    /// A user name, password or token inside a URL. The text is not repeated here.
    #[error("the model reference holds {what}, which would be written into the store's index")]
    Secret {
        /// What it holds.
        what: &'static str,
    },
    /// Something behind `#` that is no digest at all.
    #[error("{0:?} behind # is not a digest")]
    Fragment(String),
    /// A digest of another kind than SHA-256.
    #[error("digests of the kind {0:?} cannot be checked here, only sha256 can")]
    Algorithm(String),
    /// A SHA-256 digest that is none.
    #[error("the digest behind # is not sound: {0}")]
    Digest(ParseDigestError),
    /// A model, but none that a store fetches from another place.
    #[error("{0:?} names nothing that is fetched from another place")]
    NotFetched(String),
}

impl ParseReferenceError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            Self::Scheme { instead, .. } => instead.clone(),
            Self::HubPage(_) => "write hf://organisation/name, or hf://organisation/name/file.gguf".to_owned(),
            Self::HubDigest(_) => {
                "leave the digest out: files of the hub are checked by what the hub lists; \
                 to stay with one state write hf://organisation/name@commit/file.gguf"
                    .to_owned()
            }
            Self::Tilde(_) => "write the whole path".to_owned(),
            Self::Shape(text) if text.starts_with(HUB_SCHEME) => {
                "write hf://organisation/name, or hf://organisation/name/file.gguf".to_owned()
            }
            Self::Shape(text) => format!("for a file write ./{text}"),
            Self::Secret { .. } => {
                "leave it out: credentials come from the environment and the configuration".to_owned()
            }
            Self::Fragment(_) | Self::Algorithm(_) | Self::Digest(_) => {
                "write #sha256= and 64 hexadecimal digits, or leave it out".to_owned()
            }
            Self::NotFetched(_) => {
                "write organisation/name, or a URL such as https://host/model.gguf".to_owned()
            }
            _ => {
                "write demo, ./file.gguf, an alias from the configuration, organisation/name:quantization, or a URL"
                    .to_owned()
            }
        }
    }
}

impl From<ParseReferenceError> for Failure {
    fn from(error: ParseReferenceError) -> Self {
        let hint = error.hint();
        Self::new(ErrorKind::InvalidRequest, error.to_string()).with_hint(hint).with_param("model")
    }
}
