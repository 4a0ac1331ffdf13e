//! llama-server's API as editors use it: `/completion`, `/infill`, `/apply-template`, `/props`, `/slots` and `/health`. Its routes for token
//! ids are in `tei/`, because text-embeddings-inference has the same paths.
//!
//! ```text
//!   body ─► options + prompt, logit_bias ─► lookup ─► Request × answers ─► Choices ─► open ─┬─► stream ─► SSE
//!                                         (texts become                                     └─► answer ─► JSON
//!                                          token ids)
//! ```
//!
//! llama-server has one model. Here `model` in the body or `?model=NAME` names one; if it is absent, the only model that can do the work does
//! it. `infill` goes the way of `completion` with another prompt; `apply_template` has the model's worker render a conversation.

mod answer;
pub(crate) mod apply_template;
pub(crate) mod completion;
mod error;
pub(crate) mod infill;
mod logit_bias;
mod lookup;
mod options;
mod prompt;
pub(crate) mod props;
mod query;
mod stream;

pub(crate) use error::refuse;
pub(crate) use options::{FIELDS, PROMPT};
pub(crate) use query::{PROPS_QUERY, SLOTS_QUERY};
