//! Generation with everything that happens on the way: queue, load, prefill, text, summary.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream::unfold;
use samovar::Request;
use samovar_core::Failure;

use super::Refused;
use super::wire::{GenerateBody, GenerateEvent};
use crate::app::{App, Surface};
use crate::client::Asker;
use crate::generation::params::check_sampling;
use crate::generation::running::Running;
use crate::ndjson;
use crate::payload::Payload;

/// `POST /admin/generate`.
pub(crate) async fn generate(State(app): State<App>, asker: Asker, body: Body) -> Result<Response, Refused> {
    let body: GenerateBody = Payload::read(body, &app.limits).await?.parse()?;
    check_sampling(&body.sampling)?;
    Ok(stream(&app, &asker, body.into_request(asker.origin))?)
}

/// Starts a request of the owner, and writes its events as they come.
///
/// # Errors
/// `Unavailable` when the server is leaving.
pub(super) fn stream(app: &App, asker: &Asker, mut request: Request) -> Result<Response, Failure> {
    let common = &mut request.common;
    // All commands of the owner share one memory.
    common.person = Some(asker.client(None));
    // The owner is believed; who says nothing is told apart by user id. The client of a request with a key is the key, which has
    // no head start.
    let named = std::mem::take(&mut common.client);
    asker.sign(common, None);
    if app.surface != Surface::Local {
        common.priority = 0;
    } else if !named.is_empty() {
        common.client = named;
    }
    let running = Running::start(app, request)?;
    let events = unfold(running, |mut running| async move {
        loop {
            if let Some(event) = GenerateEvent::of(running.next().await?) {
                return Some((event, running));
            }
        }
    });
    Ok(ndjson::response(Box::pin(events)))
}
