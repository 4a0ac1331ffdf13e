//! SHA-256 of a file's bytes: the name under which the store keeps them.
//!
//! A [`Digest`] can only come from bytes that were hashed or from text of the right shape; it is
//! never built from parts.

use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// How much is read at once while a file is hashed.
const CHUNK_BYTES: usize = 64 * 1024;
const PREFIX: &str = "sha256:";

/// A SHA-256 digest. Shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Text that is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// Another number of digits than 64.
    #[error("a SHA-256 digest has 64 hexadecimal digits, this has {0} characters")]
    Length(usize),
    /// A character that is no hexadecimal digit.
    #[error("{0:?} is not a hexadecimal digit")]
    Character(char),
    /// Another algorithm is named.
    #[error("digests are written sha256:<64 hexadecimal digits>, not {0:?}")]
    Algorithm(String),
}

impl Digest {
    /// The digest of these bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of all that `reader` gives, in bounded memory.
    ///
    /// # Errors
    /// Whatever the reader says.
    pub fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let mut hasher = Hasher::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => hasher.update(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
    }

    /// The digest of a file's content.
    ///
    /// # Errors
    /// When the file cannot be opened or read; the error names the path.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Self::of_reader(fs_err::File::open(path)?)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Makes a [`Digest`] of bytes that come piece by piece, such as from a network.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes that were taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    /// Reads 64 hexadecimal digits in either case, with or without `sha256:` before them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(PREFIX).unwrap_or(text);
        if let Some((algorithm, _)) = digits.split_once(':') {
            return Err(ParseDigestError::Algorithm(algorithm.chars().take(32).collect()));
        }
        if digits.len() != 64 {
            return Err(ParseDigestError::Length(digits.chars().count()));
        }
        let mut bytes = [0; 32];
        let mut nibbles = digits.chars().map(|c| c.to_digit(16).ok_or(ParseDigestError::Character(c)));
        for byte in &mut bytes {
            let mut nibble =
                || nibbles.next().unwrap_or(Err(ParseDigestError::Length(digits.chars().count())));
            *byte = (nibble()? << 4 | nibble()?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn agrees_with_the_published_test_vector() {
        assert_eq!(Digest::of_bytes(b"abc").to_string(), ABC);
    }

    #[test]
    fn reads_both_spellings_and_either_case() {
        let digest = Digest::of_bytes(b"abc");
        assert_eq!(ABC.parse(), Ok(digest));
        assert_eq!(format!("sha256:{ABC}").parse(), Ok(digest));
        assert_eq!(ABC.to_uppercase().parse(), Ok(digest));
    }

    #[test]
    fn refuses_other_text_and_says_why() {
        assert_eq!("abc".parse::<Digest>(), Err(ParseDigestError::Length(3)));
        assert_eq!(ABC.replace('b', "x").parse::<Digest>(), Err(ParseDigestError::Character('x')));
        assert_eq!("é".repeat(32).parse::<Digest>(), Err(ParseDigestError::Character('é')));
        assert_eq!(format!("md5:{ABC}").parse::<Digest>(), Err(ParseDigestError::Algorithm("md5".into())));
    }

    #[test]
    fn a_file_larger_than_one_chunk_hashes_as_its_bytes() {
        let bytes: Vec<u8> = (0..CHUNK_BYTES * 3 + 17).map(|i| i as u8).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        assert_eq!(Digest::of_file(file.path()).unwrap(), Digest::of_bytes(&bytes));
    }

    proptest! {
        #[test]
        fn pieces_hash_as_the_whole(pieces: Vec<Vec<u8>>) {
            let mut hasher = Hasher::new();
            for piece in &pieces {
                hasher.update(piece);
            }
            prop_assert_eq!(hasher.finish(), Digest::of_bytes(&pieces.concat()));
        }

        #[test]
        fn text_and_back_is_the_same(bytes: [u8; 32]) {
            let digest = Digest(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Digest>();
        }
    }
}
