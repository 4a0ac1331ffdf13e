//! What every request for vectors, scores or token ids may set, whatever it is asked of.

use axum::extract::{FromRequestParts, Query};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use samovar::{Common, Urgency};
use samovar_core::units::KeepAlive;
use serde::Deserialize;

use crate::app::App;
use crate::client::Asker;
use crate::field::{Field, field};
use crate::generation::request_terms::RequestTerms;
use crate::openai::Refused;
use crate::refusal::Refusal;

/// The fields that all of them know.
#[derive(Debug, Deserialize)]
pub(crate) struct Terms {
    model: Option<String>,
    timeout: Option<f64>,
    keep_alive: Option<KeepAlive>,
    priority: Option<Urgency>,
    user: Option<String>,
}

/// What the query of a route without a body may say.
pub(crate) const QUERY: &[Field] =
    &[field("model", "The model; the only one here that can do the work when it is absent.").text()];

/// The fields of a body with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "model",
        "The model. `/v1/embeddings` requires it. The other routes also take it from the query (`?model=NAME`), and choose the only model here that can do the work where it is absent.",
    ).text(),
    field("timeout", "Seconds that the whole answer may take, from 0.001 to 86400.").number(),
    field(
        "keep_alive",
        "How long the model stays ready afterwards, such as `10m`; within `server.keep_alive_floor` and `server.keep_alive_ceiling` for requests over HTTP.",
    ),
    field(
        "priority",
        "`interactive`: somebody waits for it, and it is computed before all bulk work; `bulk`: it is a part of an import. When it is absent, up to 16 short inputs and up to 256 documents to rerank are interactive. Requests over HTTP with more than 256 inputs are always bulk.",
    ).one_of(&["interactive", "bulk"]),
    field("user", "The client. It counts only if `server.client_header` is set.").text(),
];

/// What a request wants, apart from its inputs.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The model that the body names.
    pub(crate) model: Option<String>,
    /// Everything but the model.
    pub(crate) common: Common,
    pub(crate) urgency: Option<Urgency>,
}

impl Terms {
    /// Checks everything.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn check(self, asker: &Asker, headers: &HeaderMap) -> Result<Wanted, Refusal> {
        let Self { model, timeout, keep_alive, priority: urgency, user } = self;
        let terms = RequestTerms { timeout, keep_alive, user, ..RequestTerms::default() };
        Ok(Wanted { model, common: terms.check_all_but_model(asker, headers)?, urgency })
    }
}

impl Wanted {
    /// The same with this model where the body names none.
    pub(crate) fn or_named(mut self, Named(model): Named) -> Self {
        self.model = self.model.filter(|model| !model.is_empty()).or(model);
        self
    }
}

/// The model that the query names: `?model=NAME`.
#[derive(Debug)]
pub(crate) struct Named(pub(crate) Option<String>);

impl FromRequestParts<App> for Named {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Refused> {
        #[derive(Deserialize)]
        struct Fields {
            model: Option<String>,
        }

        let fields = Query::<Fields>::try_from_uri(&parts.uri).map_err(|rejection| {
            Refusal::invalid("model", format!("the query cannot be read: {}", rejection.body_text()))
        })?;
        Ok(Self(fields.0.model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<Terms>());
    }
}
