//! An engine that runs another engine in a child process, so that nothing a model does takes the daemon down.
//!
//! This crate never decides which models are loaded and knows no engine by name.

pub mod sandbox;
