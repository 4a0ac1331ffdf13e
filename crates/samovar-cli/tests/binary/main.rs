//! The real binary, from the outside: every test has a home, and with it a daemon, of its own.

mod adapters;
mod bad_input;
mod chat;
mod config;
mod corpus;
mod crashes;
mod daemon;
mod doctor;
mod embed;
mod home;
mod layouts;
mod mistakes;
mod packed;
mod plan;
mod prompts;
mod readme;
mod run;
mod stampede;
mod stand_in;
mod store;
mod strangers;
mod surface;
mod templates;
mod walls;
mod worker;
