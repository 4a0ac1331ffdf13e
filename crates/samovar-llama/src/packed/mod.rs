//! Packed weights in a file: llama.cpp's fast layout at the price of a mapping.
//!
//! ```text
//!   probe     which formats are packed here, and how: the key
//!   writer    source.gguf ──► a copy with packed tensors, and a table at its end (trailer)
//!   proof     what was written, loaded and compared with the source
//!   reader    is this file what it says, and of this model?
//!   wardrobe  loaded weights told where their packed bytes lie
//!   calibration  how fast plain and packed weights are on this machine
//!   native    ggml's own packing, and its tensors
//! ```
//!
//! A packed file is a GGUF with the source's very header; llama.cpp maps it like any other, believing its weights to
//! be as they were published. Then, before anything is computed, each packed weight is told the truth. A file that
//! does not fit in every respect is not used; the source can always be loaded instead.
//!
//! Nothing here decides whether to pack; nothing here keeps files.

mod calibration;
mod mapping;
mod native;
mod probe;
mod proof;
mod reader;
mod trailer;
mod wardrobe;
mod writer;

pub(crate) use calibration::calibrate;
pub(crate) use probe::{key, packable};
pub(crate) use reader::PackedFile;
pub(crate) use wardrobe::Wardrobe;
pub(crate) use writer::{Packing, write};

/// Why a packed file is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl Refusal {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

#[cfg(test)]
mod tests;
