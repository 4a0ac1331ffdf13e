//! The truth about one artifact: which files it has, and which bytes they are.
//!
//! A manifest is a small JSON file named by its key's digest. It is written once, complete, and never
//! changed; the index can be built again from manifests and blobs alone.

use samovar_core::{Digest, FileRole};
use serde::{Deserialize, Serialize};

use crate::artifact::key::ArtifactKey;
use crate::artifact::name::FilePath;

/// The version that this program writes and reads.
pub const FORMAT: u32 = 1;
/// Files of one artifact.
pub const FILES: usize = 4_096;
/// Bytes of a manifest that is read at all.
pub const BYTES: u64 = 4 << 20;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Model weights; of a split model, one part. Parts are in the order of the manifest.
    Weights,
    /// A vision projector that belongs to the weights.
    Projector,
    /// Tokenizer files.
    Tokenizer,
    /// Chat template.
    Template,
    /// Configuration of the model.
    Config,
    /// Licence, card and the like.
    Other,
}

impl Role {
    /// What the file is for to an engine; `None` of one that is for people.
    pub(crate) const fn in_model(self) -> Option<FileRole> {
        match self {
            Self::Weights => Some(FileRole::Weights),
            Self::Projector => Some(FileRole::Projector),
            Self::Tokenizer => Some(FileRole::Tokenizer),
            Self::Template => Some(FileRole::Template),
            Self::Config => Some(FileRole::Config),
            Self::Other => None,
        }
    }
}

/// One file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Its place inside the artifact.
    pub path: FilePath,
    /// What it is for.
    pub role: Role,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// All files of one artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// What it is.
    pub key: ArtifactKey,
    /// The moving name by which it was asked for (`main`, a tag), when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The canonical text by which a user names it.
    pub reference: String,
    /// Its files; weights in the order of their parts.
    pub files: Vec<ManifestFile>,
    /// When it was committed, in milliseconds since 1970.
    pub created_ms: u64,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// What keeps this from being a manifest, whatever says that it is one.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        fault_of(self.files.iter().map(|file| &file.path))
    }

    /// The weights, in the order of their parts.
    pub fn weights(&self) -> impl Iterator<Item = &ManifestFile> {
        self.files.iter().filter(|file| file.role == Role::Weights)
    }
}

/// What keeps these from being the files of one artifact.
pub(crate) fn fault_of<'a>(paths: impl Iterator<Item = &'a FilePath>) -> Option<&'static str> {
    let mut paths: Vec<&str> = paths.map(FilePath::as_str).collect();
    paths.sort_unstable();
    let below = |directory: &str, path: &str| {
        path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if paths.is_empty() {
        Some("it has no files")
    } else if paths.len() > FILES {
        Some("it has too many files")
    } else if paths.iter().enumerate().any(|(at, path)| {
        // Sorted, what lies below a name follows it, with nothing but longer names of its beginning between.
        paths[at + 1..].iter().take_while(|next| next.starts_with(path)).any(|next| below(path, next))
    }) {
        Some("a file's name is there twice, or is a directory's too")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(paths: &[&str]) -> Option<&'static str> {
        let paths: Vec<FilePath> = paths.iter().map(|path| path.parse().unwrap()).collect();
        fault_of(paths.iter())
    }

    #[test]
    fn files_have_names_of_their_own() {
        assert_eq!(fault(&["a", "a.b", "b/c", "b/d"]), None);
        assert!(fault(&[]).is_some());
        assert!(fault(&["a", "b", "a"]).is_some());
        assert!(fault(&["a/b", "a-c", "a"]).is_some());
    }
}
