//! llama-server's API as editors use it: `/completion`, `/props`, `/slots` and `/health`. Its routes for token ids are in `tei/`, because
//! text-embeddings-inference has the same paths.
//!
//! ```text
//!   body ─► options + prompt, logit_bias ─► lookup ─► Request × answers ─► Choices ─► open ─┬─► stream ─► SSE
//!                                         (texts become                                     └─► answer ─► JSON
//!                                          token ids)
//! ```
//!
//! llama-server has one model. Here `model` in the body or `?model=NAME` names one; if it is absent, the only model that writes text does the
//! work. `/infill` and `/apply-template` are not here: nothing tells the daemon a model's tokens for filling in, or the text that a worker
//! renders.

mod answer;
pub(crate) mod completion;
mod error;
mod logit_bias;
mod lookup;
mod options;
mod prompt;
pub(crate) mod props;
mod query;
mod stream;

pub(crate) use error::refuse;
pub(crate) use options::FIELDS;
