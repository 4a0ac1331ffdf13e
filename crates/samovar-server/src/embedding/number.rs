//! Numbers of vectors as they are written: the shortest text that is read back as the same 32 bits, or base64 of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How a vector is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// An array of numbers.
    #[default]
    Float,
    /// A text: the base64 of the numbers' little-endian bytes.
    Base64,
}

/// Writes a vector.
pub(crate) fn write(bytes: &mut Vec<u8>, vector: &[f32], encoding: Encoding) {
    match encoding {
        Encoding::Float => write_json(bytes, vector),
        Encoding::Base64 => {
            let raw: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            bytes.push(b'"');
            bytes.extend_from_slice(STANDARD.encode(raw).as_bytes());
            bytes.push(b'"');
        }
    }
}

/// Writes plain data.
pub(crate) fn write_json<T: serde::Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(bytes, value).expect("invariant: answers are plain data");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(vector: &[f32], encoding: Encoding) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes, vector, encoding);
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        assert_eq!(written(&[0.1, -1.0, 0.0], Encoding::Float), "[0.1,-1.0,0.0]");
        assert_eq!(written(&[], Encoding::Float), "[]");
    }

    #[test]
    fn base64_is_of_little_endian_bytes() {
        assert_eq!(written(&[1.0], Encoding::Base64), "\"AACAPw==\"");
        assert_eq!(written(&[], Encoding::Base64), "\"\"");
    }

    proptest::proptest! {
        #[test]
        fn every_number_is_read_back_as_it_was(bits in proptest::prelude::any::<u32>()) {
            let value = f32::from_bits(bits);
            if value.is_finite() {
                let text = written(&[value], Encoding::Float);
                let read: f32 = text.trim_matches(['[', ']']).parse().expect("a number");
                proptest::prop_assert_eq!(read.to_bits(), bits);
            }
            let text: String = serde_json::from_str(&written(&[value], Encoding::Base64)).expect("text");
            proptest::prop_assert_eq!(STANDARD.decode(text).expect("base64"), bits.to_le_bytes());
        }
    }
}
