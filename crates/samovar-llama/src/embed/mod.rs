//! Vectors and scores of texts: the second kind of work.
//!
//! ```text
//!   input     texts, tokens and pairs become tokens, on the thread of the caller
//!   ticket    what travels to the instance's thread
//!   queue     whose inputs the next batch computes      fill   how many tokens it has
//!   embedder  owns a context for vectors: one batch at a time ──► vector   what is told of it
//!   alone     the loop of a model that does nothing else (one that writes text has the embedder beside its batches)
//!   plan      sizes of the context
//! ```
//!
//! An input that is longer than a batch never reaches native code, which would abort.

mod alone;
mod embedder;
mod fill;
mod input;
mod plan;
mod queue;
mod ticket;
mod vector;

pub(crate) use alone::serve_alone;
pub(crate) use embedder::Embedder;
pub(crate) use input::{Inputs, check};
pub(crate) use plan::{EmbedPlan, is_run, pooling_of};
pub(crate) use ticket::{EmbedTicket, Item};
