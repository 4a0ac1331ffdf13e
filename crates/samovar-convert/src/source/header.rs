//! The header of a safetensors file: names, types, shapes and places. It believes nothing that the file's size contradicts,
//! and never looks at weights.
//!
//! *Source:* the format's description in the safetensors repository: 8 bytes of length, JSON, then data without holes.

use std::fmt;
use std::io::Read;

use samovar_core::format::gguf::limits;
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::Fault;

/// Bytes of one header. Those of the largest models have fewer than 8 MiB.
const HEADER_BYTES: u64 = 32 << 20;
/// Dimensions of one tensor.
const DIMENSIONS: usize = 8;
/// Bytes of one name.
const NAME_BYTES: usize = 1024;
/// The element types of the format, with their bytes.
const TYPES: [(&str, u64); 15] = [
    ("F64", 8),
    ("F32", 4),
    ("F16", 2),
    ("BF16", 2),
    ("I64", 8),
    ("I32", 4),
    ("I16", 2),
    ("I8", 1),
    ("U64", 8),
    ("U32", 4),
    ("U16", 2),
    ("U8", 1),
    ("BOOL", 1),
    ("F8_E4M3", 1),
    ("F8_E5M2", 1),
];

/// A tensor as the header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The name of its element type.
    pub(crate) kind: &'static str,
    /// Sides, the innermost last.
    pub(crate) shape: Vec<u64>,
    /// Where its data begins, from the beginning of the file.
    pub(crate) begin: u64,
}

/// Reads the header of `file`, which has so many bytes and is called `name` in messages.
pub(crate) fn read(mut file: impl Read, file_bytes: u64, name: &str) -> Result<Vec<(String, Stored)>, Fault> {
    let unsound = |what: String| Fault::unsound(name, what);
    let mut length = [0; 8];
    if file_bytes < 8 {
        return Err(unsound(format!("it has {file_bytes} bytes, fewer than a header has")));
    }
    let cut = |error: std::io::Error| unsound(format!("it ends in its header ({})", error.kind()));
    file.read_exact(&mut length).map_err(cut)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > HEADER_BYTES || header_bytes > file_bytes - 8 {
        return Err(unsound(format!(
            "its header is said to have {header_bytes} bytes, and the file has {file_bytes}; the limit is {HEADER_BYTES}"
        )));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact(&mut header).map_err(cut)?;
    if header.first() != Some(&b'{') {
        return Err(unsound("its header is no JSON object".to_owned()));
    }
    let entries: Entries =
        serde_json::from_slice(&header).map_err(|error| unsound(format!("its header: {error}")))?;
    place(entries.0, 8 + header_bytes, file_bytes).map_err(unsound)
}

/// Checks that each tensor has the bytes of its shape, and that all of them together are the data of the file.
fn place(
    mut entries: Vec<(String, Entry)>,
    data_begin: u64,
    file_bytes: u64,
) -> Result<Vec<(String, Stored)>, String> {
    let mut names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("it has two tensors {}", shown(pair[0])));
    }
    // Of tensors that begin at the same place, those without bytes come first.
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end_before = (0, String::new());
    let mut stored = Vec::with_capacity(entries.len());
    for (name, Entry { dtype, shape: Shape(shape), data_offsets: (begin, end) }) in entries {
        let shown_name = shown(&name);
        let Some((kind, width)) = TYPES.into_iter().find(|(kind, _)| *kind == dtype) else {
            return Err(format!("{shown_name} has the unknown element type {}", shown(&dtype)));
        };
        let elements = shape.iter().try_fold(1_u64, |product, side| product.checked_mul(*side));
        let Some(bytes) = elements.and_then(|elements| elements.checked_mul(width)) else {
            return Err(format!("the shape {shape:?} of {shown_name} is too large"));
        };
        if end.checked_sub(begin) != Some(bytes) {
            return Err(format!(
                "{shown_name} of shape {shape:?} and type {kind} takes {bytes} bytes, and its place is {begin} to {end}"
            ));
        }
        if begin < end_before.0 {
            return Err(format!("{} and {shown_name} overlap", end_before.1));
        }
        if begin > end_before.0 {
            return Err(format!(
                "the bytes {} to {begin} before {shown_name} belong to no tensor",
                end_before.0
            ));
        }
        if end > file_bytes - data_begin {
            return Err(format!(
                "{shown_name} ends at byte {end} of the data, which has {}",
                file_bytes - data_begin
            ));
        }
        end_before = (end, shown_name);
        stored.push((name, Stored { kind, shape, begin: data_begin + begin }));
    }
    if end_before.0 != file_bytes - data_begin {
        return Err(format!(
            "{} bytes at its end belong to no tensor",
            file_bytes - data_begin - end_before.0
        ));
    }
    Ok(stored)
}

