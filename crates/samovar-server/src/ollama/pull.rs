//! `/api/pull`: the owner, and a client with a key to manage models, has a model fetched and hears how far it is. For other clients nothing
//! is fetched: a pull of a model that is here has nothing to do, and succeeds.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use samovar::Runtime;
use samovar_core::Failure;
use samovar_core::model::ArtifactRef;
use serde::Deserialize;

use super::told::{self, Teller, status};
use super::{Refused, manage, names};
use crate::app::App;
use crate::field::{Field, field};
use crate::generation::running::until_cut;
use crate::ndjson;
use crate::payload::Payload;
use crate::refusal::shown;

#[derive(Debug, Deserialize)]
struct ToPull {
    model: Option<String>,
    name: Option<String>,
    stream: Option<bool>,
}

/// Its fields with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field("model", "The model. Required.").text(),
    field("name", "The same by an older name.").text(),
    field("stream", "False: the answer is one object. Default: true, one object a line.").boolean(),
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
    let what = format!("pull {:?}, which is not on this machine", shown(&asked));
    manage::check(&app, &what, "samovar pull MODEL")?;
    let (reference, runtime) = (source(&app, &asked).await?, app.runtime.clone());
    if is_streamed {
        return Ok(ndjson::response(told::lines(&app, |teller| fetch(runtime, reference, teller))));
    }
    until_cut(&app, fetch(runtime, reference, Teller::default())).await?;
    Ok(Json(status("success")).into_response())
}

/// What a model is fetched from that is not here: what a name of the settings says, or where Ollama's clients mean.
///
/// # Errors
/// 400 for a name that leads nowhere; `Forbidden` for a file or an address out of a request of the network, and for a model
/// that the request's key may not use.
pub(super) async fn source(app: &App, asked: &str) -> Result<ArtifactRef, Failure> {
    for name in [asked, names::without_latest(asked)] {
        if let Some(reference) = app.runtime.configured_source(name).await {
            app.check_model(name)?;
            return Ok(reference);
        }
    }
    names::source(app, asked)
}

/// Fetches a model, unless another program on this machine has it. What was fetched is kept for the next pull, and pulls of one
/// model at the same time are one download.
///
/// # Errors
/// Whatever the source or the disk says.
pub(super) async fn fetch(runtime: Runtime, reference: ArtifactRef, teller: Teller) -> Result<(), Failure> {
    let watch = teller.watch(&reference.to_string());
    runtime.bring(&reference, Some(watch)).await
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
