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

mod adopt;
mod arrival;
pub mod artifact;
mod ballast;
mod blob;
mod blocking;
mod collect;
pub mod config;
mod disk;
mod durable;
mod ensure;
mod error;
mod export;
mod fetch;
mod find;
mod flight;
mod heal;
mod hits;
mod index;
mod ingest;
pub mod key;
mod layout;
mod lease;
mod lock;
pub mod manifest;
mod manifests;
mod memo;
mod meter;
pub mod name;
mod opened;
mod packed;
mod partial;
mod pin;
mod plain;
mod plan;
mod prefix;
pub mod progress;
mod reading;
mod repair;
mod room;
mod snapshot;
pub mod source;
mod span;
mod stats;
mod store;
mod tier;

pub use adopt::{AdoptKind, AdoptOptions, AdoptRoot, Adopted, AdoptedArtifact, Placement, Skipped};
pub use artifact::{Artifact, ArtifactFile, Usage};
pub use collect::{CollectOptions, Collected, LeftoverKind, Removed, Swept, Why};
pub use config::{PrefixConfig, RetryConfig, SourceConfig, StoreConfig};
pub use disk::DiskUse;
pub use error::Error;
pub use export::{Exported, Imported};
pub use key::{ArtifactKey, KeyDigest};
pub use manifest::{Manifest, Role};
pub use name::{Commit, FilePath, ModelId, SourceId};
pub use opened::Opened;
pub use packed::{Make, Making, OpenedPacked, PackedFacts, PackedFiles, PackedUse};
pub use plan::Plan;
pub use prefix::{PrefixUse, Prefixes, SavedPrefix, Weights};
pub use progress::{Progress, Transfer, Watch};
pub use repair::{Fault, Unrepaired, Verified, VerifyOptions};
pub use stats::StoreStats;
pub use store::{Pulled, Store, Verdict};
pub use tier::Tier;