/// A name from a file as a message may show it.
fn shown(name: &str) -> String {
    let clean: String = name.chars().filter(|character| !character.is_control()).take(120).collect();
    format!("{clean:?}")
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sides;
        impl<'de> Visitor<'de> for Sides {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {DIMENSIONS} whole numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(side) = sides.next_element()? {
                    if shape.len() == DIMENSIONS {
                        return Err(A::Error::custom(format_args!(
                            "a shape has more than {DIMENSIONS} sides"
                        )));
                    }
                    shape.push(side);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Sides)
    }
}

struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if name.len() > NAME_BYTES {
                        return Err(A::Error::custom("a name is too long"));
                    }
                    if entries.len() as u64 == limits::TENSORS {
                        return Err(A::Error::custom(format_args!("more than {} tensors", limits::TENSORS)));
                    }
                    entries.push((name, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(header: &str, data_bytes: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data_bytes]].concat()
    }

    fn refusal(bytes: &[u8]) -> String {
        read(Cursor::new(bytes), bytes.len() as u64, "m.safetensors").unwrap_err().to_string()
    }

    #[test]
    fn tensors_are_found_where_the_header_says() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "b":{"dtype":"BF16","shape":[2,2],"data_offsets":[4,12]},
            "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
        let bytes = file(header, 12);
        let found = read(Cursor::new(&bytes), bytes.len() as u64, "m").unwrap();
        let begin = 8 + header.len() as u64;
        assert_eq!(found[0], ("a".into(), Stored { kind: "F32", shape: vec![], begin }));
        assert_eq!(found[1], ("b".into(), Stored { kind: "BF16", shape: vec![2, 2], begin: begin + 4 }));
    }

    #[test]
    fn lies_about_places_are_named() {
        let two = |first: (u64, u64), second: (u64, u64), data: usize| {
            let header = format!(
                r#"{{"a":{{"dtype":"F16","shape":[2],"data_offsets":[{},{}]}},"b":{{"dtype":"F16","shape":[2],"data_offsets":[{},{}]}}}}"#,
                first.0, first.1, second.0, second.1
            );
            refusal(&file(&header, data))
        };
        assert!(two((0, 4), (2, 6), 6).contains("overlap"));
        assert!(two((0, 4), (8, 12), 12).contains("belong to no tensor"));
        assert!(two((0, 4), (4, 8), 9).contains("at its end"));
        assert!(two((0, 4), (4, 8), 7).contains("ends at byte 8"));
        assert!(two((0, 4), (4, 9), 9).contains("takes 4 bytes"));
        assert!(two((0, 4), (9, 5), 9).contains("takes 4 bytes"));
        assert!(two((0, 4), (u64::MAX - 3, u64::MAX), 9).contains("takes 4 bytes"));
    }

    #[test]
    fn headers_that_are_none_are_refused() {
        assert!(refusal(b"").contains("0 bytes"));
        assert!(refusal(&u64::MAX.to_le_bytes()).contains("is said to have"));
        assert!(refusal(&file("[]", 0)).contains("no JSON object"));
        assert!(refusal(&file("{\"a\":1}", 0)).contains("header"));
        let sides = "1,".repeat(9);
        let many = format!(r#"{{"a":{{"dtype":"F16","shape":[{sides}1],"data_offsets":[0,2]}}}}"#);
        assert!(refusal(&file(&many, 2)).contains("sides"));
        let huge = format!(
            r#"{{"a":{{"dtype":"F16","shape":[{0},{0}],"data_offsets":[0,2]}}}}"#,
            u64::from(u32::MAX) << 1
        );
        assert!(refusal(&file(&huge, 2)).contains("too large"));
        let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
        assert!(refusal(&file(twice, 2)).contains("two tensors"));
        let unknown = r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#;
        assert!(refusal(&file(unknown, 1)).contains("F4"));
    }
}
