//! The terms of a request for an answer, whatever its API calls the rest: which model, for whom, for how long.

use std::ops::RangeInclusive;

use axum::http::HeaderMap;
use samovar::Common;
use samovar_core::units::KeepAlive;
use serde::Deserialize;

use super::{deadline, params};
use crate::client::Asker;
use crate::field::{Field, field};
use crate::refusal::Refusal;

/// Tokens of context that may be asked for; the model bounds them further.
const CONTEXT: RangeInclusive<f64> = 1.0..=16_777_216.0;

/// The fields.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RequestTerms {
    pub(crate) model: Option<String>,
    pub(crate) timeout: Option<f64>,
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) context_tokens: Option<f64>,
    pub(crate) user: Option<String>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field("model", "The model. Required.").text(),
    field(
        "timeout",
        "Seconds that the whole answer may take, from 0.001 to 86400; then what there is of it is returned, or an error where there is none yet.",
    ).number(),
    field(
        "keep_alive",
        "How long the model stays ready afterwards, such as `10m`; within `server.keep_alive_floor` and `server.keep_alive_ceiling` for requests over HTTP.",
    ),
    field(
        "context_tokens",
        "Tokens of context that the request needs, if the model's setting is less: up to `server.context_ceiling_tokens` for requests over HTTP, up to what the model was trained with on the socket; a loaded model grows to them.",
    ).integer(),
    field("user", "The client. It counts only if `server.client_header` is set.").text(),
];

impl RequestTerms {
    /// Checks all of them.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(crate) fn check(mut self, asker: &Asker, headers: &HeaderMap) -> Result<Common, Refusal> {
        let model = self.model.take().filter(|model| !model.is_empty()).ok_or_else(|| {
            Refusal::invalid("model", "`model` is missing").with_hint("GET /v1/models lists what there is")
        })?;
        let mut common = self.check_all_but_model(asker, headers)?;
        common.model = model;
        Ok(common)
    }

    /// Checks them for a model that is yet to be found.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(crate) fn check_all_but_model(self, asker: &Asker, headers: &HeaderMap) -> Result<Common, Refusal> {
        let mut common = Common::new(String::new());
        common.deadline = deadline::of(self.timeout, headers)?;
        common.keep_alive = self.keep_alive;
        common.context_tokens = params::whole("context_tokens", self.context_tokens, &CONTEXT)?;
        asker.sign(&mut common, self.user);
        Ok(common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<RequestTerms>());
    }
}
