//! The header of a GGUF file, version 3, in memory: metadata and the descriptions of tensors. It never sees weights.
//!
//! *Source:* the GGUF specification of the ggml project.

/// Tensors begin at multiples of so many bytes, which is also where readers look without a word about it.
pub(crate) const ALIGNMENT: u64 = 32;
const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;

/// How the numbers of a tensor are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    F32,
    F16,
    Bf16,
}

impl Format {
    const fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 30,
        }
    }

    /// Bytes of one number.
    pub(crate) const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
    Bytes(Vec<u8>),
}

/// The metadata of a file, in the order in which keys were set first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata(Vec<(String, Value)>);

impl Metadata {
    /// Sets a key; what it was before is forgotten.
    pub(crate) fn set(&mut self, key: impl Into<String>, value: Value) {
        let key = key.into();
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    /// Sets a key to a text.
    pub(crate) fn text(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.set(key, Value::Text(text.into()));
    }

    /// Sets a key to a number whose range was checked.
    pub(crate) fn whole(&mut self, key: impl Into<String>, number: u64) {
        self.set(key, Value::U32(number as u32));
    }

    /// Sets a key to a 32-bit float.
    pub(crate) fn float(&mut self, key: impl Into<String>, number: f64) {
        self.set(key, Value::F32(number as f32));
    }

    /// Sets a key to a truth value.
    pub(crate) fn flag(&mut self, key: impl Into<String>, flag: bool) {
        self.set(key, Value::Bool(flag));
    }

    /// Whether a key is set.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(known, _)| known == key)
    }

    /// Bytes that it takes in memory, about.
    pub(crate) fn held_bytes(&self) -> u64 {
        let texts =
            |all: &[String]| -> usize { all.iter().map(|text| text.len() + size_of::<String>()).sum() };
        let bytes: usize = self
            .0
            .iter()
            .map(|(_, value)| match value {
                Value::U32(_) | Value::F32(_) | Value::Bool(_) => 4,
                Value::Text(text) => text.len(),
                Value::Texts(all) => texts(all),
                Value::F32s(all) => all.len() * 4,
                Value::I32s(all) => all.len() * 4,
                Value::Bytes(all) => all.len(),
            })
            .sum();
        bytes as u64
    }

    /// What was set.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }
}

/// A tensor as the header describes it.
pub(crate) struct Description<'a> {
    pub(crate) name: &'a str,
    /// Sides, the innermost last.
    pub(crate) shape: &'a [u64],
    pub(crate) format: Format,
    /// From the beginning of the data.
    pub(crate) offset: u64,
}

/// The bytes before the first tensor, padding included.
pub(crate) fn header(metadata: &Metadata, more: &[(&str, Value)], tensors: &[Description<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    count(&mut out, tensors.len());
    count(&mut out, metadata.0.len() + more.len());
    for (key, value) in &metadata.0 {
        pair(&mut out, key, value);
    }
    for (key, value) in more {
        pair(&mut out, key, value);
    }
    for tensor in tensors {
        text(&mut out, tensor.name);
        out.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
        for side in tensor.shape.iter().rev() {
            out.extend_from_slice(&side.to_le_bytes());
        }
        out.extend_from_slice(&tensor.format.id().to_le_bytes());
        out.extend_from_slice(&tensor.offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    out
}

fn pair(out: &mut Vec<u8>, key: &str, value: &Value) {
    const ARRAY: u32 = 9;
    const U8: u32 = 0;
    const U32: u32 = 4;
    const I32: u32 = 5;
    const F32: u32 = 6;
    const BOOL: u32 = 7;
    const STRING: u32 = 8;
    text(out, key);
    let kind = |out: &mut Vec<u8>, id: u32| out.extend_from_slice(&id.to_le_bytes());
    match value {
        Value::U32(number) => {
            kind(out, U32);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::F32(number) => {
            kind(out, F32);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Bool(flag) => {
            kind(out, BOOL);
            out.push(u8::from(*flag));
        }
        Value::Text(words) => {
            kind(out, STRING);
            text(out, words);
        }
        Value::Texts(all) => {
            kind(out, ARRAY);
            kind(out, STRING);
            count(out, all.len());
            for words in all {
                text(out, words);
            }
        }
        Value::F32s(all) => {
            kind(out, ARRAY);
            kind(out, F32);
            count(out, all.len());
            for number in all {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        Value::I32s(all) => {
            kind(out, ARRAY);
            kind(out, I32);
            count(out, all.len());
            for number in all {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        Value::Bytes(all) => {
            kind(out, ARRAY);
            kind(out, U8);
            count(out, all.len());
            out.extend_from_slice(all);
        }
    }
}

fn text(out: &mut Vec<u8>, words: &str) {
    count(out, words.len());
    out.extend_from_slice(words.as_bytes());
}

fn count(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&(number as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_set_again_keeps_its_place() {
        let mut metadata = Metadata::default();
        metadata.whole("a", 1);
        metadata.whole("b", 2);
        metadata.whole("a", 3);
        assert_eq!(metadata.get("a"), Some(&Value::U32(3)));
        assert_eq!(metadata.0.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_header_is_padded_and_has_the_innermost_side_first() {
        let tensor = Description { name: "t", shape: &[3, 2], format: Format::F16, offset: 0 };
        let bytes = header(&Metadata::default(), &[], &[tensor]);
        assert!(bytes.starts_with(b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"));
        assert_eq!(bytes.len() % 32, 0);
        let sides = &bytes[24 + 8 + 1 + 4..][..16];
        assert_eq!(sides, [2_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat());
    }
}
