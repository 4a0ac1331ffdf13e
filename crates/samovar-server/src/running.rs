//! One generation as the server sees it: counted, measured, and cut when the server leaves.

use std::time::Duration;

use samovar::{Answer, AnswerEvent, Origin, Request, Summary, Tier, Timings};
use samovar_core::generation::{FinishReason, Usage};
use samovar_core::units::{KeepAlive, TimeSpan};
use samovar_core::{ErrorKind, Failure};
use tokio::time::Instant;

use crate::activity::{InFlight, Phase};
use crate::app::App;
use crate::config::Limits;
use crate::metrics::Counted;

/// When a client comes back after the server has left and, probably, another has taken its place.
const RETRY_AFTER_LEAVING_MS: u64 = 5_000;

/// A generation that runs. Dropping it cancels it and frees its slot.
pub(crate) struct Running {
    answer: Answer,
    app: App,
    began: Instant,
    granted: Option<Granted>,
    usage: Usage,
    first_token: Option<Instant>,
    has_ended: bool,
    _in_flight: InFlight,
    _counted: Counted,
}

struct Granted {
    model: String,
    tier: Tier,
    queue_ms: f64,
    load_ms: f64,
}

impl Running {
    /// Starts a generation.
    ///
    /// # Errors
    /// `Unavailable` when the server is leaving.
    pub(crate) fn start(app: &App, mut request: Request) -> Result<Self, Failure> {
        if app.server.is_draining() {
            return Err(leaving());
        }
        if request.origin == Origin::Network {
            request.keep_alive = request.keep_alive.map(|wish| within_bounds(wish, &app.limits));
        }
        Ok(Self {
            answer: app.runtime.generate(request),
            app: app.clone(),
            began: Instant::now(),
            granted: None,
            usage: Usage::default(),
            first_token: None,
            has_ended: false,
            _in_flight: app.server.begin(),
            _counted: app.metrics.generation(),
        })
    }

    /// The next event; `None` after `Done` or `Failed`.
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost.
    pub(crate) async fn next(&mut self) -> Option<AnswerEvent> {
        if self.has_ended {
            return None;
        }
        let event = tokio::select! {
            biased;
            event = self.answer.next() => event.unwrap_or_else(|| AnswerEvent::Failed(broken())),
            () = self.app.server.reached(Phase::Cut) => self.cut(),
        };
        self.observe(&event);
        Some(event)
    }

    /// What there is when the server cannot wait any longer.
    fn cut(&self) -> AnswerEvent {
        let Some(granted) = &self.granted else { return AnswerEvent::Failed(leaving()) };
        let ms = |span: Duration| span.as_secs_f64() * 1e3;
        let first = self.first_token.unwrap_or_else(Instant::now);
        AnswerEvent::Done(Summary {
            finish: FinishReason::TimedOut,
            usage: self.usage,
            tier: granted.tier,
            timings: Timings {
                queue_ms: granted.queue_ms,
                load_ms: granted.load_ms,
                first_token_ms: self.first_token.map_or(0.0, |first| ms(first - self.began)),
                decode_ms: ms(first.elapsed()),
                total_ms: ms(self.began.elapsed()),
                ..Timings::default()
            },
        })
    }

    fn observe(&mut self, event: &AnswerEvent) {
        match event {
            AnswerEvent::Waiting(_) | AnswerEvent::Prefilling { .. } => {}
            AnswerEvent::Granted { model, tier, queue_ms, load_ms } => {
                self.app.metrics.granted(model, *tier, *load_ms);
                let (model, tier) = (model.clone(), *tier);
                self.granted = Some(Granted { model, tier, queue_ms: *queue_ms, load_ms: *load_ms });
            }
            AnswerEvent::Prefilled { usage } => self.usage = *usage,
            AnswerEvent::Text { .. } => {
                self.first_token.get_or_insert_with(Instant::now);
                self.usage.completion_tokens += 1;
            }
            AnswerEvent::Done(summary) => {
                self.has_ended = true;
                let model = self.granted.as_ref().map_or("", |granted| &granted.model);
                self.app.metrics.done(model, summary);
            }
            AnswerEvent::Failed(failure) => {
                self.has_ended = true;
                self.app.metrics.failed(failure.kind);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.app.metrics.failed(ErrorKind::Cancelled);
        }
    }
}

/// What a client of the network may ask of a model that others use as well.
fn within_bounds(wish: KeepAlive, limits: &Limits) -> KeepAlive {
    let ms = |span: Duration| span.as_millis() as u64;
    let (floor_ms, ceiling_ms) = (ms(limits.keep_alive_floor), ms(limits.keep_alive_ceiling));
    let wished_ms = match wish {
        KeepAlive::Ms(ms) => ms,
        KeepAlive::ParkAtOnce => 0,
        KeepAlive::UntilEvicted => ceiling_ms,
    };
    KeepAlive::from_span(TimeSpan::from_ms(wished_ms.min(ceiling_ms).max(floor_ms)))
}

fn leaving() -> Failure {
    Failure::new(ErrorKind::Unavailable, "the server is leaving")
        .with_hint("try again when it is back")
        .with_retry_after_ms(RETRY_AFTER_LEAVING_MS)
}

fn broken() -> Failure {
    Failure::new(ErrorKind::Internal, "the answer ended without a summary")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_the_network_neither_drops_a_model_nor_keeps_it_for_ever() {
        let limits = Limits::default();
        let minutes = |minutes: u64| KeepAlive::Ms(minutes * 60_000);
        for (wish, allowed) in [
            (KeepAlive::ParkAtOnce, minutes(1)),
            (KeepAlive::Ms(1), minutes(1)),
            (minutes(5), minutes(5)),
            (minutes(600), minutes(60)),
            (KeepAlive::UntilEvicted, minutes(60)),
        ] {
            assert_eq!(within_bounds(wish, &limits), allowed, "{wish:?}");
        }
    }
}
