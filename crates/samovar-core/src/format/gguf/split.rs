//! Models that are split into several files: recognised, and refused until the store can serve them.
//!
//! Which files belong together is taken from a manifest, never from the file: a name in a header must
//! not decide what else is opened.

use std::io::{Read, Seek};

use super::error::Fault;
use super::metadata::Metadata;

/// Parts of one model.
const PARTS: u64 = 65_535;

/// Refuses a file that is one of several.
pub(super) fn check<R: Read + Seek>(metadata: &mut Metadata<R>) -> Result<(), Fault> {
    let count = metadata.unsigned("split.count", 0..=PARTS)?;
    let number = metadata.unsigned("split.no", 0..=PARTS)?;
    let tensors = metadata.unsigned("split.tensors.count", 0..=u64::MAX >> 1)?;
    let lies = |text: String| Err(Fault::SplitLies(text));
    match (count, number) {
        // Zero is written by llama.cpp's splitting tool for a model that is in one piece again.
        (None, None) | (Some(0), None | Some(0)) => Ok(()),
        (None, Some(number)) => lies(format!("it is part {number} of nothing")),
        (Some(0), Some(number)) => lies(format!("it is part {number} of none")),
        (Some(count), number) if number.unwrap_or(0) >= count => {
            lies(format!("it is part {} of {count}, counted from 0", number.unwrap_or(0)))
        }
        (Some(1), _) => match tensors {
            Some(tensors) if tensors != metadata.tensor_count() => {
                lies(format!("{tensors} tensors in one part, which has {}", metadata.tensor_count()))
            }
            _ => Ok(()),
        },
        (Some(count), number) => Err(Fault::Split { number: number.unwrap_or(0) + 1, count }),
    }
}
