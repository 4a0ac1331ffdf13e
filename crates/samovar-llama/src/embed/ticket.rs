//! A request for vectors or scores on its way to an instance's thread.

use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use samovar_core::TokenEvent;
use samovar_core::embedding::{EmbedOutput, Urgency};
use tokio::sync::mpsc::Sender;

use crate::error::Error;

/// An input, ready to be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its place in its request.
    pub index: u32,
    /// At least one.
    pub tokens: Vec<LlamaToken>,
    /// A part of it was left out.
    pub was_cut: bool,
}

/// A request with its inputs tokenized, and a caller to answer.
#[derive(Debug)]
pub(crate) struct EmbedTicket {
    /// At least one.
    pub items: Vec<Item>,
    pub output: EmbedOutput,
    pub urgency: Urgency,
    pub arrived: Instant,
    /// Holds every event of the answer, so sending never blocks.
    pub events: Sender<TokenEvent>,
}

impl EmbedTicket {
    /// Ends a request that never ran.
    pub(crate) fn refuse(self, error: Error) {
        // The caller may be gone: then it need not know.
        let _ = self.events.try_send(TokenEvent::Failed(error.into()));
    }
}
