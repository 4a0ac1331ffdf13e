//! OpenAI's API as its clients use it.
//!
//! ```text
//!   body ─► fields ─► options + chat | completions ─► Request × choices ─► Choices ─► open ─┬─► stream ─► SSE
//!        (refused by  (params: every number in range)                    (status is now    └─► whole  ─► JSON
//!          name)      (messages, tools, constraint)                        decided)
//! ```
//!
//! The status of a whole answer is decided by its first token. That of a stream is decided soon after the request was
//! admitted: what is refused at once is an error with its own status, whatever fails later is an event in the
//! stream, and until the first token a comment a second says what is waited for.
//!
//! Embeddings go another way, whose status is decided by their last vector: `embedding/`.

pub(crate) mod chat;
pub(crate) mod completions;
mod constraint;
pub(crate) mod embeddings;
mod error;
mod fields;
#[cfg(test)]
mod hostile;
mod logprobs;
mod messages;
pub(crate) mod models;
mod options;
mod respond;
mod shape;
mod sse;
mod tools;
mod whole;

pub use error::error_type;
pub(crate) use error::{Refused, refuse};
pub use fields::refused_fields;
pub(crate) use options::FIELDS as COMMON_FIELDS;
