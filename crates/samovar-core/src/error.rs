//! Error kinds, and the table that gives each its HTTP status, its code and whether it may be tried again.
//!
//! What only one surface shows of a kind stands in a table of that surface: the types of OpenAI's errors in the server, exit codes
//! in the command line.

use serde::{Deserialize, Serialize};

/// What went wrong, in the terms of the code that must react to it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request itself is wrong and will stay wrong.
    InvalidRequest,
    /// The prompt and the asked answer do not fit the model's context.
    ContextExceeded,
    /// No such model, file or session.
    NotFound,
    /// The model file is damaged, hostile or of a kind that no engine here can run.
    InvalidModel,
    /// The model can never fit the memory budget.
    TooLarge,
    /// The feature exists, but not in this build or not yet.
    Unsupported,
    /// Who asks may not ask this.
    Forbidden,
    /// The request has no key, or none that is valid now.
    Unauthenticated,
    /// The key has used up what it may use in a minute, or at the same time; the same request may succeed later.
    RateLimited,
    /// Everything is in use; the same request may succeed later.
    Busy,
    /// The deadline passed before an answer could begin.
    DeadlineExceeded,
    /// The caller went away or said stop.
    Cancelled,
    /// The daemon is leaving, or is not there.
    Unavailable,
    /// The model could not be loaded or died while it ran.
    EngineFailed,
    /// A source of models contradicted itself, or sent other bytes than it had promised.
    Upstream,
    /// The file system said no: full, read-only, permission.
    Storage,
    /// What should be kept on disk does not fit into the quota, or beside what must stay free.
    InsufficientStorage,
    /// A fault of ours.
    Internal,
}

/// One row of the table: how a kind looks at every surface.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surface {
    /// HTTP status code.
    pub http_status: u16,
    /// A word for it in answers, output and metrics.
    pub code: &'static str,
    /// Whether the same request may succeed when tried again.
    pub may_retry: bool,
}

impl ErrorKind {
    /// Every kind, for the generated reference and for tests.
    pub const ALL: [Self; 18] = [
        Self::InvalidRequest,
        Self::ContextExceeded,
        Self::NotFound,
        Self::InvalidModel,
        Self::TooLarge,
        Self::Unsupported,
        Self::Forbidden,
        Self::Unauthenticated,
        Self::RateLimited,
        Self::Busy,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::Unavailable,
        Self::EngineFailed,
        Self::Upstream,
        Self::Storage,
        Self::InsufficientStorage,
        Self::Internal,
    ];

    /// The table.
    pub const fn surface(self) -> Surface {
        const fn row(http_status: u16, code: &'static str, may_retry: bool) -> Surface {
            Surface { http_status, code, may_retry }
        }
        match self {
            Self::InvalidRequest => row(400, "invalid_request", false),
            Self::ContextExceeded => row(400, "context_length_exceeded", false),
            Self::NotFound => row(404, "model_not_found", false),
            Self::InvalidModel => row(422, "invalid_model", false),
            Self::TooLarge => row(507, "model_too_large", false),
            Self::Unsupported => row(501, "unsupported", false),
            Self::Forbidden => row(403, "forbidden", false),
            Self::Unauthenticated => row(401, "invalid_api_key", false),
            Self::RateLimited => row(429, "rate_limit_exceeded", true),
            Self::Busy => row(503, "busy", true),
            Self::DeadlineExceeded => row(504, "deadline_exceeded", true),
            Self::Cancelled => row(499, "cancelled", true),
            Self::Unavailable => row(503, "unavailable", true),
            Self::EngineFailed => row(500, "engine_failed", true),
            Self::Upstream => row(502, "upstream", true),
            Self::Storage => row(500, "storage", false),
            Self::InsufficientStorage => row(507, "insufficient_storage", false),
            Self::Internal => row(500, "internal", false),
        }
    }
}

/// An error as every surface shows it: a kind, a sentence, and what to do.
///
/// Crates keep their own typed errors; at a boundary each becomes one of these.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What went wrong, in the terms of the table.
    pub kind: ErrorKind,
    /// One sentence that names the failed action and its subject; holds no secret.
    pub message: String,
    /// What the reader can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The request parameter at fault, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// When to try again, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Another try would fail alike, though its kind may pass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_lasting: bool,
}

impl Failure {
    /// A failure without hint, parameter or retry time.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            param: None,
            retry_after_ms: None,
            is_lasting: false,
        }
    }

    /// Whether the same request may succeed when tried again.
    pub fn may_retry(&self) -> bool {
        self.kind.surface().may_retry && !self.is_lasting
    }

    /// The same failure, of which is known that another try would fail alike.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.is_lasting = true;
        self
    }

    /// The same failure in other words.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The same failure with what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with the request parameter at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same failure with when to try again.
    #[must_use]
    pub fn with_retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_not_to_be_tried_again() {
        let late = Failure::new(ErrorKind::DeadlineExceeded, "too late");
        assert!(late.may_retry());
        assert!(!late.lasting().may_retry());
    }

    #[test]
    fn every_kind_has_a_distinct_code_and_a_status_of_failure() {
        let mut codes: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.surface().code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
        for kind in ErrorKind::ALL {
            assert!((400..600).contains(&kind.surface().http_status), "{kind:?}");
        }
    }
}
