//! The choices of one response: generations that run at the same time, their events in one order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{self, SelectAll};
use futures_util::{FutureExt, Stream, StreamExt};
use samovar::{AnswerEvent, CacheStatus, Request, Summary, TraceView};
use samovar_core::{ErrorKind, Failure};
use tokio::time::Instant;

use super::opening::Opening;
use super::phase::is_speech;
use super::running::Works;
use crate::app::App;
use crate::buffer_charge::BufferCharge;

/// Choices of one request that run at the same time; the rest starts as these end.
const AT_THE_SAME_TIME: usize = 8;

/// How long a request may be looked at, its model found and its place in the queue given, before a stream begins
/// in any case.
const UNTIL_ADMITTED: Duration = Duration::from_secs(1);
/// How long an admitted request may still be refused with a status of its own: time to find that its model does not
/// load, or that its prompt is too long.
const UNTIL_REFUSED: Duration = Duration::from_millis(100);

type Events = Pin<Box<dyn Stream<Item = (usize, AnswerEvent)> + Send>>;

/// The choices of one response. Dropping them cancels whatever runs.
pub(crate) struct Choices {
    app: App,
    running: SelectAll<Events>,
    waiting: VecDeque<(usize, Request)>,
    /// What is known of each that was started, in their order.
    traces: Vec<TraceView>,
    deadline: Option<Instant>,
    client: String,
    works: Works,
    /// Counts the copies of their prompts.
    _held: BufferCharge,
    /// Whether any choice has said or ended anything.
    has_spoken: bool,
}

impl Choices {
    /// Starts the first of these requests; each one is a choice, counted from 0.
    ///
    /// # Errors
    /// `Unavailable` when the server is leaving.
    pub(crate) fn start(app: &App, requests: Vec<Request>, held: BufferCharge) -> Result<Self, Failure> {
        let deadline = requests.first().and_then(|request| request.common.deadline);
        let deadline = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        let client = requests.first().map_or_else(String::new, |request| request.common.client.clone());
        let mut choices = Self {
            app: app.clone(),
            works: Works::of(app, &requests),
            running: SelectAll::new(),
            waiting: requests.into_iter().enumerate().collect(),
            traces: Vec::new(),
            deadline,
            client,
            _held: held,
            has_spoken: false,
        };
        for _ in 0..AT_THE_SAME_TIME {
            choices.start_next()?;
        }
        Ok(choices)
    }

    /// Counts what is kept of the choices until they are complete.
    pub(crate) fn holds(&self) -> BufferCharge {
        BufferCharge::new(&self.app, &self.client)
    }

    fn start_next(&mut self) -> Result<(), Failure> {
        let Some((index, mut request)) = self.waiting.pop_front() else { return Ok(()) };
        // One deadline for all: who starts later has less time.
        if let Some(deadline) = self.deadline {
            request.common.deadline = Some(deadline.saturating_duration_since(Instant::now()));
        }
        let running = self.works.start(&self.app, request)?;
        self.traces.push(running.trace());
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
    pub(crate) async fn next(&mut self) -> Option<(usize, AnswerEvent)> {
        let (index, event) = self.running.next().await?;
        let event = match event {
            // Others have something to show: a choice that came too late is an empty one.
            AnswerEvent::Failed(failure)
                if failure.kind == ErrorKind::DeadlineExceeded && self.has_spoken =>
            {
                AnswerEvent::Done(self.too_late(index))
            }
            event => event,
        };
        self.has_spoken |= is_speech(&event);
        if !matches!(event, AnswerEvent::Done(_)) {
            return Some((index, event));
        }
        match self.start_next() {
            Ok(()) => Some((index, event)),
            Err(failure) => Some((index, AnswerEvent::Failed(failure))),
        }
    }

    /// The end of a choice that came too late, for others have spoken.
    fn too_late(&self, index: usize) -> Summary {
        let own = &self.traces[index];
        // One that was never granted a slot is where the others found the model.
        let tier = own.tier().or_else(|| self.traces.iter().find_map(TraceView::tier));
        Summary::timed_out(tier.unwrap_or(CacheStatus::Hit), own.timings())
    }

    /// The first of these events, which came before; once there are none, as [`Choices::next`].
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost.
    pub(crate) async fn next_after(
        &mut self,
        said: &mut VecDeque<(usize, AnswerEvent)>,
    ) -> Option<(usize, AnswerEvent)> {
        match said.pop_front() {
            Some(event) => Some(event),
            None => self.next().await,
        }
    }

    /// The next event, if there is one already.
    pub(crate) fn ready(&mut self) -> Option<(usize, AnswerEvent)> {
        self.next().now_or_never().flatten()
    }

    /// Waits until the first choice speaks or ends.
    ///
    /// # Errors
    /// Whatever failed before.
    pub(crate) async fn open(&mut self) -> Result<Opening, Failure> {
        let mut opening = Opening::begin();
        while !opening.is_over() {
            let event = self.next().await;
            opening.take(event, &self.traces)?;
        }
        Ok(opening)
    }

    /// The same, but once the request is admitted no longer than its refusal would take.
    ///
    /// # Errors
    /// Whatever failed so far.
    pub(crate) async fn open_soon(&mut self) -> Result<Opening, Failure> {
        let mut opening = Opening::begin();
        let mut until = Instant::now() + UNTIL_ADMITTED;
        let mut is_admitted = false;
        while !opening.is_over() {
            let Ok(event) = tokio::time::timeout_at(until, self.next()).await else { break };
            opening.take(event, &self.traces)?;
            if !std::mem::replace(&mut is_admitted, true) {
                until = until.min(Instant::now() + UNTIL_REFUSED);
            }
        }
        Ok(opening)
    }
}
