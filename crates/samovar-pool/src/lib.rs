//! L1: which instances live in memory.
//!
//! ```text
//!   Pool (handle) ──commands──► owner ──Event──► decide::step ──Effect──► owner ──► effects (blocking threads)
//!     acquire ◄────Lease────────┘ ▲                 pure                              load park resume unload
//!     drop(Lease) ──returns───────┤                                                          │
//!                                 └───────────────────────outcomes───────────────────────────┘
//! ```
//!
//! One task owns the state; everything hard is decided in [`decide`], a pure function from event to effects;
//! everything slow is an effect on a thread of its own, whose outcome comes back as another event.
//!
//! This crate never reads a model file, knows no engine by name and holds no lock across an await.
#![forbid(unsafe_code)]

mod ask;
pub mod budget;
pub mod config;
pub mod decision;
mod effects;
pub mod error;
mod handle;
mod lease;
mod owner;
mod pressure;
pub mod protocol;
pub mod replay;
mod rng;
pub mod snapshot;
mod stats;

pub mod decide;

pub use ask::{AcquireRequest, Instances, ModelSpec, Wait};
pub use budget::Budget;
pub use config::{EvictionPolicy, PoolConfig};
pub use decision::{Decision, NumberedDecision, Reason, What};
pub use error::Error;
pub use handle::Pool;
pub use lease::{BackgroundReservation, GrantFacts, GrantKind, Lease};
pub use snapshot::{ArenaStats, ModelState, ModelStats, PoolStats, Snapshot};
pub use stats::{Counters, ModelTally, Statistics, Tally};
