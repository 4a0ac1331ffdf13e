//! What an artifact is: its key, its files with their roles, and names from outside as types.

pub mod key;
pub mod manifest;
pub mod name;

use samovar_core::footprint::Footprint;
use serde::{Deserialize, Serialize};

use crate::artifact::key::{ArtifactKey, KeyDigest};
use crate::artifact::manifest::ManifestFile;

/// A file of an artifact.
pub type ArtifactFile = ManifestFile;

/// An artifact that the store has, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its place in the index of this store.
    pub id: i64,
    /// What it is.
    pub key: ArtifactKey,
    /// The digest of its key.
    pub key_digest: KeyDigest,
    /// The canonical text by which a user names it, such as `hf://org/name:Q4_K_M`.
    pub reference: String,
    /// Its files; weights in the order of their parts.
    pub files: Vec<ArtifactFile>,
    /// Kept from collection.
    pub is_pinned: bool,
    /// When it was committed, in milliseconds since 1970.
    pub created_ms: u64,
    /// How it was used.
    pub usage: Usage,
}

impl Artifact {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// How an artifact was used, over all processes and restarts. Measured values are moving averages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Times it was there when it was asked for.
    pub hits: u64,
    /// Times it had to be fetched.
    pub misses: u64,
    /// Last use, in milliseconds since 1970; 0 = never.
    pub last_ms: u64,
    /// Uses a day, decaying.
    pub rate: f64,
    /// Loads that were measured.
    pub loads: u64,
    /// Milliseconds that a load takes.
    pub load_ms: f64,
    /// What a load was measured to hold and map; zero until one was.
    pub footprint: Footprint,
    /// Bytes a second at which it was fetched; 0 = never.
    pub fetch_bytes_per_s: f64,
}
