//! Why the pool said no.

use samovar_core::units::{ByteSize, TimeSpan, counted, waiting_requests};
use samovar_core::{Arena, ErrorKind, Failure};

/// Why the pool said no. Every variant carries what its reader needs to act on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The model can not be loaded within the budget, whatever else leaves.
    #[error("{model} needs {}{}, but at most {} of the budget of {} can be given to it",
        ByteSize::from_bytes(*needed_bytes), on(*arena), ByteSize::from_bytes(*largest_bytes), ByteSize::from_bytes(*budget_bytes))]
    TooLarge {
        /// The model's name.
        model: String,
        /// What it needs.
        needed_bytes: u64,
        /// What all instances may use together.
        budget_bytes: u64,
        /// The largest thing that would fit: the budget less what is pinned.
        largest_bytes: u64,
        /// Where it does not fit; the bytes are of there.
        arena: Arena,
        /// The context in tokens with which this model would fit, if there is one.
        context_that_fits: Option<u32>,
    },
    /// Too many requests wait already.
    #[error("{} for {model} already", waiting_requests(*queued))]
    Busy {
        /// The model's name.
        model: String,
        /// How many wait: for the model, or in all where that bound was met.
        queued: u32,
        /// When a place should be free, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// Going by what is known, no slot is free before the deadline.
    #[error("{model} is expected to be free in {}, and the request allows {}",
        TimeSpan::from_ms(*expected_ms), TimeSpan::from_ms(*allowed_ms))]
    TooLate {
        /// The model's name.
        model: String,
        /// When the request would be served, in milliseconds from now.
        expected_ms: u64,
        /// When it must have been, in milliseconds from now.
        allowed_ms: u64,
        /// When the same request may be served in time, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// The deadline passed before a slot was free.
    #[error("{}", too_late(model, *waited_ms))]
    DeadlineExceeded {
        /// The model's name.
        model: String,
        /// How long the request waited, in milliseconds.
        waited_ms: u64,
    },
    /// The model could not be loaded.
    #[error("cannot load {model}: {failure}")]
    LoadFailed {
        /// The model's name.
        model: String,
        /// What the engine said.
        failure: Box<Failure>,
        /// When the pool will try again, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// The model could not be loaded a moment ago, by no fault of its file; it is tried again soon.
    #[error("{model} could not be loaded a moment ago, and is tried again in {}: {failure}",
        TimeSpan::from_ms(*retry_after_ms))]
    BackingOff {
        /// The model's name.
        model: String,
        /// What the engine said.
        failure: Box<Failure>,
        /// When the pool will try again, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// The model failed again and again, and is not tried for a while.
    #[error("{model} failed {} within a minute and is not tried for a while: {failure}", counted(*failures, "time"))]
    GivenUp {
        /// The model's name.
        model: String,
        /// How often it failed.
        failures: u32,
        /// What the engine said last.
        failure: Box<Failure>,
        /// When the pool will try again, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// The pool is leaving, or has left.
    #[error("the pool is shutting down")]
    ShuttingDown,
}

/// Where it is, unless that goes without saying.
pub(crate) fn on(arena: Arena) -> String {
    if arena.is_host() { String::new() } else { format!(" on {arena}") }
}

fn too_late(model: &str, waited_ms: u64) -> String {
    match waited_ms {
        0 => format!("the time of the request was over before {model} could be asked"),
        _ => format!("no slot of {model} was free within {}", TimeSpan::from_ms(waited_ms)),
    }
}

impl Error {
    /// The row of the table of kinds.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Busy { .. } | Self::TooLate { .. } => ErrorKind::Busy,
            Self::DeadlineExceeded { .. } => ErrorKind::DeadlineExceeded,
            Self::LoadFailed { failure, .. } => failure.kind,
            Self::BackingOff { .. } | Self::GivenUp { .. } | Self::ShuttingDown => ErrorKind::Unavailable,
        }
    }

    /// What the reader can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooLarge { context_that_fits: Some(tokens), .. } => Some(format!(
                "it would fit with a context of {tokens} tokens; or unpin a model, or raise the memory budget"
            )),
            Self::TooLarge { .. } => {
                Some("use a smaller quantization, unpin a model, or raise the memory budget".into())
            }
            Self::Busy { .. } => Some("try again in a moment, or give the model more slots".into()),
            Self::DeadlineExceeded { waited_ms: 0, .. } => Some("allow more time".into()),
            Self::TooLate { .. } | Self::DeadlineExceeded { .. } => {
                Some("allow more time, or give the model more slots".into())
            }
            Self::LoadFailed { failure, .. } | Self::BackingOff { failure, .. } => failure.hint.clone(),
            Self::GivenUp { model, .. } => Some(format!("`samovar why {model}` shows what happened")),
            Self::ShuttingDown => None,
        }
    }

    /// When the same request may succeed, in milliseconds from now.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Busy { retry_after_ms, .. }
            | Self::TooLate { retry_after_ms, .. }
            | Self::LoadFailed { retry_after_ms, .. }
            | Self::BackingOff { retry_after_ms, .. }
            | Self::GivenUp { retry_after_ms, .. } => Some(*retry_after_ms),
            _ => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = Self::new(error.kind(), error.to_string());
        failure.hint = error.hint();
        failure.retry_after_ms = error.retry_after_ms();
        failure
    }
}
