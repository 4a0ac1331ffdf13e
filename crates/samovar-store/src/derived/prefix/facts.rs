//! What is written beside a saved state: whose tokens it is, and what its bytes must be.

use std::io;
use std::path::Path;

use samovar_core::Digest;
use samovar_core::digest::Hasher;
use serde::{Deserialize, Serialize};

use crate::disk::layout::Layout;
use crate::disk::plain;

/// Version of this and of what leads to a directory's name.
pub(super) const FORMAT: u32 = 1;
/// The engine's bytes, in a prefix's directory.
pub(super) const STATE: &str = "state";
/// This, beside them.
pub(super) const FACTS: &str = "facts.json";
/// Bytes of it that are read or written at all: more than two million tokens.
const FACTS_BYTES: u64 = 16 << 20;

/// The facts of a saved state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PrefixMetadata {
    pub(super) format: u32,
    /// Bytes of the state.
    pub(super) bytes: u64,
    /// Digest of the state.
    pub(super) digest: Digest,
    /// For people: when it was saved, in milliseconds since 1970.
    pub(super) created_ms: u64,
    pub(super) tokens: Vec<u32>,
    /// Whose prompt it was; none of what was saved before that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<Digest>,
}

impl PrefixMetadata {
    /// Reads the facts of a saved prefix; `None` when they are none of this name.
    ///
    /// # Errors
    /// `NotFound` when the prefix is gone; whatever else the system says.
    pub(super) fn read(layout: &Layout, prefix: &Path) -> io::Result<Option<Self>> {
        let bytes = match plain::read(layout.root(), &prefix.join(FACTS), FACTS_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            read => read?,
        };
        let facts = serde_json::from_slice::<Self>(&bytes).ok().filter(|facts| facts.format == FORMAT);
        let name = prefix.file_name().and_then(|name| name.to_str());
        Ok(facts.filter(|facts| name == Some(&name_of(&facts.tokens))))
    }

    /// As text; `None` for more tokens than would be read again.
    pub(super) fn to_text(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok().filter(|text| text.len() as u64 <= FACTS_BYTES)
    }
}

/// The name of a prefix's directory: a digest of its tokens.
pub(super) fn name_of(tokens: &[u32]) -> String {
    let mut hasher = Hasher::new();
    hasher.update(b"samovar prefix tokens 1\n");
    for token in tokens {
        hasher.update(&token.to_le_bytes());
    }
    hasher.finish().to_string()
}
