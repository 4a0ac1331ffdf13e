//! The llama.cpp engine: GGUF models on the CPU, many requests in one batch.
//!
//! ```text
//!   engine        the port's implementation       build_info   which native code this is
//!   instance      the handle of a loaded model ──► thread ──► batch      the loop that owns a context
//!                                                              ├─ schedule   what a step computes
//!   embed/        vectors and scores of texts                  │
//!   plan          options → native parameters                  ├─ turns      with which adapters
//!   adapters, adapter_set   files, in memory and named         ├─ prefix     what need not be computed
//!   footprint     memory, predicted and accounted              ├─ kv, cells  who holds what in the cache
//!   native, log   calls outside the safe binding               ├─ context    the native side of it
//!   ticket        what travels between them                    └─ slot       one request
//!   prefix_command, saved  the state of finished requests, in files
//!   prepare       a published model becomes a GGUF file               │
//!   threads/      with how many threads a step computes               │
//!   published     numbers that others read                          ├─ sampler           the next token
//!   constraints   what an answer must look like, compiled           ├─ binding           which may come, which must
//!   speculate/    more than one token per step                      ├─ drafts            which may be guessed
//!   drafter       a draft model, which guesses them                 │
//!   prompts, reading  a conversation, and how its answer is read    ├─ logprobs          its probability
//!   last_event    how an answer ends                                └─ thought           how long it thinks
//! ```
//!
//! One thread owns a model's context and no other thread touches it; the async side sees channels only. This
//! crate never reads a file before the GGUF gate has passed it, never renders templates and never decides
//! what is loaded.

#![allow(
    clippy::cast_possible_wrap,
    reason = "llama.cpp counts in i32; vocabulary, context and batch are bounded far below it by the gate and the plan"
)]

mod adapter_set;
mod adapters;
mod batch;
mod binding;
mod build_info;
mod cells;
mod constraints;
mod context;
mod drafter;
mod drafts;
mod embed;
mod engine;
mod error;
mod footprint;
mod instance;
mod kv;
mod last_event;
mod log;
mod logprobs;
mod native;
mod packed;
mod plan;
mod prefix;
mod prefix_command;
mod prepare;
mod prompts;
mod published;
mod reading;
mod sampler;
mod saved;
mod schedule;
mod slot;
mod speculate;
mod thought;
mod thread;
mod threads;
mod ticket;
mod turns;
mod vocabulary;

pub use build_info::{AmxState, BuildInfo, build_info};
pub use engine::LlamaEngine;
pub use error::Error;
pub use native::{give_back_memory, keep_little_freed_memory};
