//! Conversations in files, and the chat service on an engine that does what a script says.

mod backends;
mod deletion;
mod files;
mod trees;
mod windows;
