//! The server over real sockets, on an engine that does what a script says.

mod aborts;
mod admin;
mod bodies;
mod chat;
mod clients;
mod completions;
mod connections;
mod context;
mod early;
mod embedders;
mod embeddings;
mod fields;
mod fixture;
mod framing;
mod hardening;
mod leaving;
mod llama_server;
mod messages;
mod metrics;
mod ollama;
mod origins;
mod raw;
mod reranking;
mod responses;
mod tei;
mod tools;
