//! OpenAI's API as its clients use it.
//!
//! ```text
//!   body ─► options + chat | completions ─► Request × choices ─► Choices ─► open ─┬─► stream ─► SSE
//!           (params: every number in range)                    (status is now    └─► whole  ─► JSON
//!                                                               decided)
//! ```
//!
//! The status of an answer is decided by its first token: whatever fails before is an error with its
//! own status, whatever fails later is an event in the stream.

pub(crate) mod chat;
mod choices;
pub(crate) mod completions;
mod error;
mod heading;
#[cfg(test)]
mod hostile;
mod logprobs;
pub(crate) mod models;
mod options;
mod params;
mod respond;
mod shape;
mod sse;
mod whole;

pub(crate) use error::Refused;
pub(crate) use params::check_sampling;
