//! Who answers: one interface over a runtime with its pool, a runtime for each request, and a daemon.
//!
//! The backend over the daemon's socket lies with the wire format of the daemon, above this crate; all pass [`crate::conformance`].

mod pooled;
mod unpooled;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use samovar::{AnswerEvent, Request};
use samovar_core::Failure;

pub use unpooled::UnpooledBackend;

/// The events of an answer; the last is `Done` or `Failed`. **Dropping it cancels the request.**
pub type AnswerStream = BoxStream<'static, AnswerEvent>;

/// Who answers.
pub trait ChatBackend: Send + Sync {
    /// Sends a request.
    ///
    /// # Errors
    /// When it cannot be sent; whatever is wrong with the request may also come as the last event.
    fn generate(&self, request: Request) -> BoxFuture<'_, Result<AnswerStream, Failure>>;

    /// How many tokens the prompt of this request has.
    ///
    /// # Errors
    /// Whatever keeps the model from being asked.
    fn count(&self, request: Request) -> BoxFuture<'_, Result<u32, Failure>>;

    /// Tokens of context that requests to this model have; `None` where that is not known.
    ///
    /// # Errors
    /// When the backend cannot be asked.
    fn context_tokens<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<Option<u32>, Failure>>;
}
