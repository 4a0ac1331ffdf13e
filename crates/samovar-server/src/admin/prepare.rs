//! Prepares a published model now, and tells how that gets on.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use samovar::{PrepareOptions, PreparedInfo, Runtime};
use samovar_core::{ErrorKind, Failure};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Refused;
use super::wire::{PrepareBody, PrepareEvent, WaitEvent};
use crate::app::App;
use crate::ndjson;
use crate::payload::Payload;

const EVENT_CAPACITY: usize = 16;

/// `POST /admin/prepare`.
pub(crate) async fn prepare(State(app): State<App>, body: Body) -> Result<Response, Refused> {
    let order: PrepareBody = Payload::read(body, &app.limits).await?.parse()?;
    // One that is not prepared yet has a name, and nothing else is known of it.
    if let Err(failure) = app.check_order(&order.model).await
        && failure.kind != ErrorKind::Unsupported
    {
        return Err(failure.into());
    }
    let in_flight = app.server.begin();
    let runtime = app.runtime.clone();
    let (events, lines) = mpsc::channel(EVENT_CAPACITY);
    crate::task::spawn(async move {
        let abandoned = events.clone();
        tokio::select! {
            // It is no longer wanted: dropping the order stops the work.
            () = abandoned.closed() => {}
            made = make(&runtime, &order, &events) => {
                let last = match made {
                    Ok(prepared) => PrepareEvent::Done(prepared),
                    Err(failure) => PrepareEvent::Failed(failure),
                };
                events.send(last).await.ok();
            }
        }
        drop(in_flight);
    });
    Ok(ndjson::response(ReceiverStream::new(lines)))
}

async fn make(
    runtime: &Runtime,
    order: &PrepareBody,
    events: &mpsc::Sender<PrepareEvent>,
) -> Result<PreparedInfo, Failure> {
    let (waits, mut waiting) = mpsc::channel(EVENT_CAPACITY);
    let mut options = PrepareOptions::default().waits(waits);
    options.quantization = order.quantization;
    let mut made = std::pin::pin!(runtime.prepare(&order.model, options));
    loop {
        tokio::select! {
            biased;
            made = &mut made => return made,
            Some(wait) = waiting.recv() => {
                if let Some(wait) = WaitEvent::of(wait) {
                    events.send(PrepareEvent::Waiting(wait)).await.ok();
                }
            }
        }
    }
}
