//! Quantities as people write them: `4GB`, `5m`, `-1`.
//!
//! ```text
//!   ByteSize    4GB  512MiB  1.5 GiB  4096
//!   TimeSpan    300  5m  1h30m  250ms
//!   KeepAlive   a TimeSpan, or -1 (until evicted), or 0 (park at once)
//! ```
//! Nothing here guesses: text that could mean two things is refused with what to write instead.

mod byte_size;
mod counted;
mod keep_alive;
mod time_span;

pub use byte_size::ByteSize;
pub use counted::{counted, waiting_requests};
pub use keep_alive::KeepAlive;
pub use time_span::TimeSpan;

/// Text that is not the quantity it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}: {reason}")]
pub struct ParseUnitError {
    /// What was expected, such as `a size`.
    pub expected: &'static str,
    /// The text, cut to 64 characters.
    pub text: String,
    /// What is wrong with it and what to write instead.
    pub reason: String,
}

impl ParseUnitError {
    fn new(expected: &'static str, text: &str, reason: impl Into<String>) -> Self {
        Self { expected, text: text.chars().take(64).collect(), reason: reason.into() }
    }
}

impl From<ParseUnitError> for crate::Failure {
    fn from(error: ParseUnitError) -> Self {
        Self::new(crate::ErrorKind::InvalidRequest, error.to_string())
    }
}
