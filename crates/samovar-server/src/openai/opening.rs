//! What is known of a response before its first token: where its model was, and where its time went.

use std::collections::VecDeque;

use samovar::{AnswerEvent, Tier, Wait};
use samovar_core::{ErrorKind, Failure};
use tokio::time::Instant;

use super::stage::Stage;

/// What is known of a response when its status is decided.
#[derive(Debug)]
pub(super) struct Opening {
    began: Instant,
    /// Once a slot was granted.
    pub(super) granted: Option<Granted>,
    /// Place in the queue when the request came, if it had to queue.
    pub(super) queue_position: Option<u32>,
    pub(super) first_token_ms: Option<f64>,
    /// What it waits for.
    pub(super) stage: Stage,
    /// What was said so far, to be said again to whoever writes it down.
    pub(super) events: VecDeque<(usize, AnswerEvent)>,
}

/// What is known once a slot was granted.
#[derive(Debug)]
pub(super) struct Granted {
    at: Instant,
    pub(super) model: String,
    pub(super) tier: Tier,
    pub(super) queue_ms: f64,
    pub(super) load_ms: f64,
    /// Once the prompt was computed.
    pub(super) prefill_ms: Option<f64>,
}

impl Opening {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            granted: None,
            queue_position: None,
            first_token_ms: None,
            stage: Stage::default(),
            events: VecDeque::new(),
        }
    }

    /// Whether a choice has spoken or ended.
    pub(super) fn is_over(&self) -> bool {
        !self.events.is_empty()
    }

    /// Takes the next event in; none = all have ended.
    ///
    /// # Errors
    /// Whatever failed, and an end without a beginning.
    pub(super) fn take(&mut self, event: Option<(usize, AnswerEvent)>) -> Result<(), Failure> {
        let Some((index, event)) = event else { return Err(never_began()) };
        self.stage.take(&event);
        match event {
            AnswerEvent::Waiting(Wait::Queued { position, .. }) => {
                self.queue_position.get_or_insert(position);
            }
            AnswerEvent::Waiting(_) | AnswerEvent::Prefilling { .. } => {}
            AnswerEvent::Granted { model, tier, queue_ms, load_ms } => {
                let at = Instant::now();
                let granted = Granted { at, model, tier, queue_ms, load_ms, prefill_ms: None };
                self.granted.get_or_insert(granted);
            }
            AnswerEvent::Prefilled { .. } => {
                if let Some(granted) = &mut self.granted {
                    granted.prefill_ms.get_or_insert_with(|| ms_since(granted.at));
                }
            }
            AnswerEvent::Failed(failure) => return Err(failure),
            event @ (AnswerEvent::Text { .. } | AnswerEvent::Done(_)) => {
                if self.granted.is_none() {
                    return Err(never_began());
                }
                self.first_token_ms = Some(ms_since(self.began));
                self.events.push_back((index, event));
            }
        }
        Ok(())
    }
}

/// All choices ended, and none had begun.
pub(super) fn never_began() -> Failure {
    Failure::new(ErrorKind::Internal, "the answer ended before it began")
}

fn ms_since(from: Instant) -> f64 {
    from.elapsed().as_secs_f64() * 1e3
}
