//! The last event of an answer, and how events are sent.

use samovar_core::TokenEvent;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// The last word of an answer.
#[derive(Debug)]
#[must_use = "an answer without a last event looks like a dead engine"]
pub(crate) struct FinalEvent {
    events: Sender<TokenEvent>,
    event: Option<TokenEvent>,
}

impl FinalEvent {
    /// The last event for the caller that hears these; nothing where that has gone.
    pub(crate) fn new(events: Sender<TokenEvent>, event: impl Into<Option<TokenEvent>>) -> Self {
        Self { events, event: event.into() }
    }

    /// Says it. A caller that hears it finds the slot free.
    pub(crate) fn say(self) {
        if let Some(event) = self.event {
            send(&self.events, event);
        }
    }
}

/// Sends an event to the reader, if it still listens.
pub(crate) fn send(events: &Sender<TokenEvent>, event: TokenEvent) {
    if let Err(TrySendError::Full(_)) = events.try_send(event) {
        tracing::error!("an answer's channel is full, though it has room for every event of the answer");
    }
}
