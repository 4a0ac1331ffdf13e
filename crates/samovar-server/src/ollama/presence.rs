//! Requests that give a model nothing to do: they load it, or have it leave.

use axum::Json;
use axum::response::{IntoResponse, Response};
use samovar::{Common, ModelInfo, Origin};
use samovar_core::Failure;
use samovar_core::units::KeepAlive;

use super::Refused;
use super::shape::{Frame, Shape};
use super::terms::Wanted;
use crate::app::App;
use crate::generation::running::{admit, until_cut};

/// Loads the model, or has it leave where `keep_alive` is 0, and answers with one object.
///
/// # Errors
/// Whatever keeps the model from being found or loaded.
pub(super) async fn answer(app: &App, wanted: Wanted, shape: Shape) -> Result<Response, Refused> {
    let frame = Frame::new(&wanted.asked, shape);
    let reason = if wanted.common.keep_alive == Some(KeepAlive::ParkAtOnce) {
        leave(app, wanted.common, wanted.info).await?;
        "unload"
    } else {
        come(app, wanted.common).await?;
        "load"
    };
    Ok(Json(frame.nothing(reason)).into_response())
}

/// Waits until the model is ready, under the terms of every other request.
///
/// # Errors
/// Whatever keeps it from being loaded.
pub(super) async fn come(app: &App, mut common: Common) -> Result<(), Failure> {
    let _in_flight = admit(app, &mut common)?;
    until_cut(app, app.runtime.tokenize(common, Vec::new(), false, false)).await.map(drop)
}

/// The owner's word unloads a model. A client of the network only shortens how long it stays, to the owner's floor: others may use it.
async fn leave(app: &App, mut common: Common, info: Option<ModelInfo>) -> Result<(), Failure> {
    if common.origin == Origin::Owner {
        return app.runtime.unload(&common.model).await.map(drop);
    }
    let info = match info {
        Some(info) => info,
        None => app.runtime.model(&common.model, common.origin).await?,
    };
    let loaded = app.runtime.stats().await.models;
    if loaded.iter().any(|model| model.name == info.name && model.instances > 0) {
        // What leaves does not grow first.
        common.context_tokens = None;
        come(app, common).await?;
    }
    Ok(())
}
