//! What the store was used for and how much it holds: counters, bytes on the disk, and small notes of its users.

pub(crate) mod disk;
mod memo;
pub(crate) mod stats;
pub(crate) mod usage_counts;
