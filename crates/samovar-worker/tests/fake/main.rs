//! The daemon's side against real child processes, whose engine is the fake one.

mod conformance;
mod cores;
mod deaths;
mod figures;
mod hangs;
mod lies;
mod orders;
mod packing;
mod prompts;
mod stand;
