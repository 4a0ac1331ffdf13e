//! Packed weights in a file: llama.cpp's fast layout at the price of a mapping.
//!
//! ```text
//!   probe     which formats are packed here, and how: the key
//!   writer    source.gguf ──► a copy with packed tensors, and a table at its end (trailer)
//!   proof     what was written, loaded and compared with the source
//!   reader    is this file what it says, and of this model?
//!   weight_views  loaded weights told where their packed bytes lie
//!   calibration  how fast plain and packed weights are on this machine
//!   packer    ggml's own packing
//!   weights   tensors of models, and where and how their bytes lie
//! ```
//!
//! A packed file is a GGUF with the source's very header; llama.cpp maps it like any other, believing its weights to
//! be as they were published. Then, before anything is computed, each packed weight is told the truth. A file that
//! does not fit in every respect is not used; the source can always be loaded instead.
//!
//! Nothing here decides whether to pack; nothing here keeps files.

use std::{fmt, io};

mod calibration;
mod mapping;
mod packer;
mod probe;
mod proof;
mod reader;
mod stretch;
mod trailer;
mod weight_views;
mod weights;
mod writer;

pub(crate) use calibration::calibrate;
pub(crate) use probe::{key, packable};
pub(crate) use reader::PackedFile;
pub(crate) use weight_views::WeightViews;
pub(crate) use writer::{Packing, write};

/// Why a packed file is of no use, now and later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

/// Why a packed file is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// It is wrong.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be looked at, which says nothing about it: no memory, no descriptors, a disk that does not answer.
    #[error("{0}")]
    Unseen(String),
}

impl Unfit {
    /// What it means that the packed file cannot be opened, read or mapped.
    fn of_file(error: &io::Error) -> Self {
        let is_its_own = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::UnexpectedEof
        );
        let reason = format!("it cannot be read: {error}");
        if is_its_own { Self::Refused(Refusal(reason)) } else { Self::Unseen(reason) }
    }

    /// What it means that the model beside it cannot be read.
    fn of_model(error: &impl fmt::Display) -> Self {
        Self::Unseen(format!("the model beside it cannot be read: {error}"))
    }
}

impl Refusal {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod unfit_tests {
    use super::*;

    #[test]
    fn only_what_the_file_itself_is_to_blame_for_is_held_against_it() {
        use rustix::io::Errno;
        let unfit = |errno: Errno| Unfit::of_file(&errno.into());
        for errno in [Errno::NOENT, Errno::ISDIR] {
            assert!(matches!(unfit(errno), Unfit::Refused(_)), "{errno}");
        }
        assert!(matches!(Unfit::of_file(&io::ErrorKind::UnexpectedEof.into()), Unfit::Refused(_)));
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::ACCESS, Errno::AGAIN] {
            assert!(matches!(unfit(errno), Unfit::Unseen(_)), "{errno}");
        }
    }
}
