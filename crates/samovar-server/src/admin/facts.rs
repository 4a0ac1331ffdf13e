//! What the owner may know.

use axum::Json;
use axum::extract::{Query, State};
use samovar::Stats;
use serde::Deserialize;

use super::Refused;
use super::wire::{DaemonStats, ModelList, WhyAnswer};
use crate::app::App;
use crate::refusal::Refusal;

/// `GET /admin/stats`.
pub(crate) async fn stats(State(app): State<App>) -> Json<DaemonStats<Stats>> {
    Json(DaemonStats {
        pid: std::process::id(),
        listen: app.listen,
        socket: app.socket.clone(),
        requests_in_flight: app.server.in_flight(),
        idle_ms: app.server.idle_for().as_millis() as u64,
        stats: app.runtime.stats_and_stored().await,
    })
}

/// `GET /admin/models`.
pub(crate) async fn models(State(app): State<App>) -> Json<ModelList> {
    Json(ModelList { models: app.runtime.models().await })
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subject {
    model: Option<String>,
}

/// `GET /admin/why?model=NAME`.
pub(crate) async fn why(
    State(app): State<App>,
    Query(subject): Query<Subject>,
) -> Result<Json<WhyAnswer>, Refused> {
    let model =
        subject.model.ok_or_else(|| Refusal::invalid("model", "say which model: /admin/why?model=NAME"))?;
    let decisions = app.runtime.why(&model).await?.into_iter().map(Into::into).collect();
    let packed = app.runtime.packed(&model).await.ok();
    Ok(Json(WhyAnswer { model, decisions, packed }))
}
