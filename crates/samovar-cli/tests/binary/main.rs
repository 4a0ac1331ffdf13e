//! The real binary, from the outside: every test has a home, and with it a daemon, of its own.

mod adapters;
mod bad_input;
mod candle;
mod chat;
mod config;
mod corpus;
mod crashes;
mod daemon;
mod doctor;
mod embed;
mod home;
mod keys;
mod layouts;
mod link;
mod migrate;
mod mistakes;
mod network;
mod ollama;
mod packed;
mod plan;
mod prepare;
mod prompts;
mod readme;
mod rpc;
mod run;
mod stampede;
mod stand_in;
mod store;
mod strangers;
mod surface;
mod templates;
#[cfg(target_os = "linux")]
mod top;
mod walls;
mod worker;
