//! Anthropic's Messages API as its clients use it.
//!
//! ```text
//!   body ─► terms + create ─► Request ─► Choices ─► open ─┬─► stream ─► SSE
//!           (content, tools)                              └─► whole  ─► JSON
//! ```
//!
//! An answer has its parts in the order in which the model wrote them: thoughts, text, calls of tools. Nothing here counts tokens of a
//! conversation without computing it, so there is no `/v1/messages/count_tokens`.

mod content;
pub(crate) mod create;
mod error;
mod stream;
mod tools;
mod whole;

pub(crate) use error::refuse;
