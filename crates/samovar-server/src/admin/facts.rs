//! What the owner may know.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use samovar::{Outlook, Stats};
use samovar_core::{ErrorKind, Failure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Refused;
use super::wire::{DaemonStats, GroupBy, ModelList, UsageReport, WhyAnswer};
use crate::app::App;
use crate::refusal::Refusal;

/// `GET /admin/stats`.
pub(crate) async fn stats(State(app): State<App>) -> Json<DaemonStats<Stats>> {
    Json(of_daemon(&app).await)
}

/// The numbers of the runtime, and of the daemon around it.
pub(crate) async fn of_daemon(app: &App) -> DaemonStats<Stats> {
    DaemonStats {
        pid: std::process::id(),
        listen: app.listen,
        tls: app.has_tls,
        socket: app.socket.clone(),
        requests_in_flight: app.server.in_flight(),
        idle_ms: app.server.idle_for().as_millis() as u64,
        stats: app.runtime.stats_and_stored().await,
    }
}

/// `GET /admin/models`.
pub(crate) async fn models(State(app): State<App>) -> Json<ModelList> {
    Json(ModelList { models: app.models().await })
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subject {
    model: Option<String>,
}

/// `GET /admin/why?model=NAME`.
pub(crate) async fn why(
    State(app): State<App>,
    subject: Result<Query<Subject>, QueryRejection>,
) -> Result<Json<WhyAnswer>, Refused> {
    let model = model_of(subject, "/admin/why")?;
    app.check_order(&model).await?;
    let decisions = app.runtime.why(&model).await?.into_iter().map(Into::into).collect();
    let packed = app.runtime.packed(&model).await.ok();
    Ok(Json(WhyAnswer { model, decisions, packed }))
}

/// The model that a query names.
fn model_of(subject: Result<Query<Subject>, QueryRejection>, path: &str) -> Result<String, Refusal> {
    let Query(subject) = subject.map_err(|rejection| {
        Refusal::invalid("model", format!("the query cannot be read: {}", rejection.body_text()))
            .with_hint(format!("write {path}?model=NAME"))
    })?;
    subject.model.ok_or_else(|| Refusal::invalid("model", format!("say which model: {path}?model=NAME")))
}

/// `GET /admin/outlook?model=NAME`.
pub(crate) async fn outlook(
    State(app): State<App>,
    subject: Result<Query<Subject>, QueryRejection>,
) -> Result<Json<Outlook>, Refused> {
    let model = model_of(subject, "/admin/outlook")?;
    // Its source is asked, as for a fetch.
    app.check_source(&model)?;
    app.check_model(&model)?;
    Ok(Json(Box::pin(app.runtime.outlook(&model, None)).await?))
}

#[derive(Debug, Deserialize)]
pub(crate) struct UsageQuery {
    /// How far back, in milliseconds.
    since_ms: Option<u64>,
    /// `client`, `model` and `day`, with commas.
    by: Option<String>,
}

/// `GET /admin/usage?by=client,model&since_ms=604800000`.
pub(crate) async fn usage(
    State(app): State<App>,
    asked: Result<Query<UsageQuery>, QueryRejection>,
) -> Result<Json<UsageReport>, Refused> {
    let Query(asked) = asked.map_err(|rejection| {
        Refusal::invalid("since_ms", format!("the query cannot be read: {}", rejection.body_text()))
            .with_hint("write /admin/usage?by=client,model,day&since_ms=604800000")
    })?;
    let words = asked.by.as_deref().unwrap_or("client,model").split(',').filter(|word| !word.is_empty());
    let by: Result<Vec<GroupBy>, String> = words.map(str::parse).collect();
    let by = by.map_err(|reason| {
        Refusal::invalid("by", reason).with_hint("write /admin/usage?by=client,model,day")
    })?;
    let usage = app.ledgers.usage.as_ref().ok_or_else(|| {
        Failure::new(ErrorKind::Unsupported, "this daemon does not count what clients use")
            .with_hint("write `usage = true` under [server] in samovar.toml, and restart the daemon")
    })?;
    Ok(Json(usage.report(asked.since_ms.map(Duration::from_millis), by).await?))
}

/// `GET /admin/config`.
pub(crate) async fn config(State(app): State<App>) -> Result<Json<Value>, Refused> {
    let source = app.settings.clone().ok_or_else(|| {
        Failure::new(ErrorKind::Unsupported, "this server was built into a program, which has its settings")
            .with_hint("ask that program")
    })?;
    // What was changed is taken in first, as before every request.
    let (changes, problem) = match app.runtime.reload().await {
        Ok(changes) => (Some(changes), None),
        Err(failure) => (None, Some(failure)),
    };
    let mut settings = tokio::task::spawn_blocking(move || source.now())
        .await
        .map_err(|_| Failure::new(ErrorKind::Internal, "the settings could not be read"))?;
    if let Some(settings) = settings.as_object_mut() {
        settings.insert("changes".to_owned(), json!(changes));
        settings.insert("problem".to_owned(), json!(problem));
    }
    Ok(Json(settings))
}
