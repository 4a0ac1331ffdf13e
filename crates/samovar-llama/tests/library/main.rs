//! The engine as the runtime uses it. One binary, because each one links llama.cpp again; what measures its process or
//! starts the native library itself is apart.

#[path = "../support/mod.rs"]
mod support;

mod adapters;
mod conformance;
mod constraints;
mod demo_model;
mod embedding_conformance;
mod embeddings;
mod grammars;
mod hybrid;
mod infill;
mod loading;
mod minilm;
mod packed;
mod prefixes;
mod prepare;
mod prompts;
mod saved_prefixes;
mod speculation;
mod split;
mod thinking;
mod tools;
mod windowed;
