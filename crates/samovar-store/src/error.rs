//! What can go wrong in the store, each with what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use samovar_core::units::ByteSize;
use samovar_core::{Digest, ErrorKind, Failure};

use crate::artifact::name::NameError;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the store could not be used.
    #[error("{action}: {error}")]
    Io {
        /// What was being done, as a sentence's beginning: "the blob could not be written".
        action: &'static str,
        /// What the system said; names the path. Part of the message, so no source of its own.
        error: io::Error,
    },
    /// The index could not be used, and not be built again either.
    #[error("the index {path} could not be used: {message}")]
    Index {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        message: String,
    },
    /// Another process has the index, and kept it for longer than anything of ours takes.
    #[error("another process keeps the index {path} locked")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Another program of ours, newer than this one, made this cache.
    #[error("the cache {path} was written by a newer Samovar (format {found}, this one knows {known})")]
    Newer {
        /// The directory or index.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The cache directory cannot be written.
    #[error("{subject} is not in the cache, and the cache {path} can only be read")]
    ReadOnly {
        /// What was to be put there.
        subject: String,
        /// The directory.
        path: PathBuf,
    },
    /// Not enough room.
    #[error(
        "{subject} needs {}; the {limit} leaves {}",
        ByteSize::from_bytes(*needed_bytes),
        ByteSize::from_bytes(*free_bytes)
    )]
    NoRoom {
        /// What was to be put there.
        subject: String,
        /// Bytes it needs.
        needed_bytes: u64,
        /// Bytes that could be had, what collection can free included.
        free_bytes: u64,
        /// `quota` or `disk`.
        limit: &'static str,
    },
    /// A name from outside was refused.
    #[error("refused: {0}")]
    Name(NameError),
    /// Nothing is there under this name.
    #[error("{subject} is not there{where_}")]
    Missing {
        /// What was asked for.
        subject: String,
        /// Where, as ` at the hub` or ` in the cache`.
        where_: &'static str,
        /// What to do.
        hint: String,
    },
    /// A source wants a token, or says that this one may not.
    #[error("{subject}: {message}")]
    Denied {
        /// What was asked for.
        subject: String,
        /// Why, in the source's kind.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The name fits several files, or none of those that are there.
    #[error("{message}")]
    Choice {
        /// What there is.
        message: String,
        /// What to write instead.
        hint: String,
    },
    /// A source that could not be reached, or broke off, as often as it was tried.
    #[error("{subject}: {message}")]
    Unreachable {
        /// What was asked of whom.
        subject: String,
        /// What happened.
        message: String,
        /// How long the source asked to be left alone.
        retry_after: Option<Duration>,
        /// The source was not there to be asked: no connection could be made.
        is_silent: bool,
    },
    /// Nothing may be asked of any source.
    #[error("{subject} is not in the cache, and samovar is offline")]
    Offline {
        /// What was asked for.
        subject: String,
    },
    /// A source whose answers contradict themselves.
    #[error("{subject}: the source's answer cannot be trusted: {message}")]
    BadAnswer {
        /// What was asked for.
        subject: String,
        /// What does not fit.
        message: String,
    },
    /// Bytes that are not what their digest says.
    #[error("{subject} does not have the promised content: expected {expected}, got {got}")]
    Mismatch {
        /// The file.
        subject: String,
        /// The promised digest or size.
        expected: String,
        /// What came.
        got: String,
    },
    /// Bytes that were right once and are not any more.
    #[error("{}the file {digest} in the cache is damaged; it was set aside", prefix(of.as_deref()))]
    Damaged {
        /// The blob.
        digest: Digest,
        /// The model that it was asked for, where one was.
        of: Option<String>,
    },
    /// What is in use cannot be removed.
    #[error("{subject} is in use by {by}")]
    InUse {
        /// The artifact.
        subject: String,
        /// Who uses it.
        by: String,
    },
    /// What this build or format cannot do.
    #[error("{message}")]
    Unsupported {
        /// What.
        message: String,
        /// What to do instead.
        hint: String,
    },
    /// What another task of this process ran into while fetching for all callers.
    #[error("{0}")]
    Shared(Failure),
}

