//! What the values of one rendering may take: every text and list that a template makes is counted, and a value that
//! would be too large is never made. It bounds no steps; the engine's fuel does.

use minijinja::{Error, ErrorKind, State, Value};

use crate::bounds::OUTPUT_LIMIT_BYTES;

/// Bytes of all texts and lists that one rendering may make; a conversation of a million tokens, written together
/// message by message, needs about a tenth.
const TOTAL_LIMIT_BYTES: usize = 512 << 20;
/// How deep lists and mappings may nest: JSON from outside nests 128 deep at most.
pub(super) const DEPTH_LIMIT: usize = 200;
/// What one place in a list costs, in bytes.
const ITEM_BYTES: usize = 32;
/// How many places a list may have.
pub(super) const ITEMS_LIMIT: usize = OUTPUT_LIMIT_BYTES / ITEM_BYTES;

struct Budget {
    left_bytes: usize,
}

/// An error in the words that a template's author reads.
pub(super) fn refuse(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, words.into())
}

/// Counts `bytes` that are about to be made.
///
/// # Errors
/// When one value becomes too large, or all together.
pub(super) fn charge(state: &mut State, bytes: usize) -> Result<(), Error> {
    bound(bytes)?;
    let budget = state.get_or_insert_extension_with(|| Budget { left_bytes: TOTAL_LIMIT_BYTES });
    match budget.left_bytes.checked_sub(bytes.max(1)) {
        Some(left) => {
            budget.left_bytes = left;
            Ok(())
        }
        None => Err(refuse(format!("the template's values take more than {TOTAL_LIMIT_BYTES} bytes"))),
    }
}

/// Counts that all of a text is looked at, which is one step for the engine however long it is. Of other values, counts
/// nothing.
///
/// # Errors
/// As [`charge`].
pub(super) fn look_through(state: &mut State, value: &Value) -> Result<(), Error> {
    value.as_str().map_or(Ok(()), |text| charge(state, text.len()))
}

/// Refuses a value of so many bytes that is too large, before it is made; counts nothing.
///
/// # Errors
/// When it is.
pub(super) fn bound(bytes: usize) -> Result<(), Error> {
    if bytes > OUTPUT_LIMIT_BYTES {
        return Err(refuse(format!("a value becomes larger than {OUTPUT_LIMIT_BYTES} bytes")));
    }
    Ok(())
}

/// Counts a list of `items`.
///
/// # Errors
/// As [`charge`].
pub(super) fn charge_items(state: &mut State, items: usize) -> Result<(), Error> {
    charge(state, items.saturating_mul(ITEM_BYTES))
}

/// A text as a value.
///
/// # Errors
/// As [`charge`].
pub(super) fn text(state: &mut State, text: impl AsRef<str>) -> Result<Value, Error> {
    charge(state, text.as_ref().len())?;
    Ok(Value::from(text.as_ref()))
}

/// A list as a value, which nests no deeper than it may.
///
/// # Errors
/// As [`charge`].
pub(super) fn list(state: &mut State, items: Vec<Value>) -> Result<Value, Error> {
    charge_items(state, items.len())?;
    Ok(Value::from_object(items))
}
