//! The store as a program uses it. One binary, because each one compiles the whole way of a fetch again; what starts
//! itself as several processes, and what breaks disks and processes, have theirs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../keeping/mod.rs"]
mod keeping;
#[path = "../s3_server/mod.rs"]
mod s3_server;

mod adopt;
mod adopt_hub_package;
mod collect;
mod export;
mod hostile_hub;
mod model;
mod packed;
mod prefixes;
mod prepared;
mod repair;
mod sources;
mod store;
