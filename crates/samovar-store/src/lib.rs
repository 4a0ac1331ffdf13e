//! L2 over L3: artifacts on disk, shared by all processes, verified, and fetched once.
//!
//! ```text
//!   ensure ─► find ───────────── hit ──────────────────────────────► open ─► paths, leased
//!               └ miss ─► resolve ─► room ─► fetch ─► ingest ─► commit ─┘
//!                         source    quota   ranges   hash,     manifest,
//!                         (L3)              (L3)     rename    index
//! ```
//!
//! The bytes are the truth: what lies under `blobs/` is complete and verified, and the manifests say
//! what belongs together. The SQLite index is a memo that can be thrown away. This crate knows no
//! engine, no pool and no wire type of ours.
#![forbid(unsafe_code)]

pub mod artifact;
mod collect;
pub mod config;
mod durable;
mod error;
#[allow(dead_code, reason = "the parts that use it are being put together")]
mod fetch;
#[allow(dead_code, unused_imports, reason = "the parts that use it are being put together")]
mod index;
pub mod key;
mod layout;
mod lock;
pub mod manifest;
pub mod name;
mod partial;
mod plain;
pub mod progress;
#[allow(dead_code, unused_imports, reason = "the parts that use it are being put together")]
pub mod source;
mod span;

pub use artifact::{Artifact, ArtifactFile, Usage};
pub use config::{RetryConfig, SourceConfig, StoreConfig};
pub use error::Error;
#[doc(hidden)]
pub use index::MeasuredIndex;
pub use key::{ArtifactKey, KeyDigest};
pub use manifest::{Manifest, Role};
pub use name::{Commit, FilePath, ModelId, SourceId};
pub use progress::{Progress, Transfer, Watch};
