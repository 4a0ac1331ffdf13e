//! Disks that say no: full, read-only, immutable, not ours, or failing in the middle.
//!
//! Each fault must come out as an error with a name, leave everything that was in the store as it was, and
//! must not hide what is there. What a machine does not allow is skipped, and says so.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says what it skips"
)]

#[path = "../keeping/mod.rs"]
mod keeping;

mod failing;
mod full;
mod mount;
mod refused;
mod scene;
