//! Takes over what other programs downloaded, without a second copy.
//!
//! ```text
//!   root ─► scan ─► Found: key, files, claims ─► hash ─► place ─► commit
//!           hf_cache, ollama,                    once    reflink, else hard link,
//!           lm_studio, folder                            else reference in place, else copy
//! ```
//!
//! What cannot be taken over (a broken link, another user's file, half a download) is skipped with a
//! reason and never stops the rest. Nothing that belongs to another program is written, moved, deleted or
//! given other rights: where its bytes are shared, the index says so, and collection leaves them alone.
//! Adopting again does nothing.

mod folder;
mod group;
mod hf_cache;
mod lm_studio;
mod nearby;
mod ollama;
mod place;
mod run;

use std::path::{Path, PathBuf};

use samovar_core::Digest;
use serde::Serialize;

use crate::artifact::key::ArtifactKey;
use crate::artifact::manifest::Role;
use crate::artifact::name::FilePath;
use crate::config::{AdoptKind, AdoptRoot};
use crate::error::Error;
use crate::fetch::progress::Watch;
use crate::index::Stamp;
use crate::source::folder::Bounds;
pub use crate::source::folder::Skipped;
use crate::store::Store;
pub(crate) use nearby::NameLocks;

/// What to take over, and how far to go.
#[derive(Clone, Default)]
pub struct AdoptOptions {
    /// Where to look.
    pub roots: Vec<AdoptRoot>,
    /// Say only what would be done. Headers are looked at and nothing is hashed, so that a file that is not what its name claims
    /// shows up later, when it is adopted.
    pub dry_run: bool,
    /// Copy what cannot be shared safely, such as another user's file; otherwise it is skipped.
    pub copies: bool,
    /// Is told how far the reading is.
    pub watch: Option<Watch>,
}

impl AdoptRoot {
    /// A folder, and whose it is by what lies in it. A program's home (`HF_HOME`, `~/.ollama`) means the
    /// folder in it that the models are in.
    pub fn guess(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let (hub, models) = (path.join("hub"), path.join("models"));
        let path = if hf_cache::is_one(&hub) {
            hub
        } else if ollama::is_one(&models) || (lm_studio::is_one(&models) && models.is_dir()) {
            models
        } else {
            path
        };
        let kind = if hf_cache::is_one(&path) {
            AdoptKind::HuggingFace
        } else if ollama::is_one(&path) {
            AdoptKind::Ollama
        } else if lm_studio::is_one(&path) {
            AdoptKind::LmStudio
        } else {
            AdoptKind::Folder
        };
        Self { path, kind }
    }

    /// Where these programs keep their models below a user's home when no setting says otherwise. What is
    /// not there is left out.
    pub fn usual(home: &Path) -> Vec<Self> {
        let places = [
            (".cache/huggingface/hub", AdoptKind::HuggingFace),
            (".ollama/models", AdoptKind::Ollama),
            (".lmstudio/models", AdoptKind::LmStudio),
            (".cache/lm-studio/models", AdoptKind::LmStudio),
        ];
        let roots = places.into_iter().map(|(path, kind)| Self { path: home.join(path), kind });
        roots.filter(|root| root.path.is_dir()).collect()
    }
}

/// What was taken over.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Adopted {
    /// Nothing was done: this is what would be.
    pub dry_run: bool,
    /// The artifacts that were found.
    pub artifacts: Vec<AdoptedArtifact>,
    /// What was passed over.
    pub skipped: Vec<Skipped>,
}

/// One artifact that was found.
#[derive(Clone, Debug, Serialize)]
pub struct AdoptedArtifact {
    /// The text by which it can be used now.
    pub reference: String,
    /// What it is.
    pub key: ArtifactKey,
    /// The folder that it was found in.
    pub from: PathBuf,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of those that take no room of their own here, and need not be fetched; 0 when it was here already.
    pub saved_bytes: u64,
    /// How its largest file was taken over, or would be; `None` when the artifact was here already.
    pub how: Option<Placement>,
}

/// How a file of another program becomes one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The same bytes were here.
    Here,
    /// Cloned by the file system: shares the disk's blocks, and changes of one do not reach the other.
    Reflink,
    /// A second name for the same file.
    HardLink,
    /// Used where it lies.
    Reference,
    /// Copied.
    Copy,
}

impl Placement {
    /// Whether the bytes take no room of their own.
    pub fn is_shared(self) -> bool {
        self != Self::Copy
    }
}

impl Adopted {
    /// Bytes that take no room of their own here, and need not be fetched.
    pub fn saved_bytes(&self) -> u64 {
        self.artifacts.iter().map(|artifact| artifact.saved_bytes).sum()
    }
}

impl Store {
    /// Takes over what other programs downloaded. Blocks for as long as reading the new bytes once takes.
    ///
    /// # Errors
    /// When this store cannot be written. What is wrong with a file of another program is no error: it is
    /// told in [`Adopted::skipped`].
    pub fn adopt(&self, options: &AdoptOptions) -> Result<Adopted, Error> {
        run::adopt(&self.0.local, options)
    }
}

/// An artifact in another program's folder, as far as names tell.
#[derive(Clone, Debug)]
struct Found {
    key: ArtifactKey,
    /// The moving name that leads to it, if one does.
    revision: Option<String>,
    /// The text by which users name it.
    reference: String,
    /// Other texts that name it too.
    also: Vec<String>,
    folder: PathBuf,
    /// Where its files may lie, when that is not the root.
    bounds: Option<Bounds>,
    files: Vec<FoundFile>,
}

/// A file of such an artifact.
#[derive(Clone, Debug)]
struct FoundFile {
    path: FilePath,
    role: Role,
    /// Where it lies, without links.
    at: PathBuf,
    stamp: Stamp,
    /// The SHA-256 that its name claims.
    claim: Option<Digest>,
}
