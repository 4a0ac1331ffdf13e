//! The text of a key: made once of the system's randomness, shown once, and known afterwards by its digest alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use samovar_core::{Digest, ErrorKind, Failure};

/// What every key begins with, so that people and scanners of source code know one.
const PREFIX: &str = "sk-samovar-";
/// 256 bits: no digest of such a key can be turned back by trying, so a fast one will do.
const KEY_BYTES: usize = 32;
/// No longer text is looked up.
const TEXT_BYTES_MAX: usize = 256;

/// A key as its owner gets to see it once. It is never written to a file or a log; its `Debug` text does not hold it.
pub struct Secret(String);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// `Internal` when the system gives no randomness.
    pub fn new() -> Result<Self, Failure> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| {
            Failure::new(ErrorKind::Internal, format!("the system gives no random bytes: {error}"))
                .with_hint("try again")
        })?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The text, to be shown once.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What it is known by.
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(self.0.as_bytes())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a key that was sent is known by; nothing for text that no key can be.
pub(crate) fn digest_of(sent: &[u8]) -> Option<Digest> {
    (!sent.is_empty() && sent.len() <= TEXT_BYTES_MAX).then(|| Digest::of_bytes(sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_have_256_bits_and_show_nothing_of_themselves() {
        let (one, other) = (Secret::new().expect("made"), Secret::new().expect("made"));
        assert_ne!(one.text(), other.text());
        let tail = one.text().strip_prefix(PREFIX).expect("begins as all keys do");
        assert_eq!(URL_SAFE_NO_PAD.decode(tail).expect("reads").len() * 8, 256);
        assert_eq!(format!("{one:?}"), "Secret(…)");
        assert_eq!(digest_of(one.text().as_bytes()), Some(one.digest()));
    }

    #[test]
    fn what_no_key_can_be_is_not_looked_up() {
        assert_eq!(digest_of(b""), None);
        assert_eq!(digest_of(&[b'x'; TEXT_BYTES_MAX + 1]), None);
        assert!(digest_of(b"sk-of-another-program").is_some());
    }
}
