//! `/api/pull`: the owner, on the Unix socket, has a model fetched and hears how far it is. The network fetches nothing: a pull of a model
//! that is here has nothing to do, and succeeds.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use samovar::Origin;
use samovar::store::{Progress, Store, Transfer, Watch};
use samovar_core::Failure;
use samovar_core::model::ArtifactRef;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::manage::refused;
use super::{Refused, error, names};
use crate::app::App;
use crate::field::{Field, field};
use crate::generation::running::until_cut;
use crate::ndjson;
use crate::payload::Payload;
use crate::refusal::shown;

/// Lines that wait to be sent. A reader that falls behind misses some.
const LINES: usize = 16;

#[derive(Debug, Deserialize)]
struct ToPull {
    model: Option<String>,
    name: Option<String>,
    stream: Option<bool>,
}

/// Its fields with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field("model", "The model. Required."),
    field("name", "The same by an older name."),
    field("stream", "False: the answer is one object. Default: true, one object a line."),
];

/// `POST /api/pull`.
pub(crate) async fn pull(State(app): State<App>, body: Body) -> Result<Response, Refused> {
    let ToPull { model, name, stream } = Payload::read(body, &app.limits).await?.parse()?;
    let asked = names::required(model.filter(|model| !model.is_empty()).or(name))?;
    let is_streamed = stream.unwrap_or(true);
    if names::find(&app, &asked).await.info.is_some() {
        return Ok(if is_streamed {
            ndjson::response(futures_util::stream::iter([status("pulling manifest"), status("success")]))
        } else {
            Json(status("success")).into_response()
        });
    }
    if app.surface.origin() != Origin::Owner {
        let what = format!("pull {:?}, which is not on this machine", shown(&asked));
        return Err(refused(&app, &what, "samovar pull MODEL").into());
    }
    let (reference, store) = (names::source(&asked)?, app.runtime.store().await?);
    if is_streamed {
        return Ok(ndjson::response(ReceiverStream::new(fetch(&app, store, reference))));
    }
    let fetched = async { store.ensure(&reference, None).await.map(drop).map_err(Failure::from) };
    until_cut(&app, fetched).await?;
    Ok(Json(status("success")).into_response())
}

/// Fetches the model for as long as the lines are read. What was fetched is kept for the next pull.
fn fetch(app: &App, store: Store, reference: ArtifactRef) -> mpsc::Receiver<Value> {
    let in_flight = app.server.begin();
    let (lines, sent) = mpsc::channel(LINES);
    tokio::spawn(async move {
        // The stream ends with this task, also where the store still has the watch.
        let (abandoned, listener) = (lines.clone(), lines.downgrade());
        let watch: Watch = Arc::new(move |progress| {
            if let Some(lines) = listener.upgrade() {
                lines.try_send(line(&progress)).ok();
            }
        });
        tokio::select! {
            () = abandoned.closed() => {}
            fetched = store.ensure(&reference, Some(watch)) => {
                let last = match fetched {
                    Ok(_) => status("success"),
                    Err(failed) => error::object(&Failure::from(failed).into()),
                };
                lines.send(last).await.ok();
            }
        }
        drop(in_flight);
    });
    sent
}

fn status(status: &str) -> Value {
    json!({ "status": status })
}

/// How far it is, in Ollama's words.
fn line(progress: &Progress) -> Value {
    match progress {
        Progress::Resolving | Progress::Unanswered { .. } => status("pulling manifest"),
        Progress::Nearby { .. } => status("taking the model from another program"),
        Progress::Fetching(Transfer { done_bytes, total_bytes, .. }) => {
            json!({ "status": "pulling model", "total": total_bytes, "completed": done_bytes })
        }
        Progress::Verifying(_) => status("verifying sha256 digest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<ToPull>());
    }
}
