//! The identity of an artifact: which model, at which commit, in which form.

use std::fmt::Write as _;

use samovar_core::Digest;
use serde::{Deserialize, Serialize};

use crate::artifact::name::{Commit, ModelId, SourceId};

/// What one artifact is. Two keys are equal if and only if the content is meant to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactKey {
    /// The kind of place it came from.
    pub source: SourceId,
    /// What that place calls it.
    pub model: ModelId,
    /// What fixes its content there.
    pub commit: Commit,
    /// Quantization, such as `Q4_K_M`; empty where a model has only one form.
    pub quant: String,
    /// `text`, `embedding`, `vision`, …
    pub modality: String,
}

/// SHA-256 of a key: the name of its manifest and snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyDigest(Digest);

impl ArtifactKey {
    /// The name under which the store files it. Every part counts in full, with its length before it,
    /// so that no two keys have the same text.
    pub fn digest(&self) -> KeyDigest {
        let parts =
            [self.source.as_str(), self.model.as_str(), self.commit.as_str(), &self.quant, &self.modality];
        let mut text = String::from("samovar artifact 1\n");
        for part in parts {
            let _ = writeln!(text, "{}:{part}", part.len());
        }
        KeyDigest(Digest::of_bytes(text.as_bytes()))
    }
}

impl KeyDigest {
    /// The key that has this digest.
    pub const fn from_digest(digest: Digest) -> Self {
        Self(digest)
    }

    /// The digest itself.
    pub const fn as_digest(&self) -> &Digest {
        &self.0
    }

    /// From text that names a manifest, such as a file name.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl std::fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(model: &str, commit: &str) -> ArtifactKey {
        ArtifactKey {
            source: "hub".parse().expect("source"),
            model: model.parse().expect("model"),
            commit: commit.parse().expect("commit"),
            quant: "Q4_K_M".to_owned(),
            modality: "text".to_owned(),
        }
    }

    #[test]
    fn every_part_counts() {
        assert_ne!(key("a/b", "c").digest(), key("a/b", "d").digest());
        assert_ne!(key("a/b", "c").digest(), key("a/bc", "c").digest());
        assert_eq!(key("a/b", "c").digest(), key("a/b", "c").digest());
    }
}
