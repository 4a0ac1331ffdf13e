//! The candle engine: published models (safetensors) as they are, in Rust alone. Without the feature `engine` it is empty.
//!
//! ```text
//!   engine      the port's implementation         describe, footprint   facts and memory, from headers
//!   config      what config.json says             instance      the handle of a loaded model
//!   weights     reads tensors                     thread        the loop that owns it
//!   decoder, encoder, layers   what is computed     ├─ kv         state of sequences, reused
//!   vocabulary  tokens and their bytes              ├─ slot       one request
//!   prompts     conversations become tokens         ├─ sampler    the next token
//!   figures     numbers that others read            └─ embedding  vectors and scores
//! ```
//!
//! It reads no pickle, no GGUF file and no other file than those that it is given. It decides nothing about memory, compiles no
//! grammar, and contains no unsafe code of its own.
#![forbid(unsafe_code)]

#[cfg(feature = "engine")]
mod config;
#[cfg(feature = "engine")]
mod decoder;
#[cfg(feature = "engine")]
mod describe;
#[cfg(feature = "engine")]
mod embedding;
#[cfg(feature = "engine")]
mod encoder;
#[cfg(feature = "engine")]
mod engine;
#[cfg(feature = "engine")]
mod error;
#[cfg(feature = "engine")]
mod figures;
#[cfg(feature = "engine")]
mod footprint;
#[cfg(feature = "engine")]
mod instance;
#[cfg(feature = "engine")]
mod kv;
#[cfg(feature = "engine")]
mod layers;
#[cfg(feature = "engine")]
mod prompts;
#[cfg(feature = "engine")]
mod sampler;
#[cfg(feature = "engine")]
mod slot;
#[cfg(feature = "engine")]
mod thread;
#[cfg(feature = "engine")]
mod vocabulary;
#[cfg(feature = "engine")]
mod weights;

#[cfg(feature = "engine")]
pub use engine::CandleEngine;
