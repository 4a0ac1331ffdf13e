//! The daemon's side against real child processes, whose engine is the fake one.

mod commands;
mod conformance;
mod cores;
mod deaths;
mod deltas;
mod embeddings;
mod figures;
mod hangs;
mod lies;
mod packing;
mod preparing;
mod prompts;
mod stand;
