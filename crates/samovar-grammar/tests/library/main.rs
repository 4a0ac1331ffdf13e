//! Grammars as an engine uses them.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod rules;
mod walks;
