//! The server over real sockets, on an engine that does what a script says.

mod admin;
mod chat;
mod clients;
mod completions;
mod fixture;
mod hardening;
mod leaving;
mod metrics;
mod raw;
