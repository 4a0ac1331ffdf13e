//! Keys of clients: who may use a server over TCP, for what, and how much of it. The Unix socket needs none.
//!
//! ```text
//!   samovar key ─► file ── changed ──► keyring ── find ──► account ── begin, reserve ──► a request with limits
//!                 (digests)           (in force)     └── none ──► attempts: 401, slower and slower
//! ```
//!
//! Keys are known by their digests alone: neither file, log, metric nor error holds one.

mod account;
mod attempts;
mod file;
mod gcra;
mod keyring;
mod record;
mod scope;
mod secret;

pub(crate) use account::{Account, Reserved};
pub use file::{KeyFile, KeyFileError};
pub(crate) use keyring::{KeyWatch, Keyring};
pub use record::{KeyRecord, KeyTerms};
pub use scope::{ParseScopeError, Scope};
pub use secret::Secret;
