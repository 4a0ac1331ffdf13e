//! The types of metadata values, and how to pass over a value while checking its form.

use std::io::{Read, Seek};

use super::error::Fault;
use super::limits;
use super::reader::Reader;

/// The type of a metadata value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    fn of(id: u32) -> Option<Self> {
        Self::ALL.get(id as usize).copied()
    }

    /// Bytes that a value has at least; all that it has, unless it is a string or an array.
    pub(super) const fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }
}

/// Reads the type of the value of `key`.
pub(super) fn value_type<R: Read + Seek>(reader: &mut Reader<R>, key: &str) -> Result<ValueType, Fault> {
    let id = reader.u32()?;
    ValueType::of(id).ok_or_else(|| Fault::UnknownValueType { key: shown(key), value_type: id })
}

/// Reads an array's element type and length, both checked.
pub(super) fn array_head<R: Read + Seek>(
    reader: &mut Reader<R>,
    key: &str,
) -> Result<(ValueType, u64), Fault> {
    let element = value_type(reader, key)?;
    if element == ValueType::Array {
        return Err(Fault::NestedArray { key: shown(key) });
    }
    let count = reader.u64()?;
    if count > limits::ARRAY_ELEMENTS {
        return Err(Fault::ArrayTooLong { key: shown(key), count });
    }
    let least = count * element.least_bytes();
    if least > reader.remaining() {
        return Err(Fault::ArrayBeyondFile { key: shown(key), count, left: reader.remaining() });
    }
    Ok((element, count))
}

/// Reads a string's length, checked against `limit` and the file.
pub(super) fn string_bytes<R: Read + Seek>(
    reader: &mut Reader<R>,
    limit: u64,
    subject: impl FnOnce() -> String,
) -> Result<u64, Fault> {
    let at = reader.position();
    let bytes = reader.u64()?;
    if bytes > limit {
        return Err(Fault::StringTooLong { subject: subject(), bytes, limit, at });
    }
    if bytes > reader.remaining() {
        return Err(Fault::StringBeyondFile { subject: subject(), bytes, left: reader.remaining() });
    }
    Ok(bytes)
}

/// Passes over the value of `key` and checks its form.
pub(super) fn pass<R: Read + Seek>(
    reader: &mut Reader<R>,
    value_type: ValueType,
    key: &str,
) -> Result<(), Fault> {
    match value_type {
        ValueType::Array => {
            let (element, count) = array_head(reader, key)?;
            match element {
                ValueType::String | ValueType::Bool => {
                    (0..count).try_for_each(|_| pass_scalar(reader, element, key))
                }
                number => reader.skip(count * number.least_bytes()),
            }
        }
        scalar => pass_scalar(reader, scalar, key),
    }
}

fn pass_scalar<R: Read + Seek>(
    reader: &mut Reader<R>,
    value_type: ValueType,
    key: &str,
) -> Result<(), Fault> {
    match value_type {
        ValueType::String => {
            let bytes = string_bytes(reader, limits::string_bytes_of(key), || subject(key))?;
            reader.pass_utf8(bytes).map_err(|fault| fault.of(|| subject(key)))
        }
        ValueType::Bool => match reader.array::<1>()? {
            [0 | 1] => Ok(()),
            [byte] => Err(Fault::NotBool { key: shown(key), byte }),
        },
        number => reader.skip(number.least_bytes()),
    }
}

/// A key as messages name it.
pub(super) fn subject(key: &str) -> String {
    format!("the value of {:?}", shown(key))
}

/// A key cut to a length fit for a message.
pub(super) fn shown(key: &str) -> String {
    const SHOWN_CHARS: usize = 120;
    if key.chars().count() <= SHOWN_CHARS {
        return key.to_owned();
    }
    key.chars().take(SHOWN_CHARS).chain("…".chars()).collect()
}
