//! One generation as the server sees it: counted, measured, and cut when the server leaves.

use std::time::Duration;

use samovar::{Answer, AnswerEvent, Common, Origin, Request, TraceView};
use samovar_core::units::{KeepAlive, TimeSpan};
use samovar_core::{ErrorKind, Failure};

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
    /// The model's name, once a slot was granted.
    granted: Option<String>,
    has_ended: bool,
    _in_flight: InFlight,
    _counted: Counted,
}

impl Running {
    /// Starts a generation.
    ///
    /// # Errors
    /// `Unavailable` when the server is leaving.
    pub(crate) fn start(app: &App, mut request: Request) -> Result<Self, Failure> {
        let in_flight = admit(app, &mut request.common)?;
        Ok(Self {
            answer: app.runtime.generate(request),
            app: app.clone(),
            granted: None,
            has_ended: false,
            _in_flight: in_flight,
            _counted: app.metrics.generation(),
        })
    }

    /// What is known of it, on the one clock that it has.
    pub(crate) fn trace(&self) -> TraceView {
        self.answer.trace().clone()
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
            event = self.answer.next() => event.unwrap_or_else(|| AnswerEvent::Failed(without_summary())),
            () = self.app.server.reached(Phase::Cut) => self.cut(),
        };
        self.observe(&event);
        Some(event)
    }

    /// What there is when the server cannot wait any longer.
    fn cut(&self) -> AnswerEvent {
        let so_far = self.granted.as_ref().and_then(|_| self.answer.trace().cut());
        so_far.map_or_else(|| AnswerEvent::Failed(leaving()), AnswerEvent::Done)
    }

    fn observe(&mut self, event: &AnswerEvent) {
        match event {
            AnswerEvent::Granted { model, tier, load_ms, .. } => {
                self.app.metrics.granted(model, *tier, *load_ms);
                self.granted = Some(model.clone());
            }
            AnswerEvent::Embedded(embedded) => self.app.metrics.embedded(embedded.tokens),
            AnswerEvent::Done(summary) => {
                self.has_ended = true;
                self.app.metrics.done(self.granted.as_deref().unwrap_or_default(), summary);
            }
            AnswerEvent::Failed(failure) => {
                self.has_ended = true;
                self.app.metrics.failed(failure.kind);
            }
            _ => {}
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

/// Lets a request in, its wishes brought within bounds; it counts as in flight for as long as the result lives.
///
/// # Errors
/// `Unavailable` when the server is leaving.
pub(crate) fn admit(app: &App, common: &mut Common) -> Result<InFlight, Failure> {
    if app.server.is_draining() {
        return Err(leaving());
    }
    if common.origin == Origin::Network {
        common.keep_alive = common.keep_alive.map(|wish| within_bounds(wish, &app.limits));
    }
    Ok(app.server.begin())
}

/// Does work that has no events, unless the server cannot wait any longer.
///
/// # Errors
/// Whatever the work fails with; `Unavailable` when it was cut.
pub(crate) async fn until_cut<T>(
    app: &App,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        outcome = work => outcome,
        () = app.server.reached(Phase::Cut) => Err(leaving()),
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

pub(crate) fn leaving() -> Failure {
    Failure::new(ErrorKind::Unavailable, "the server is leaving")
        .with_hint("try again when it is back")
        .with_retry_after_ms(RETRY_AFTER_LEAVING_MS)
}

/// An answer that has ended without a word of its end.
pub(crate) fn without_summary() -> Failure {
    Failure::new(ErrorKind::Internal, "the answer ended without a summary")
        .with_hint("this is a fault of the program; please report it with the log")
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
