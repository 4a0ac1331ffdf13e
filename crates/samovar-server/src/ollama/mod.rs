//! Ollama's API as its clients use it.
//!
//! ```text
//!   body ─► terms (model, options, format, think) + generate | chat ─► Request ─► Choices ─► open ─┬─► lines ─► NDJSON
//!             └ names: `tiny:latest` is `tiny`      (messages, tools)             (status is now   └─► whole ─► JSON
//!                                                                                  decided)
//!   no prompt, no messages ─► presence: the model is loaded, or leaves
//!   tags, ps, show         ─► models, show: what there is, what is in memory
//!   pull                   ─► pull: for the owner; a model that is here needs none
//!   create, copy, delete   ─► create, manage: names that the owner makes, and takes away
//!   blobs                  ─► blobs: bytes that the owner sends, for create
//! ```
//!
//! The status of an answer, also of a streamed one, is decided by its first token, as Ollama's is. Whatever fails later is the last
//! line of the stream.

pub(crate) mod blobs;
pub(crate) mod chat;
mod context;
pub(crate) mod create;
mod details;
pub(crate) mod embed;
mod error;
pub(crate) mod generate;
mod lines;
pub(crate) mod manage;
mod messages;
pub(crate) mod models;
mod names;
mod options;
mod presence;
pub(crate) mod pull;
mod respond;
pub(crate) mod root;
mod shape;
pub(crate) mod show;
mod terms;
mod told;
mod wishes;

pub(crate) use error::{Refused, refuse};
pub(crate) use terms::FIELDS as COMMON_FIELDS;
