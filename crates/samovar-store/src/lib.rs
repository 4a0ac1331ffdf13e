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
//!
//! ```text
//!   store      the handle: what all others call
//!   ensure     brings a whole artifact: resolve, room, each file, commit      source   where artifacts come from
//!   lookup     what a name means here, and its files while they are used      fetch    one file, over several connections
//!   adopt      takes over what other programs downloaded                      export   to and from a folder
//!   collect    what leaves the disk, and room for what comes                  repair   every byte read again
//!   derived    saved prefixes, packed and prepared files: made again if gone  usage    counters and bytes
//!   created    what users created over models, by name                        upload   bytes that a client sends
//!   cache      blobs and manifests, and the index filled from them            index    SQLite, a memo
//!   disk       paths, locks, leases, durable writes                           artifact keys, manifests, names
//! ```
#![forbid(unsafe_code)]

mod adopt;
mod artifact;
mod cache;
mod collect;
pub mod config;
mod created;
mod derived;
mod disk;
mod ensure;
mod error;
mod export;
mod fetch;
mod index;
mod local;
mod lookup;
mod repair;
pub mod source;
mod store;
mod upload;
mod usage;

pub use adopt::{AdoptOptions, Adopted, AdoptedArtifact, Placement, Skipped};
pub use artifact::key::{ArtifactKey, KeyDigest};
pub use artifact::manifest::{Manifest, Role};
pub use artifact::name::{Commit, FilePath, ModelId, SourceId};
pub use artifact::{Artifact, ArtifactFile, Usage, key, manifest, name};
pub use cache::tier::Location;
pub use collect::commands::CollectOptions;
pub use collect::{Collected, LeftoverKind, Removed, Swept, Why};
pub use config::{AdoptKind, AdoptRoot, PrefixConfig, RetryConfig, SourceConfig, StoreConfig};
pub use created::{CREATED_BYTES, CreatedNames, CreatedStamp};
pub use derived::file::{DerivedFacts, DerivedFiles, DerivedUse, Make, Making, OpenedDerived};
pub use derived::prefix::{PrefixUse, Prefixes, SavedPrefix, Weights};
pub use ensure::Pulled;
pub use ensure::plan::FetchPlan;
pub use error::Error;
pub use export::{Exported, Imported};
pub use fetch::progress::{FetchUnderWay, Progress, Transfer, Watch};
pub use lookup::opened::Opened;
pub use repair::{Fault, Unrepaired, Verified, VerifyOptions};
pub use store::{Integrity, Store};
pub use upload::Upload;
pub use usage::disk::DiskUse;
pub use usage::stats::StoreStats;
