//! OpenAI's Responses API as its clients use it. Errors have OpenAI's form.
//!
//! ```text
//!   body ─► terms + create ─► Request ─► Choices ─► open ─┬─► stream ─► SSE
//!           (input, tools, format)                        └─► object ─► JSON
//! ```
//!
//! `count` reads the same bodies and computes nothing. No answer is kept: a request has its whole conversation, and one that names an earlier answer is refused.

pub(crate) mod count;
pub(crate) mod create;
mod format;
mod input;
mod object;
mod stream;
mod tools;
