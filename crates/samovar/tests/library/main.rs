//! The library as a program uses it. One binary, because each one compiles the whole way of a request again.

mod adapters;
mod demo_model;
mod draft_models;
mod embeddings;
mod groups;
mod packed;
mod prefixes;
mod prepare;
mod replies;
mod request_log;
mod runtime;
mod store;
#[cfg(feature = "llama")]
mod tokenizers;
