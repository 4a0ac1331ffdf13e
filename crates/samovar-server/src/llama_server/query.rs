//! What the address of a request says.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;

use super::error::Refused;
use crate::app::App;
use crate::field::{Field, field};
use crate::refusal::Refusal;

/// The fields that the routes know; others are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    pub(super) model: Option<String>,
    /// `/slots`: an error is the answer if no slot is free.
    pub(super) fail_on_no_slot: Option<String>,
}

const MODEL: Field =
    field("model", "The model; the only one here that writes text when it is absent.").text();
/// What `/props` is asked by.
pub(crate) const PROPS_QUERY: &[Field] = &[MODEL];
/// What `/slots` is asked by.
pub(crate) const SLOTS_QUERY: &[Field] =
    &[MODEL, field("fail_on_no_slot", "Not empty: 503 if no slot is free.").text()];

impl FromRequestParts<App> for Asked {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Refused> {
        let asked = Query::<Self>::try_from_uri(&parts.uri).map_err(|rejection| {
            Refusal::invalid("model", format!("the query cannot be read: {}", rejection.body_text()))
        })?;
        Ok(asked.0)
    }
}
