//! What the owner may order.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use samovar::Changes;
use samovar_core::{ErrorKind, Failure};
use serde_json::{Value, json};

use super::Refused;
use super::wire::{KeysInForce, PinBody, ShutdownAnswer, ShutdownBody, UnloadBody, Unloaded};
use crate::app::App;
use crate::payload::Payload;

/// `POST /admin/pin`.
pub(crate) async fn pin(State(app): State<App>, body: Body) -> Result<Json<Value>, Refused> {
    let order: PinBody = Payload::read(body, &app.limits).await?.parse()?;
    app.check_order(&order.model).await?;
    if order.pinned {
        app.runtime.pin(&order.model).await?;
    } else {
        app.runtime.unpin(&order.model).await?;
    }
    Ok(Json(json!({})))
}

/// `POST /admin/unload`.
pub(crate) async fn unload(State(app): State<App>, body: Body) -> Result<Json<Unloaded>, Refused> {
    let order: UnloadBody = Payload::read(body, &app.limits).await?.parse()?;
    let instances = if let Some(model) = order.target()? {
        app.check_order(&model).await?;
        app.runtime.unload(&model).await?
    } else {
        app.check_every_model()?;
        app.runtime.unload_all().await?
    };
    Ok(Json(Unloaded { instances }))
}

/// `POST /admin/reload`.
pub(crate) async fn reload(State(app): State<App>) -> Result<Json<Changes>, Refused> {
    Ok(Json(app.runtime.reload().await?))
}

/// `POST /admin/keys/reload`.
pub(crate) async fn reload_keys(State(app): State<App>) -> Result<Json<KeysInForce>, Refused> {
    let keys = Arc::clone(&app.keys);
    let looked = tokio::task::spawn_blocking(move || keys.read_again()).await;
    looked.map_err(|_| {
        Failure::new(ErrorKind::Internal, "the keys could not be read: a fault of the server")
    })??;
    Ok(Json(KeysInForce { keys: app.keys.len() as u64 }))
}

/// `POST /admin/shutdown`.
pub(crate) async fn shutdown(State(app): State<App>, body: Body) -> Result<Json<ShutdownAnswer>, Refused> {
    let order: ShutdownBody = Payload::read(body, &app.limits).await?.parse_or_default()?;
    let answer = ShutdownAnswer { pid: std::process::id(), requests_in_flight: app.server.in_flight() };
    app.server.shut_down(order.grace_ms.map(Duration::from_millis));
    Ok(Json(answer))
}
