//! What changes the models of this machine by a word: copies and deletes, for its owner and clients that may manage them; and pushes, which are refused.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use samovar::{CreateFrom, Kind, Origin, Preset};
use samovar_core::{ErrorKind, Failure};
use serde::Deserialize;

use super::{Refused, names};
use crate::app::App;
use crate::field::{Field, field};
use crate::generation::running::until_cut;
use crate::keys::Scope;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::request_record::RequestRecord;

#[derive(Debug, Deserialize)]
struct ToCopy {
    source: Option<String>,
    destination: Option<String>,
}

/// The fields of `/api/copy` with what they mean.
pub(crate) const COPY_FIELDS: &[Field] = &[
    field("source", "The model. Required.").text(),
    field("destination", "The name under which it is to be used as well. Required.").text(),
];

#[derive(Debug, Deserialize)]
struct ToDelete {
    model: Option<String>,
    name: Option<String>,
}

/// The fields of `/api/delete` with what they mean.
pub(crate) const DELETE_FIELDS: &[Field] =
    &[field("model", "The model. Required.").text(), field("name", "The same by an older name.").text()];

/// `POST /api/push`.
pub(crate) async fn push() -> Refused {
    let failure = Failure::new(ErrorKind::Unsupported, "models are not published from here");
    failure.with_hint("samovar export MODEL writes its file").into()
}

/// `POST /api/copy`: another name for the same model, which shares its instances.
pub(crate) async fn copy(State(app): State<App>, body: Body) -> Result<StatusCode, Refused> {
    check(&app, "copy a model", "give it another name under [models.NAME] in samovar.toml")?;
    let ToCopy { source, destination } = Payload::read(body, &app.limits).await?.parse()?;
    let named = |name: Option<String>, param: &str| {
        let name = name.filter(|name| !name.is_empty());
        name.ok_or_else(|| Refusal::invalid(param, format!("{param} is required")))
    };
    let (source, destination) = (named(source, "source")?, named(destination, "destination")?);
    let destination = names::without_latest(&destination);
    app.check_model(destination)?;
    let found = names::find(&app, &source).await;
    app.check_model(&found.reference)?;
    let from = CreateFrom::Model(found.reference);
    let copied = app.runtime.create(destination, from, Preset::default(), app.surface.origin());
    until_cut(&app, copied).await?;
    Ok(StatusCode::OK)
}

/// `DELETE /api/delete`: a created name, or a model of the store.
pub(crate) async fn delete(State(app): State<App>, body: Body) -> Result<StatusCode, Refused> {
    check(&app, "delete a model", "samovar rm MODEL")?;
    let ToDelete { model, name } = Payload::read(body, &app.limits).await?.parse()?;
    let asked = names::required(model.filter(|model| !model.is_empty()).or(name))?;
    let found = names::find(&app, &asked).await;
    let (reference, is_created) = match found.info {
        Some(info) => (found.reference, info.kind == Kind::Created),
        // The model behind a created name may be gone.
        None => match names::created(&app, &asked).await {
            Some(name) => (name, true),
            None => (found.reference, false),
        },
    };
    app.check_model(&reference)?;
    if !is_created {
        // A model of the store goes as by `/admin/rm`.
        check_scope(&app, Scope::Admin, "delete a model of the store", "samovar rm MODEL")?;
    }
    until_cut(&app, app.runtime.delete(&reference, app.surface.origin())).await?;
    Ok(StatusCode::OK)
}

/// Whether the client may change the models of this machine: its owner may, and clients with a key to manage it.
///
/// # Errors
/// `Forbidden`, with what the owner can do.
pub(super) fn check(app: &App, what: &str, hint: &str) -> Result<(), Failure> {
    check_scope(app, Scope::Manage, what, hint)?;
    RequestRecord::current(app).changes_daemon();
    Ok(())
}

/// Whether the client is the owner, or has a key of this scope.
fn check_scope(app: &App, scope: Scope, what: &str, hint: &str) -> Result<(), Failure> {
    let has_key = app.account.as_ref().is_some_and(|account| account.may(scope));
    if app.surface.origin() == Origin::Owner || has_key {
        return Ok(());
    }
    let message = format!("requests over the network may not {what}");
    Err(Failure::new(ErrorKind::Forbidden, message).with_hint(format!("the owner can: {hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(COPY_FIELDS), parsed::<ToCopy>());
        assert_eq!(names(DELETE_FIELDS), parsed::<ToDelete>());
    }
}
