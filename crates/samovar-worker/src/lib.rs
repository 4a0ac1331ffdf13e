//! An engine that runs another engine in a child process, so that nothing a model does takes the daemon down.
//!
//! ```text
//!   parent/   WorkerEngine ── spawns ──► one child per instance, a thread of ours beside each
//!                  │  Unix socket: protocol/ (frames, descriptors)
//!                  ▼
//!   child/    run(socket, engine): sandbox/ ─► load ─► serve until told to leave, or alone
//!   ration    what a chat template may allocate, counted by the allocator
//!   health    is it alive, and does it get on?
//! ```
//!
//! A worker that crashes, hangs or is killed loses its own requests, each with one well-formed error, and no
//! others. This crate never decides which models are loaded, never parses a model and knows no engine by name.

#[cfg(target_os = "linux")]
pub mod child;
mod config;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod health;
#[cfg(target_os = "linux")]
mod parent;
#[cfg(target_os = "linux")]
mod protocol;
#[cfg(target_os = "linux")]
mod ration;
pub mod sandbox;
mod stats;

pub use config::{Timeouts, WorkerConfig};
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{WorkerEngine, child};
#[cfg(target_os = "linux")]
pub use parent::WorkerEngine;
#[cfg(all(target_os = "linux", feature = "testing"))]
pub use parent::hear_frames;
#[cfg(target_os = "linux")]
pub use ration::Ration;
pub use stats::WorkerStats;
