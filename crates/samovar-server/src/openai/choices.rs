//! The choices of one response: generations that run at the same time, their events in one order.

use std::collections::VecDeque;
use std::pin::Pin;

use futures_util::stream::{self, SelectAll};
use futures_util::{FutureExt, Stream, StreamExt};
use samovar::{AnswerEvent, Request, Summary, Tier, Timings, Wait};
use samovar_core::generation::{FinishReason, Usage};
use samovar_core::{ErrorKind, Failure};
use tokio::time::Instant;

use crate::app::App;
use crate::running::Running;

/// Choices of one request that run at the same time; the rest starts as these end.
const AT_THE_SAME_TIME: usize = 8;

type Events = Pin<Box<dyn Stream<Item = (usize, AnswerEvent)> + Send>>;

/// The choices of one response. Dropping them cancels whatever runs.
pub(super) struct Choices {
    app: App,
    running: SelectAll<Events>,
    waiting: VecDeque<(usize, Request)>,
    deadline: Option<Instant>,
    /// Whether any choice has said or ended anything.
    has_spoken: bool,
}

/// What is known when the first choice has begun to speak.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) model: String,
    pub(super) tier: Tier,
    /// Place in the queue when the request came, if it had to queue.
    pub(super) queue_position: Option<u32>,
    pub(super) queue_ms: f64,
    pub(super) load_ms: f64,
    pub(super) prefill_ms: f64,
    pub(super) first_token_ms: f64,
    /// What was said so far, to be said again to whoever writes it down.
    pub(super) events: VecDeque<(usize, AnswerEvent)>,
}

impl Choices {
    /// Starts the first of these requests; each one is a choice, counted from 0.
    ///
    /// # Errors
    /// `Unavailable` when the server is leaving.
    pub(super) fn start(app: &App, requests: Vec<Request>) -> Result<Self, Failure> {
        let deadline = requests.first().and_then(|request| request.deadline);
        let deadline = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        let waiting = requests.into_iter().enumerate().collect();
        let mut choices =
            Self { app: app.clone(), running: SelectAll::new(), waiting, deadline, has_spoken: false };
        for _ in 0..AT_THE_SAME_TIME {
            choices.start_next()?;
        }
        Ok(choices)
    }

    fn start_next(&mut self) -> Result<(), Failure> {
        let Some((index, mut request)) = self.waiting.pop_front() else { return Ok(()) };
        // One deadline for all: who starts later has less time.
        if let Some(deadline) = self.deadline {
            request.deadline = Some(deadline.saturating_duration_since(Instant::now()));
        }
        let running = Running::start(&self.app, request)?;
        let events = stream::unfold(running, move |mut running| async move {
            let event = running.next().await?;
            Some(((index, event), running))
        });
        self.running.push(Box::pin(events));
        Ok(())
    }

    /// The next event of any choice; `None` when all have ended.
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost.
    pub(super) async fn next(&mut self) -> Option<(usize, AnswerEvent)> {
        let (index, event) = self.running.next().await?;
        let event = match event {
            // Others have something to show: a choice that came too late is an empty one.
            AnswerEvent::Failed(failure)
                if failure.kind == ErrorKind::DeadlineExceeded && self.has_spoken =>
            {
                AnswerEvent::Done(too_late())
            }
            event => event,
        };
        self.has_spoken |= matches!(event, AnswerEvent::Text { .. } | AnswerEvent::Done(_));
        if !matches!(event, AnswerEvent::Done(_)) {
            return Some((index, event));
        }
        match self.start_next() {
            Ok(()) => Some((index, event)),
            Err(failure) => Some((index, AnswerEvent::Failed(failure))),
        }
    }

    /// The next event, if there is one already.
    pub(super) fn ready(&mut self) -> Option<(usize, AnswerEvent)> {
        self.next().now_or_never().flatten()
    }

    /// Waits until the first choice speaks or ends.
    ///
    /// # Errors
    /// Whatever failed before.
    pub(super) async fn open(&mut self) -> Result<Opening, Failure> {
        let began = Instant::now();
        let ms_since = |from: Instant| from.elapsed().as_secs_f64() * 1e3;
        let mut queue_position = None;
        let mut opening: Option<(Opening, Instant)> = None;
        while let Some((index, event)) = self.next().await {
            match event {
                AnswerEvent::Waiting(Wait::Queued { position, .. }) => {
                    queue_position.get_or_insert(position);
                }
                AnswerEvent::Waiting(_) => {}
                AnswerEvent::Granted { model, tier, queue_ms, load_ms } => {
                    let events = VecDeque::new();
                    let granted = Opening {
                        model,
                        tier,
                        queue_position,
                        queue_ms,
                        load_ms,
                        prefill_ms: 0.0,
                        first_token_ms: 0.0,
                        events,
                    };
                    opening.get_or_insert_with(|| (granted, Instant::now()));
                }
                AnswerEvent::Prefilled { .. } => {
                    if let Some((opening, granted)) = &mut opening
                        && opening.prefill_ms == 0.0
                    {
                        opening.prefill_ms = ms_since(*granted);
                    }
                }
                AnswerEvent::Failed(failure) => return Err(failure),
                event @ (AnswerEvent::Text { .. } | AnswerEvent::Done(_)) => {
                    let Some((mut opening, _)) = opening else { break };
                    opening.first_token_ms = ms_since(began);
                    opening.events.push_back((index, event));
                    return Ok(opening);
                }
            }
        }
        Err(Failure::new(ErrorKind::Internal, "the answer ended before it began"))
    }
}

/// The end of a choice that was never granted a slot.
fn too_late() -> Summary {
    Summary {
        finish: FinishReason::TimedOut,
        usage: Usage::default(),
        tier: Tier::Hit,
        timings: Timings::default(),
    }
}
