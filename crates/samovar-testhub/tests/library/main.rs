//! The hub as tests use it.
#![allow(clippy::unwrap_used, reason = "what is missing fails the test")]

#[path = "../client/mod.rs"]
mod client;

mod lies;
mod program;
mod truth;
