//! The metadata of a file: passed over once to check its form, then read key by key on demand.
//!
//! What is kept of a key is a hash and an offset, so that a header with 65,536 keys costs one MiB.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek};
use std::ops::RangeInclusive;

use super::error::Fault;
use super::limits;
use super::lookalike::Lookalike;
use super::reader::Reader;
use super::value::{self, ValueType, shown, subject};

const MAGIC: &[u8; 4] = b"GGUF";
/// How much of a file is looked at to say what it is instead.
const HEAD_BYTES: u64 = 512;
/// A key's length, one character, its value's type and one byte.
const LEAST_KEY_BYTES: u64 = 8 + 1 + 4 + 1;
/// A name's length, one character, one dimension with its count, type and offset.
const LEAST_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;
const INTEGER: &str = "an integer";

pub(super) struct Metadata<R> {
    pub(super) reader: Reader<R>,
    hasher: RandomState,
    /// Sorted by hash.
    entries: Vec<Entry>,
    tensor_count: u64,
    /// Where the descriptions of the tensors begin.
    end: u64,
}

struct Entry {
    hash: u64,
    /// Where the key begins.
    position: u64,
}

/// An array whose first element is the next to be read.
pub(super) struct Elements {
    pub(super) element: ValueType,
    pub(super) count: u64,
}

impl<R: Read + Seek> Metadata<R> {
    /// Checks the form of all metadata.
    pub(super) fn read(mut reader: Reader<R>) -> Result<Self, Fault> {
        check_magic(&mut reader)?;
        check_version(reader.u32()?)?;
        let tensor_count = count(&mut reader, "tensors", limits::TENSORS, LEAST_TENSOR_BYTES)?;
        let key_count = count(&mut reader, "keys", limits::KEYS, LEAST_KEY_BYTES)?;
        let mut metadata = Self {
            reader,
            hasher: RandomState::new(),
            entries: Vec::with_capacity(key_count as usize),
            tensor_count,
            end: 0,
        };
        for _ in 0..key_count {
            metadata.pass_entry()?;
        }
        metadata.end = metadata.reader.position();
        metadata.check_unique()?;
        Ok(metadata)
    }

    /// How many tensors the file describes.
    pub(super) fn tensor_count(&self) -> u64 {
        self.tensor_count
    }

    /// Goes to where the descriptions of the tensors begin.
    pub(super) fn seek_end(&mut self) -> Result<(), Fault> {
        self.reader.seek(self.end)
    }

    fn pass_entry(&mut self) -> Result<(), Fault> {
        let position = self.reader.position();
        if position > limits::HEADER_BYTES {
            return Err(Fault::HeaderTooLarge);
        }
        let key = self.key()?;
        let value_type = value::value_type(&mut self.reader, &key)?;
        value::pass(&mut self.reader, value_type, &key)?;
        self.entries.push(Entry { hash: self.hasher.hash_one(key.as_str()), position });
        Ok(())
    }

