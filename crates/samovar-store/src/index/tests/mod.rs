//! The index as its users see it.

mod crowd;
mod damage;
mod model;
mod queries;
mod versions;

use samovar_core::Digest;

use super::row::RefRow;
use super::*;
use crate::artifact::key::ArtifactKey;
use crate::artifact::manifest::{FORMAT, Manifest, ManifestFile, Role};

/// A directory with an index in it.
pub(super) struct Fixture {
    pub(super) folder: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("index.sqlite3")
    }

    pub(super) fn open(&self) -> Opened {
        Index::open(&self.path(), Journal::Wal).unwrap()
    }

    pub(super) fn index(&self) -> Index {
        self.open().index
    }

    /// What was set aside, without what lay beside it.
    pub(super) fn broken(&self) -> Vec<PathBuf> {
        let is_broken = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.strip_prefix("index.sqlite3.broken-").is_some_and(|ms| ms.parse::<u64>().is_ok())
        };
        let entries = fs_err::read_dir(self.folder.path().canonicalize().unwrap()).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(is_broken).collect()
    }
}

pub(super) fn key(model: &str, commit: &str) -> ArtifactKey {
    ArtifactKey {
        source: "hub".parse().unwrap(),
        model: model.parse().unwrap(),
        commit: commit.parse().unwrap(),
        quant: "Q4_K_M".to_owned(),
        modality: "text".to_owned(),
    }
}

pub(super) fn blob(content: &str) -> BlobRow {
    let size = content.len() as u64;
    BlobRow {
        digest: Digest::of_bytes(content.as_bytes()),
        size,
        state: BlobState::Ready,
        verified_ms: 1_750_000_000_000,
        stamp: Stamp { dev: u64::MAX, ino: 1 << 63, mtime_ns: -7, size },
        origin: Ownership::Owned,
        created_ms: 1_750_000_000_001,
    }
}

/// A manifest of files with these contents.
pub(super) fn manifest(key: &ArtifactKey, contents: &[&str], created_ms: u64) -> Manifest {
    let file = |(place, content): (usize, &&str)| ManifestFile {
        path: format!("part-{place}.gguf").parse().unwrap(),
        role: if place == 0 { Role::Weights } else { Role::Other },
        size: content.len() as u64,
        digest: Digest::of_bytes(content.as_bytes()),
    };
    Manifest {
        format: FORMAT,
        key: key.clone(),
        revision: Some("main".to_owned()),
        reference: format!("hf://{}:{}", key.model, key.quant),
        files: contents.iter().enumerate().map(file).collect(),
        created_ms,
    }
}

pub(super) fn commit(index: &Index, key: &ArtifactKey, contents: &[&str]) -> crate::Artifact {
    commit_at(index, key, contents, 1_750_000_000_000)
}

pub(super) fn commit_at(
    index: &Index,
    key: &ArtifactKey,
    contents: &[&str],
    created_ms: u64,
) -> crate::Artifact {
    let blobs: Vec<BlobRow> = contents.iter().map(|content| blob(content)).collect();
    let manifest = manifest(key, contents, created_ms);
    index.commit_artifact(&manifest, Digest::of_bytes(b"manifest"), &blobs).unwrap()
}
