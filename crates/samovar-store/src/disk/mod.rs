//! How files lie on the disk: the paths of a store, and writing, locking and leasing them so that a crash harms nothing.
//!
//! Knows neither the index nor what an artifact consists of.

pub(crate) mod ballast;
pub(crate) mod blocking;
pub(crate) mod durable;
pub(crate) mod layout;
pub(crate) mod lease;
pub(crate) mod lock;
mod network;
pub(crate) mod partial;
pub(crate) mod plain;
pub(crate) mod snapshot;
pub(crate) mod space;
pub(crate) mod span;
pub(crate) mod stamp;
pub(crate) mod trash;
