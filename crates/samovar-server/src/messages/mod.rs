//! Anthropic's Messages API as its clients use it.
//!
//! ```text
//!   body ─► terms + create ─► Request ─► Choices ─► open ─┬─► stream ─► SSE
//!           (content, tools)                              └─► whole  ─► JSON
//! ```
//!
//! An answer has its parts in the order in which the model wrote them: thoughts, text, calls of tools. `count` reads the same bodies and
//! computes nothing.

mod content;
pub(crate) mod count;
pub(crate) mod create;
mod error;
mod stream;
mod tools;
mod whole;

pub(crate) use error::refuse;