    fn key(&mut self) -> Result<String, Fault> {
        let at = self.reader.position();
        let bytes = self.reader.u64()?;
        if bytes == 0 {
            return Err(Fault::EmptyKey { at });
        }
        if bytes > limits::KEY_BYTES {
            return Err(Fault::KeyTooLong { at, bytes });
        }
        let key = self.reader.text(bytes).map_err(|fault| match fault.of(String::new) {
            Fault::NotUtf8 { .. } => Fault::KeyNotAscii { at },
            fault => fault,
        })?;
        if key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            Ok(key)
        } else {
            Err(Fault::KeyNotAscii { at })
        }
    }

    /// Equal keys have equal hashes; different keys that have them too are told apart by reading them again.
    fn check_unique(&mut self) -> Result<(), Fault> {
        self.entries.sort_unstable_by_key(|entry| entry.hash);
        for index in 1..self.entries.len() {
            let (previous, this) = (&self.entries[index - 1], &self.entries[index]);
            if previous.hash == this.hash {
                let (first, second) = (previous.position, this.position);
                self.reader.seek(first)?;
                let key = self.key()?;
                self.reader.seek(second)?;
                if self.key()? == key {
                    return Err(Fault::DuplicateKey { key: shown(&key) });
                }
            }
        }
        Ok(())
    }

    /// Goes to the value of `key` and says its type.
    fn seek_value(&mut self, key: &str) -> Result<Option<ValueType>, Fault> {
        let hash = self.hasher.hash_one(key);
        let mut index = self.entries.partition_point(|entry| entry.hash < hash);
        while let Some(entry) = self.entries.get(index).filter(|entry| entry.hash == hash) {
            self.reader.seek(entry.position)?;
            if self.key()? == key {
                return value::value_type(&mut self.reader, key).map(Some);
            }
            index += 1;
        }
        Ok(None)
    }

    /// Text of at most `limit` bytes.
    pub(super) fn text(&mut self, key: &str, limit: u64) -> Result<Option<String>, Fault> {
        match self.seek_value(key)? {
            None => Ok(None),
            Some(ValueType::String) => {
                let bytes = value::string_bytes(&mut self.reader, limit, || subject(key))?;
                self.reader.text(bytes).map(Some).map_err(|fault| fault.of(|| subject(key)))
            }
            Some(found) => Err(wrong_type(key, "a string", found)),
        }
    }

    /// A truth value.
    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>, Fault> {
        match self.seek_value(key)? {
            None => Ok(None),
            Some(ValueType::Bool) => Ok(Some(self.reader.array::<1>()? != [0])),
            Some(found) => Err(wrong_type(key, "a bool", found)),
        }
    }

    /// An integer of any width.
    pub(super) fn integer(&mut self, key: &str) -> Result<Option<i128>, Fault> {
        match self.seek_value(key)? {
            None => Ok(None),
            Some(found) => match self.integer_of(found)? {
                Some(value) => Ok(Some(value)),
                None => Err(wrong_type(key, INTEGER, found)),
            },
        }
    }

    /// An integer of any width, in `range`.
    pub(super) fn unsigned(&mut self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Fault> {
        self.integer(key)?.map(|value| in_range(key, value, &range)).transpose()
    }

    /// A number that must be of type u32, because llama.cpp reads it without asking.
    pub(super) fn unsigned_u32(&mut self, key: &str) -> Result<Option<u32>, Fault> {
        match self.seek_value(key)? {
            None => Ok(None),
            Some(ValueType::U32) => self.reader.u32().map(Some),
            Some(found) => Err(wrong_type(key, "u32", found)),
        }
    }

    /// That a value is of this type, if it is there: where llama.cpp reads it without asking, or refuses
    /// any other.
    pub(super) fn check_type(&mut self, key: &str, expected: ValueType) -> Result<(), Fault> {
        match self.seek_value(key)? {
            Some(found) if found != expected => Err(wrong_type(key, expected.name(), found)),
            _ => Ok(()),
        }
    }

    /// An integer in `range`, for a key that every model needs.
    pub(super) fn required(&mut self, key: &str, range: RangeInclusive<u64>) -> Result<u64, Fault> {
        self.unsigned(key, range)?.ok_or_else(|| Fault::MissingKey { key: shown(key) })
    }

    /// The largest of an integer that may be given once or for each block, all of them in `range`.
    pub(super) fn largest(&mut self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Fault> {
        if self.seek_value(key)? != Some(ValueType::Array) {
            return self.unsigned(key, range);
        }
        let (element, count) = value::array_head(&mut self.reader, key)?;
        let mut largest = None;
        for _ in 0..count {
            let value = self.integer_of(element)?.ok_or_else(|| wrong_type(key, INTEGER, element))?;
            largest = largest.max(Some(in_range(key, value, &range)?));
        }
        Ok(largest)
    }

    /// A float of either width.
    pub(super) fn float(&mut self, key: &str) -> Result<Option<f64>, Fault> {
        match self.seek_value(key)? {
            None => Ok(None),
            Some(ValueType::F32) => Ok(Some(f64::from(f32::from_le_bytes(self.reader.array()?)))),
            Some(ValueType::F64) => Ok(Some(f64::from_le_bytes(self.reader.array()?))),
            Some(found) => Err(wrong_type(key, "a float", found)),
        }
    }

    /// An array of one of the `allowed` types, ready to be read.
    pub(super) fn array(
        &mut self,
        key: &str,
        allowed: &[ValueType],
        expected: &'static str,
    ) -> Result<Option<Elements>, Fault> {
        match self.seek_value(key)? {
            None => Ok(None),
            Some(ValueType::Array) => {
                let (element, count) = value::array_head(&mut self.reader, key)?;
                if allowed.contains(&element) {
                    Ok(Some(Elements { element, count }))
                } else {
                    Err(wrong_type(key, expected, element))
                }
            }
            Some(found) => Err(wrong_type(key, expected, found)),
        }
    }

    fn integer_of(&mut self, value_type: ValueType) -> Result<Option<i128>, Fault> {
        let reader = &mut self.reader;
        Ok(Some(match value_type {
            ValueType::U8 => u8::from_le_bytes(reader.array()?).into(),
            ValueType::I8 => i8::from_le_bytes(reader.array()?).into(),
            ValueType::U16 => u16::from_le_bytes(reader.array()?).into(),
            ValueType::I16 => i16::from_le_bytes(reader.array()?).into(),
            ValueType::U32 => u32::from_le_bytes(reader.array()?).into(),
            ValueType::I32 => i32::from_le_bytes(reader.array()?).into(),
            ValueType::U64 => u64::from_le_bytes(reader.array()?).into(),
            ValueType::I64 => i64::from_le_bytes(reader.array()?).into(),
            _ => return Ok(None),
        }))
    }
}

fn check_magic<R: Read + Seek>(reader: &mut Reader<R>) -> Result<(), Fault> {
    if reader.remaining() == 0 {
        return Err(Fault::Empty);
    }
    let head = reader.peek(reader.remaining().min(HEAD_BYTES) as usize)?;
    if !head.starts_with(MAGIC) {
        return Err(Fault::NotGguf(Lookalike::of(head)));
    }
    reader.skip(MAGIC.len() as u64)
}

fn check_version(version: u32) -> Result<(), Fault> {
    match version {
        2 | 3 => Ok(()),
        _ if (1..=3).contains(&version.swap_bytes()) => Err(Fault::BigEndian),
        _ => Err(Fault::Version(version)),
    }
}

fn count<R: Read + Seek>(
    reader: &mut Reader<R>,
    what: &'static str,
    limit: u64,
    least_bytes: u64,
) -> Result<u64, Fault> {
    let count = reader.u64()?;
    if count > limit {
        return Err(Fault::TooMany { what, count, limit });
    }
    let left = reader.remaining();
    if count * least_bytes > left {
        return Err(Fault::CountBeyondFile { what, count, left });
    }
    Ok(count)
}

fn in_range(key: &str, value: i128, range: &RangeInclusive<u64>) -> Result<u64, Fault> {
    u64::try_from(value).ok().filter(|value| range.contains(value)).ok_or_else(|| Fault::OutOfRange {
        key: shown(key),
        value: value.to_string(),
        range: format!("from {} to {}", range.start(), range.end()),
    })
}

fn wrong_type(key: &str, expected: &'static str, found: ValueType) -> Fault {
    Fault::WrongType { key: shown(key), expected, found: found.name() }
}