impl Error {
    /// Wraps what the system said.
    pub fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { action, error }
    }

    /// The kind in the one table.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. }
            | Self::Index { .. }
            | Self::Newer { .. }
            | Self::ReadOnly { .. }
            | Self::Damaged { .. } => ErrorKind::Storage,
            Self::NoRoom { .. } => ErrorKind::InsufficientStorage,
            Self::BadAnswer { .. } | Self::Mismatch { .. } => ErrorKind::Upstream,
            Self::Name(_) | Self::Choice { .. } => ErrorKind::InvalidRequest,
            Self::Missing { .. } => ErrorKind::NotFound,
            Self::Denied { .. } => ErrorKind::Forbidden,
            Self::Unreachable { .. } | Self::Offline { .. } => ErrorKind::Unavailable,
            Self::InUse { .. } | Self::Locked { .. } => ErrorKind::Busy,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Shared(failure) => failure.kind,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { error, .. } => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space; `samovar gc` collects what was not used for long".to_owned()
                }
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                    "make the cache directory writable, or choose another with SAMOVAR_CACHE_CACHE_DIR"
                        .to_owned()
                }
                _ => return None,
            },
            Self::Index { .. } => {
                "`samovar verify --repair` builds the index again from the files".to_owned()
            }
            Self::Locked { .. } => {
                "see which Samovar processes run or are stopped, end the one that hangs, and try again"
                    .to_owned()
            }
            Self::Newer { .. } => "use the newer Samovar, or another cache directory".to_owned(),
            Self::ReadOnly { .. } => {
                "make the cache directory writable, or choose another with SAMOVAR_CACHE_CACHE_DIR".to_owned()
            }
            Self::NoRoom { limit: "disk", .. } => {
                "free some disk; `cache.min_free_bytes` of it stay free whatever is fetched".to_owned()
            }
            Self::NoRoom { .. } => {
                "`samovar gc --dry-run` shows what can go; `cache.max_size_bytes` is the quota".to_owned()
            }
            Self::Missing { hint, .. }
            | Self::Denied { hint, .. }
            | Self::Choice { hint, .. }
            | Self::Unsupported { hint, .. } => hint.clone(),
            Self::Unreachable { is_silent: true, .. } => {
                "check the address and the network, then try again".to_owned()
            }
            Self::Unreachable { .. } => "try again later; the part that was downloaded is kept".to_owned(),
            Self::Offline { .. } => "unset HF_HUB_OFFLINE and sources.offline to fetch it".to_owned(),
            Self::BadAnswer { .. } | Self::Mismatch { .. } => {
                "nothing was kept; try again, and report it to the operator of the source if it fails again"
                    .to_owned()
            }
            Self::Damaged { .. } => {
                "the next run or pull brings it again; `samovar verify` checks the others".to_owned()
            }
            Self::InUse { .. } => "`samovar stop MODEL` first".to_owned(),
            Self::Name(_) => {
                "names become files here, so only plain names are accepted; report it to the publisher"
                    .to_owned()
            }
            Self::Shared(failure) => return failure.hint.clone(),
        })
    }

    /// Whether the same again may go better.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Whose a failure is.
fn prefix(of: Option<&str>) -> String {
    of.map_or_else(String::new, |of| format!("{of}: "))
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let retry_after = match error {
            Error::Unreachable { retry_after, .. } => *retry_after,
            _ => None,
        };
        let mut failure = Self::new(error.kind(), error.to_string());
        failure.hint = error.hint();
        failure.retry_after_ms = retry_after.map(|wait| wait.as_millis() as u64);
        failure
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_chain_of_causes_says_each_thing_once() {
        let refused = "../escaped".parse::<crate::artifact::name::FilePath>().unwrap_err();
        let cause = io::Error::other("the cable was cut");
        for error in [Error::Name(refused), Error::io("the blob could not be read")(cause)] {
            let message = error.to_string();
            let mut next = error.source();
            while let Some(cause) = next {
                assert!(!message.contains(&cause.to_string()), "{message}: {cause}");
                next = cause.source();
            }
            assert!(message.contains("cable") || message.contains("escaped"), "{message}");
        }
    }

    #[test]
    fn a_source_that_lies_and_a_full_quota_are_no_faults_of_the_disk() {
        let lie = Error::BadAnswer { subject: "x".to_owned(), message: "y".to_owned() };
        let mismatch =
            Error::Mismatch { subject: "x".to_owned(), expected: "1".to_owned(), got: "2".to_owned() };
        for error in [lie, mismatch] {
            let surface = error.kind().surface();
            assert_eq!((surface.http_status, surface.may_retry), (502, true), "{error}");
        }
        let full = Error::NoRoom { subject: "x".to_owned(), needed_bytes: 2, free_bytes: 1, limit: "quota" };
        assert_eq!(full.kind().surface().http_status, 507);
    }
}
