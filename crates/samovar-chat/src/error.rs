//! What can go wrong with conversations, and how that looks at every surface.

use std::io;
use std::path::PathBuf;

use samovar_core::{ErrorKind, Failure, system_words};

/// What can go wrong with conversations.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The client has no such conversation.
    #[error("there is no conversation {0}")]
    NoConversation(String),
    /// The conversation has no such message, or none that can be answered.
    #[error("the conversation {conversation} has no message {message} of the assistant")]
    NoMessage {
        /// The conversation.
        conversation: i64,
        /// The message that was named.
        message: i64,
    },
    /// Nothing is remembered under this number.
    #[error("nothing is remembered under the number {0}")]
    NoFact(i64),
    /// A title that several conversations have.
    #[error("several conversations are called {title:?}: {numbers}")]
    Ambiguous {
        /// The title.
        title: String,
        /// Their numbers.
        numbers: String,
    },
    /// Something that cannot be kept as it is.
    #[error("{message}")]
    Invalid {
        /// The part at fault.
        param: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Another process keeps the file for too long.
    #[error("another process keeps the conversations in {path} for too long")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote the file.
    #[error("the conversations in {path} have the format {found}, and this version knows up to {known}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// The file was damaged while it was open.
    #[error("the conversations in {path} were damaged and are set aside as {aside}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it lies now.
        aside: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// The file system said no.
    #[error("could not {action} {path}: {words}", words = system_words(.error))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// SQLite said no; where that happened is added by the caller.
    #[error("the conversations could not be used: {0}")]
    Sql(#[from] rusqlite::Error),
    /// A task did not finish.
    #[error("a task of the conversations did not finish")]
    Unfinished,
}

impl ChatError {
    pub(crate) fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { param, message: message.into() }
    }

    /// Its kind in the table of kinds.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoConversation(_) | Self::NoMessage { .. } | Self::NoFact(_) => ErrorKind::NotFound,
            Self::Ambiguous { .. } | Self::Invalid { .. } => ErrorKind::InvalidRequest,
            Self::Locked { .. } => ErrorKind::Busy,
            Self::Newer { .. } => ErrorKind::Unsupported,
            Self::Damaged { .. } | Self::Io { .. } | Self::Sql(_) => ErrorKind::Storage,
            Self::Unfinished => ErrorKind::Internal,
        }
    }

    /// What the reader can do about it.
    fn hint(&self) -> &'static str {
        match self {
            Self::NoConversation(_) => "`samovar history` and GET /chat/conversations list them",
            Self::NoMessage { .. } => "the messages of a conversation are listed with it",
            Self::NoFact(_) => "/facts lists what is remembered",
            Self::Ambiguous { .. } => "name it by its number",
            Self::Invalid { .. } => "send what is asked for",
            Self::Locked { .. } => "try again in a moment",
            Self::Newer { .. } => "use the newer version, or move the file away",
            Self::Damaged { .. } => {
                "new conversations are kept in a fresh file; the old one can be given to `sqlite3 FILE .recover`"
            }
            Self::Io { .. } | Self::Sql(_) => "check the disk and who owns the file",
            Self::Unfinished => "this is a fault of the program; please report it with the log",
        }
    }

    const fn param(&self) -> Option<&'static str> {
        match self {
            Self::NoConversation(_) | Self::Ambiguous { .. } => Some("conversation"),
            Self::NoMessage { .. } => Some("parent"),
            Self::Invalid { param, .. } => Some(param),
            _ => None,
        }
    }
}

impl From<ChatError> for Failure {
    fn from(error: ChatError) -> Self {
        let failure = Self::new(error.kind(), error.to_string()).with_hint(error.hint());
        match error.param() {
            Some(param) => failure.with_param(param),
            None => failure,
        }
    }
}
