//! The daemon's side against real child processes, whose engine is the fake one.

mod conformance;
mod deaths;
mod hangs;
mod orders;
mod packing;
mod stand;
