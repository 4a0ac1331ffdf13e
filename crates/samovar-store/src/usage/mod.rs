//! What the store was used for and how much it holds: counters, bytes on the disk, and small notes of its users.

pub(crate) mod disk;
pub(crate) mod hits;
mod memo;
pub(crate) mod stats;
