//! What the owner does with the models on disk: remove, collect, verify; and what they take.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use samovar::RemovedModel;
use samovar::store::{CollectOptions, Collected, DiskUse, Watch};
use samovar_core::Failure;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Refused;
use super::wire::{
    ClearBody, ClearTier, Cleared, CollectBody, NotRemoved, RemoveBody, Verification, VerifyBody, VerifyEvent,
};
use crate::activity::Phase;
use crate::app::App;
use crate::generation::running::leaving;
use crate::ndjson;
use crate::payload::Payload;

/// Lines that wait to be sent. A reader that falls behind misses some.
const EVENT_CAPACITY: usize = 16;

/// `GET /admin/disk`.
pub(crate) async fn usage(State(app): State<App>) -> Result<Json<DiskUse>, Refused> {
    Ok(Json(app.runtime.disk_use().await?))
}

/// `POST /admin/rm`.
pub(crate) async fn remove(State(app): State<App>, body: Body) -> Result<Json<RemovedModel>, Refused> {
    let order: RemoveBody = Payload::read(body, &app.limits).await?.parse()?;
    app.check_model(&order.model)?;
    let removed = app.runtime.remove(&order.model).await?;
    tracing::info!(model = removed.reference, freed_bytes = removed.freed_bytes, "removed");
    Ok(Json(removed))
}

/// `POST /admin/gc`.
pub(crate) async fn collect(State(app): State<App>, body: Body) -> Result<Json<Collected>, Refused> {
    let order: CollectBody = Payload::read(body, &app.limits).await?.parse_or_default()?;
    app.check_every_model()?;
    let options = CollectOptions { is_dry_run: order.dry_run, ..CollectOptions::default() };
    Ok(Json(app.runtime.collect(options).await?))
}

/// `POST /admin/clear`.
pub(crate) async fn clear(State(app): State<App>, body: Body) -> Result<Json<Cleared>, Refused> {
    let order: ClearBody = Payload::read(body, &app.limits).await?.parse()?;
    app.check_every_model()?;
    let mut cleared = Cleared::default();
    match order.tier {
        ClearTier::Memory => cleared.instances = app.runtime.unload_all().await?,
        ClearTier::Disk => {
            let mut note = |reference: String, removed: Result<RemovedModel, Failure>| match removed {
                Ok(removed) => cleared.removed.push(removed),
                Err(failure) => cleared.failed.push(NotRemoved { reference, failure }),
            };
            // Bytes that were sent for a created name go with it.
            for created in app.runtime.created().await {
                let removed = app.runtime.remove(&created.name).await;
                note(created.name, removed);
            }
            for artifact in app.runtime.all_stored().await? {
                let removed = app.runtime.remove_artifact(&artifact).await;
                note(artifact.reference, removed);
            }
        }
    }
    tracing::info!(tier = ?order.tier, instances = cleared.instances, removed = cleared.removed.len(), "cleared");
    Ok(Json(cleared))
}

/// `POST /admin/verify`.
pub(crate) async fn verify(State(app): State<App>, body: Body) -> Result<Response, Refused> {
    let order: VerifyBody = Payload::read(body, &app.limits).await?.parse_or_default()?;
    if order.models.is_empty() {
        app.check_every_model()?;
    }
    order.models.iter().try_for_each(|model| app.check_model(model))?;
    if app.server.is_draining() {
        return Err(leaving().into());
    }
    let in_flight = app.server.begin();
    let (events, lines) = mpsc::channel(EVENT_CAPACITY);
    crate::task::spawn(async move {
        // The stream ends with this task, also where the store still has the watch.
        let (abandoned, listener) = (events.clone(), events.downgrade());
        let watch: Watch = Arc::new(move |progress| {
            if let Some(events) = listener.upgrade() {
                events.try_send(VerifyEvent::Progress(progress)).ok();
            }
        });
        let last = tokio::select! {
            // It is no longer wanted: dropping the order stops the reading.
            () = abandoned.closed() => None,
            () = app.server.reached(Phase::Cut) => Some(VerifyEvent::Failed(leaving())),
            verified = app.runtime.verify(&order.models, order.repair, Some(watch)) => Some(match verified {
                Ok(verified) => VerifyEvent::Done(Verification::of(verified)),
                Err(failure) => VerifyEvent::Failed(failure),
            }),
        };
        if let Some(last) = last {
            events.send(last).await.ok();
        }
        drop(in_flight);
    });
    Ok(ndjson::response(ReceiverStream::new(lines)))
}
