//! Conversations that are kept, and the chat service over them.
//!
//! ```text
//!   ChatQuestion ─► ChatHistory::begin ─► ChatTurn: system + facts + summary │ history from the window on │ question ─► Request
//!                  (SQLite)             │                                                            │
//!                                       │             ChatBackend: pooled │ unpooled │ the daemon ◄──┘
//!                                       └── the answer is kept ◄── events ──┘
//! ```
//!
//! [`Conversations`] is a file of the state directory; a [`ChatHistory`] is what one client sees of it. [`ChatService`] sends messages to
//! any [`ChatBackend`] and keeps what was said. Text that is found for a question belongs between the history and the question, so
//! that the beginning of a prompt stays the same from turn to turn (`prompt.rs`).
//!
//! Nothing here loads a model by itself, knows HTTP, or puts anything into a prompt that the turn does not name.
#![forbid(unsafe_code)]

mod backend;
mod chat_service;
#[cfg(feature = "testing")]
pub mod conformance;
mod conversations;
mod error;
mod prompt;
mod summary;
mod turn;
mod window;

pub use backend::{AnswerStream, ChatBackend, UnpooledBackend};
pub use chat_service::{ChatEvent, ChatReply, ChatService, ChatStream};
pub use conversations::{
    ChatHistory, ConversationChange, ConversationDetail, ConversationHead, ConversationSummary,
    Conversations, ExportFormat, Fact, MESSAGE_MAX_BYTES, SNIPPET_BEGIN, SNIPPET_END, SearchHit,
    StoredMessage,
};
pub use error::ChatError;
pub use prompt::MemoryUse;
pub use turn::{AnswerRecord, ChatQuestion, ChatTurn, OpenTurn, ReplyTo};
