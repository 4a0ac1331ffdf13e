//! How a command ends early.

use samovar_core::{ErrorKind, Failure};

use crate::exit_code;

/// How a command ends early.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Something failed; the error is still to be shown.
    Failed(Failure),
    /// Something failed and has been shown already.
    Shown(ErrorKind),
    /// What was looked for was found: something is damaged. It has been shown.
    Damaged,
    /// The reader of our output has enough.
    OutputClosed,
    /// The person pressed Ctrl-C.
    Interrupted,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Ended {
    /// The exit code, by the table of error kinds.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(failure) => exit_code::of(failure.kind),
            Self::Shown(kind) => exit_code::of(*kind),
            // As `cmp` and `git fsck` have it.
            Self::Damaged => 1,
            Self::OutputClosed => 0,
            Self::Interrupted => exit_code::of(ErrorKind::Cancelled),
        }
    }
}
