//! The first frame of both sides, in a form that never changes, so that any two versions understand it.

use samovar_core::{ErrorKind, Failure};

use super::frame::{self, FrameError};

const MAGIC: &[u8; 8] = b"samovar\0";

/// Which program speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    protocol: u32,
    version: String,
}

impl Hello {
    /// This program.
    pub(crate) fn ours() -> Self {
        Self { protocol: super::PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// As a frame: eight bytes that never change, the protocol's number, the program's version.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.protocol.to_le_bytes());
        bytes.extend_from_slice(self.version.as_bytes());
        frame::seal(bytes).expect("invariant: a version is short")
    }

    /// Reads what `encode` wrote.
    pub(crate) fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        let strange = || FrameError::Malformed("the other side is no samovar".to_owned());
        let rest = frame.strip_prefix(MAGIC).ok_or_else(strange)?;
        let (protocol, version) = rest.split_first_chunk().ok_or_else(strange)?;
        let version = String::from_utf8_lossy(version).chars().take(64).collect();
        Ok(Self { protocol: u32::from_le_bytes(*protocol), version })
    }

    /// Whether the other side, named by `who`, is the same program as this one.
    ///
    /// # Errors
    /// `EngineFailed` with both versions when it is not.
    pub(crate) fn check(&self, who: &str) -> Result<(), Failure> {
        let ours = Self::ours();
        if *self == ours {
            return Ok(());
        }
        let message = format!(
            "{who} is samovar {} (protocol {}), this is {} (protocol {})",
            self.version, self.protocol, ours.version, ours.protocol
        );
        Err(Failure::new(ErrorKind::EngineFailed, message).with_hint(
            "the program was replaced while it ran: `samovar shutdown` lets the next run start the new one",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused_with_both_names() {
        let other = Hello { protocol: 7, version: "9.9.9".to_owned() };
        let read = Hello::decode(&other.encode()[4..]).unwrap();
        assert_eq!(read, other);
        let refused = read.check("the worker").unwrap_err();
        assert_eq!(refused.kind, ErrorKind::EngineFailed);
        assert!(refused.message.contains("9.9.9") && refused.message.contains(env!("CARGO_PKG_VERSION")));
        assert_eq!(Hello::ours().check("the worker"), Ok(()));
    }

    #[test]
    fn a_stranger_is_no_samovar() {
        assert!(Hello::decode(b"HTTP/1.1 400").is_err());
        assert!(Hello::decode(b"samovar\0").is_err());
    }
}
