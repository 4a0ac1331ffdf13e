//! What a file says about being one of several.
//!
//! Which files belong together is taken from a manifest, never from the file: a name in a header must
//! not decide what else is opened.
//!
//! *Source:* llama.cpp's `llama_model_loader`, which reads the number and the count as u16 and the sum of
//! tensors as i32, and in the later parts without asking for the type.

use std::io::{Read, Seek};

use super::error::Fault;
use super::metadata::Metadata;
use super::value::ValueType;

const COUNT: &str = "split.count";
const NUMBER: &str = "split.no";
const TENSORS: &str = "split.tensors.count";

/// That a file is one of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Which part, from 0.
    pub number: u32,
    /// How many there are, 2 or more.
    pub count: u32,
    /// Tensors of all parts together. The first part always says it.
    pub tensors: Option<u64>,
}

/// What the header says of its file; `None` for a whole model.
pub(super) fn read<R: Read + Seek>(metadata: &mut Metadata<R>) -> Result<Option<Split>, Fault> {
    let count = typed(metadata, COUNT, ValueType::U16)?;
    let number = metadata.unsigned(NUMBER, 0..=u64::from(u16::MAX))?;
    let tensors = metadata.unsigned(TENSORS, 0..=u64::MAX >> 1)?;
    let lies = |text: String| Err(Fault::SplitLies(text));
    match (count, number) {
        // Zero is written by llama.cpp's splitting tool for a model that is in one piece again.
        (None, None) | (Some(0), None | Some(0)) => Ok(None),
        (None, Some(number)) => lies(format!("it is part {number} of nothing")),
        (Some(0), Some(number)) => lies(format!("it is part {number} of none")),
        (Some(count), number) if number.unwrap_or(0) >= count => {
            lies(format!("it is part {} of {count}, counted from 0", number.unwrap_or(0)))
        }
        (Some(1), _) => match tensors {
            Some(tensors) if tensors != metadata.tensor_count() => {
                lies(format!("{tensors} tensors in one part, which has {}", metadata.tensor_count()))
            }
            _ => Ok(None),
        },
        (Some(count), _) => part(metadata, count).map(Some),
    }
}

/// One of several: here every type counts.
fn part<R: Read + Seek>(metadata: &mut Metadata<R>, count: u64) -> Result<Split, Fault> {
    let missing = |key: &str| Fault::MissingKey { key: key.to_owned() };
    let number = typed(metadata, NUMBER, ValueType::U16)?.ok_or_else(|| missing(NUMBER))?;
    let tensors = typed(metadata, TENSORS, ValueType::I32)?;
    if number == 0 && tensors.is_none() {
        return Err(missing(TENSORS));
    }
    Ok(Split { number: number as u32, count: count as u32, tensors })
}

fn typed<R: Read + Seek>(
    metadata: &mut Metadata<R>,
    key: &str,
    value_type: ValueType,
) -> Result<Option<u64>, Fault> {
    metadata.check_type(key, value_type)?;
    metadata.unsigned(key, 0..=i32::MAX as u64)
}
