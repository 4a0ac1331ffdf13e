//! Fetches a model, and tells how that gets on; cancels fetches.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use samovar::store::Watch;
use samovar_core::{ErrorKind, Failure};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::Refused;
use super::wire::{CancelPullBody, PullBegun, PullBody, PullEvent, PullsCancelled};
use crate::activity::Phase;
use crate::app::App;
use crate::generation::running::leaving;
use crate::ndjson;
use crate::payload::Payload;
use crate::pulls::Pull;

/// Lines that wait to be sent. A reader that falls behind misses some.
const EVENT_CAPACITY: usize = 16;

/// `POST /admin/pull`.
pub(crate) async fn pull(State(app): State<App>, body: Body) -> Result<Response, Refused> {
    let order: PullBody = Payload::read(body, &app.limits).await?.parse()?;
    if app.server.is_draining() {
        return Err(leaving().into());
    }
    let reference = reference(&app, &order.model).await?;
    let pull = app.pulls.begin(&reference)?;
    let (events, lines) = mpsc::channel(EVENT_CAPACITY);
    let is_background = order.background;
    crate::task::spawn(fetch(app, order, pull, events));
    if is_background {
        return Ok((StatusCode::ACCEPTED, Json(PullBegun { reference })).into_response());
    }
    Ok(ndjson::response(ReceiverStream::new(lines)))
}

/// `POST /admin/pull/cancel`.
pub(crate) async fn cancel(State(app): State<App>, body: Body) -> Result<Json<PullsCancelled>, Refused> {
    let order: CancelPullBody = Payload::read(body, &app.limits).await?.parse()?;
    let reference = reference(&app, &order.model).await?;
    Ok(Json(PullsCancelled { cancelled: app.pulls.cancel(&reference) }))
}

/// What a model is fetched from; its own name for the built-in one.
async fn reference(app: &App, model: &str) -> Result<String, Failure> {
    app.check_source(model)?;
    app.check_model(model)?;
    let source = app.runtime.source_of(model).await?;
    Ok(source.map_or_else(|| model.to_owned(), |source| source.to_string()))
}

/// Fetches for as long as the lines are read, or to the end where that happens in the background. What was fetched is kept for
/// the next one.
async fn fetch(app: App, order: PullBody, pull: Pull, events: mpsc::Sender<PullEvent>) {
    let in_flight = app.server.begin();
    let began = Instant::now();
    // The stream ends with this task, also where the store still has the watch.
    let (abandoned, listener) = (events.clone(), events.downgrade());
    let watch: Watch = Arc::new(move |progress| {
        if let Some(events) = listener.upgrade() {
            events.try_send(PullEvent::Progress(progress)).ok();
        }
    });
    let outcome = tokio::select! {
        () = abandoned.closed(), if !order.background => Err(cancelled()),
        () = pull.cancelled() => Err(cancelled()),
        () = app.server.reached(Phase::Cut) => Err(leaving()),
        pulled = app.runtime.pull(&order.model, Some(watch)) => pulled,
    };
    pull.end(outcome.as_ref().err());
    let last = match outcome {
        Ok(pulled) => {
            tracing::info!(model = order.model, bytes = pulled.fetched_bytes, "pulled");
            PullEvent::Done {
                reference: pulled.artifact.reference.clone(),
                bytes: pulled.artifact.bytes(),
                fetched_bytes: pulled.fetched_bytes,
                was_here: pulled.was_here,
                took_ms: began.elapsed().as_secs_f64() * 1e3,
            }
        }
        Err(failure) => {
            tracing::warn!(model = order.model, hint = failure.hint, "was not pulled: {failure}");
            PullEvent::Failed(failure)
        }
    };
    events.send(last).await.ok();
    drop(in_flight);
}

fn cancelled() -> Failure {
    Failure::new(ErrorKind::Cancelled, "the fetch was cancelled")
        .with_hint("what was fetched is kept: the next fetch goes on from there")
}
