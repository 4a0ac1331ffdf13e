//! What several processes do with one home at once. Apart from the other tests, which would share their time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "../fixture/mod.rs"]
mod fixture;

mod fetches;
mod stampede;
