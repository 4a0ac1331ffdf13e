//! The files of a published model: opened within bounds, and only by plain names.
//!
//! ```text
//!   Folder ── json / bytes      a file of a bounded size, counted among what decides the result
//!     └ weights ─► index ─► shards ─► header of each      names, shapes and places of all tensors
//! ```

mod folder;
mod header;
pub(crate) mod json;
mod weights;

pub(crate) use folder::{Folder, is_plain};
pub(crate) use weights::{Published, Shard, Weights};
