//! The identity of a model's bytes, by which the pool tells one from another.

use serde::{Deserialize, Serialize};

/// Identity of a model's bytes. Two references to the same file have the same key; a file that
/// was replaced under the same name has another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelKey(String);

impl ModelKey {
    /// A key made of a stable description of the bytes: a digest, or device, inode, size and time.
    pub fn new(identity: impl Into<String>) -> Self {
        Self(identity.into())
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ModelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
