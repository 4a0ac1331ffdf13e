//! What is known of a response before its first token: where its model was, and where its time went.

use std::collections::VecDeque;

use samovar::{AnswerEvent, CacheStatus, TraceView, Wait};
use samovar_core::generation::Usage;
use samovar_core::{ErrorKind, Failure};

use super::phase::{AnswerPhase, is_speech};

/// What is known of a response when its status is decided.
#[derive(Debug)]
pub(crate) struct Opening {
    /// Once a slot was granted.
    pub(crate) granted: Option<Granted>,
    /// Place in the queue when the request came, if it had to queue.
    pub(crate) queue_position: Option<u32>,
    /// Counts of the prompt, once it was computed.
    pub(crate) prompt: Option<Usage>,
    /// What it waits for.
    pub(crate) phase: AnswerPhase,
    /// What was said so far, to be said again to its writer.
    pub(crate) events: VecDeque<(usize, AnswerEvent)>,
}

/// What is known once a slot was granted.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) model: String,
    pub(crate) tier: CacheStatus,
    /// Where the time goes: of the choice that speaks first, or else of the one that was granted first.
    pub(crate) trace: TraceView,
}

impl Opening {
    pub(crate) fn begin() -> Self {
        Self {
            granted: None,
            queue_position: None,
            prompt: None,
            phase: AnswerPhase::default(),
            events: VecDeque::new(),
        }
    }

    /// Whether a choice has spoken or ended.
    pub(crate) fn is_over(&self) -> bool {
        !self.events.is_empty()
    }

    /// Takes the next event in; none = all have ended. `traces` are those of the choices.
    ///
    /// # Errors
    /// Whatever failed, and an end without a beginning.
    pub(crate) fn take(
        &mut self,
        event: Option<(usize, AnswerEvent)>,
        traces: &[TraceView],
    ) -> Result<(), Failure> {
        let Some((index, event)) = event else { return Err(never_began()) };
        self.phase.take(&event);
        match event {
            AnswerEvent::Waiting(Wait::Queued { position, .. }) => {
                self.queue_position.get_or_insert(position);
            }
            AnswerEvent::Granted { model, tier, .. } => {
                let trace = traces[index].clone();
                self.granted.get_or_insert(Granted { model, tier, trace });
            }
            AnswerEvent::Prefilled { usage } => {
                self.prompt.get_or_insert(usage);
            }
            AnswerEvent::Failed(failure) => return Err(failure),
            event if is_speech(&event) => {
                let granted = self.granted.as_mut().ok_or_else(never_began)?;
                granted.trace = traces[index].clone();
                self.events.push_back((index, event));
            }
            _ => {}
        }
        Ok(())
    }
}

/// All choices ended, and none had begun.
pub(crate) fn never_began() -> Failure {
    Failure::new(ErrorKind::Internal, "the answer ended before it began")
        .with_hint("this is a fault of the program; please report it with the log")
}
