//! The one resident process: how it is started, how it is the only one, how it leaves.
//!
//! ```text
//!   run ── socket answers? ── yes ─► ask it
//!    │ no
//!    └─► start lock ─ socket answers? ─ no ─► spawn `serve --background` ─► waits for its word on a pipe
//!                     (another was faster: yes)           │
//!                                                         ├ setsid, log file, daemon lock (held for life)
//!                                                         └ socket accepts ─► "ready", or the failure itself
//! ```
//!
//! The daemon lock, not the socket file, says whether a daemon lives: a socket file outlives a dead one.

pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod resident;
pub(crate) mod start;
mod statistics;
mod succession;
pub(crate) mod workers;
