//! Loads a model ahead of need, and tells how it gets on.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use samovar::{Runtime, WarmOptions};
use samovar_core::Failure;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::Refused;
use super::wire::{WaitEvent, WarmBody, WarmEvent};
use crate::app::App;
use crate::generation::running::until_cut;
use crate::ndjson;
use crate::payload::Payload;

const EVENT_CAPACITY: usize = 16;

/// `POST /admin/warm`.
pub(crate) async fn warm(State(app): State<App>, body: Body) -> Result<Response, Refused> {
    let order: WarmBody = Payload::read(body, &app.limits).await?.parse()?;
    app.check_order(&order.model).await?;
    Ok(ndjson::response(ReceiverStream::new(begin(&app, order))))
}

/// Loads the model, and tells how it gets on; the last event is `Done` or `Failed`.
pub(crate) fn begin(app: &App, order: WarmBody) -> mpsc::Receiver<WarmEvent> {
    let (app, in_flight) = (app.clone(), app.server.begin());
    let (events, lines) = mpsc::channel(EVENT_CAPACITY);
    // A load goes on when no client watches any more, and so does the order to pin.
    crate::task::spawn(async move {
        let began = Instant::now();
        let last = match until_cut(&app, load(&app.runtime, &order, &events)).await {
            Ok(()) => WarmEvent::Done { took_ms: began.elapsed().as_secs_f64() * 1e3 },
            Err(failure) => WarmEvent::Failed(failure),
        };
        events.send(last).await.ok();
        drop(in_flight);
    });
    lines
}

async fn load(runtime: &Runtime, order: &WarmBody, events: &mpsc::Sender<WarmEvent>) -> Result<(), Failure> {
    let (waits, mut waiting) = mpsc::channel(EVENT_CAPACITY);
    let mut loaded = std::pin::pin!(runtime.warm(&order.model, WarmOptions::default().waits(waits)));
    loop {
        tokio::select! {
            biased;
            loaded = &mut loaded => break loaded?,
            Some(wait) = waiting.recv() => {
                if let Some(wait) = WaitEvent::of(wait) {
                    events.send(WarmEvent::Waiting(wait)).await.ok();
                }
            }
        }
    }
    if order.pin { runtime.pin(&order.model).await } else { Ok(()) }
}
