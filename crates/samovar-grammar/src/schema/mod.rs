//! JSON schemas: read, bounded, and written again so that the parser keeps every keyword in them.
//!
//! ```text
//!   reader       each schema in its place: which keywords it has, and what of them is kept
//!   keywords     which keywords are refused, with the reason
//!   references   `$ref`: to which part of the same document
//!   disjoint     `oneOf`: whether no value can fit two of its choices
//!   closing      objects that get no property but those that they declare
//! ```
//!
//! The parser itself ignores what it does not know in some places, and names no place where it refuses. So nothing reaches it
//! that was not read here.

mod closing;
mod disjoint;
mod keywords;
mod reader;
mod references;

use serde_json::{Value, json};

use crate::error::{Error, bounded};
use crate::limits;

/// How JSON is written: one space may follow a colon or a comma, and there is no other white space. Models that write JSON
/// on one line do it in one of these two ways. With free white space, a model can write it without end; an answer could not
/// end at its last brace; and hardly any text would be forced, because a space could come before everything.
const KEY_SEPARATOR: &str = ": ?";
const ITEM_SEPARATOR: &str = ", ?";
/// Escapes in strings. Without `\u`, a key has only one spelling, so that an additional property cannot be a declared one in
/// disguise. Every character but some control characters can be written without it.
const ESCAPES: &str = "nrbtf\\\"";

/// Reads a schema's text.
pub(crate) fn read(text: &str) -> Result<Value, Error> {
    bounded("the schema", text, limits::SCHEMA_BYTES)?;
    let schema = serde_json::from_str(text).map_err(|error| Error::NotJson { detail: error.to_string() })?;
    prepare(&schema)
}

/// Writes a schema again as the parser needs it.
pub(crate) fn prepare(schema: &Value) -> Result<Value, Error> {
    let mut root = reader::read(schema)?;
    let options = json!({
        "key_separator": KEY_SEPARATOR,
        "item_separator": ITEM_SEPARATOR,
        "whitespace_flexible": false,
        "json_allowed_escapes": ESCAPES,
    });
    root.insert("x-guidance".to_owned(), options);
    Ok(Value::Object(root))
}

/// Whether a string can hold this character.
pub(super) fn can_be_written(char: char) -> bool {
    matches!(char, '\u{8}' | '\t' | '\n' | '\u{c}' | '\r') || !(char < ' ' || char == '\u{7f}')
}
