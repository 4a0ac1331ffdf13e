//! Generation with everything that happens on the way: queue, load, prefill, text, summary.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;

use super::Refused;
use super::wire::{GenerateBody, GenerateEvent};
use crate::app::App;
use crate::ndjson;
use crate::openai::check_sampling;
use crate::payload::Payload;
use crate::running::Running;

/// `POST /admin/generate`.
pub(crate) async fn generate(State(app): State<App>, body: Body) -> Result<Response, Refused> {
    let body: GenerateBody = Payload::read(body, &app.limits).await?.parse()?;
    check_sampling(&body.sampling)?;
    let running = Running::start(&app, body.into_request(app.surface.origin()))?;
    let events = stream::unfold(running, |mut running| async move {
        let event = running.next().await?;
        Some((GenerateEvent::from(event), running))
    });
    Ok(ndjson::response(Box::pin(events)))
}
