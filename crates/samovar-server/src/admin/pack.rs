//! Packs a model's weights now, and tells how that gets on.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use samovar::{PackOptions, PackedInfo, Runtime};
use samovar_core::Failure;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Refused;
use super::wire::{PackBody, PackEvent, WaitEvent};
use crate::app::App;
use crate::generation::running::until_cut;
use crate::ndjson;
use crate::payload::Payload;

const EVENT_CAPACITY: usize = 16;

/// `POST /admin/pack`.
pub(crate) async fn pack(State(app): State<App>, body: Body) -> Result<Response, Refused> {
    let order: PackBody = Payload::read(body, &app.limits).await?.parse()?;
    app.check_order(&order.model).await?;
    let in_flight = app.server.begin();
    let (events, lines) = mpsc::channel(EVENT_CAPACITY);
    crate::task::spawn(async move {
        let abandoned = events.clone();
        tokio::select! {
            // It is no longer wanted: dropping the order stops the work.
            () = abandoned.closed() => {}
            made = until_cut(&app, make(&app.runtime, &order, &events)) => {
                let last = match made {
                    Ok(packed) => PackEvent::Done(packed),
                    Err(failure) => PackEvent::Failed(failure),
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
    order: &PackBody,
    events: &mpsc::Sender<PackEvent>,
) -> Result<PackedInfo, Failure> {
    let (waits, mut waiting) = mpsc::channel(EVENT_CAPACITY);
    let (progress, mut told) = mpsc::channel(EVENT_CAPACITY);
    let options = PackOptions::default().waits(waits).progress(progress);
    let mut made = std::pin::pin!(runtime.pack(&order.model, options));
    loop {
        tokio::select! {
            biased;
            made = &mut made => return made,
            Some(wait) = waiting.recv() => {
                if let Some(wait) = WaitEvent::of(wait) {
                    events.send(PackEvent::Waiting(wait)).await.ok();
                }
            }
            Some(fraction) = told.recv() => { events.send(PackEvent::Progress { fraction }).await.ok(); }
        }
    }
}
