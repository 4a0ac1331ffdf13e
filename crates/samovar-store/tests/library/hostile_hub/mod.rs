//! A hub that lies, and a store that must not mind.
//!
//! Each test tells a lie, or several, and asks for a model. Whatever comes of it, after each of them: no file
//! stands outside of the cache, every blob is what its name says, no token went to another host, what was in
//! the cache before still opens, and the error has a kind and a remedy. Once the hub is honest again, the
//! model comes, and asking for it once more sends no byte.
#![allow(clippy::unwrap_used, reason = "what is missing fails the test")]

mod access;
mod bodies;
mod fixture;
mod listings;
mod names;
mod plain;
mod ranges;
mod redirects;
mod resumes;
mod tags;
mod times;
