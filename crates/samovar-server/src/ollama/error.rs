//! Ollama's error object: `{"error": "…"}`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use samovar_core::ErrorKind;
use serde_json::{Value, json};

use crate::refusal::Refusal;

/// A refusal as Ollama's clients read it; holds no path of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Refused(pub(crate) Refusal);

impl<T: Into<Refusal>> From<T> for Refused {
    fn from(refusal: T) -> Self {
        Self(refusal.into())
    }
}

/// Writes a refusal as Ollama's clients read it.
pub(crate) fn refuse(refusal: Refusal) -> Response {
    Refused(refusal).into_response()
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0.status, self.0.headers(), Json(object(&self.0))).into_response()
    }
}

/// `{"error": "…"}`.
pub(super) fn object(refusal: &Refusal) -> Value {
    let failure = &refusal.failure;
    // Some clients look for these words.
    let is_missing_model = failure.kind == ErrorKind::NotFound && failure.param.as_deref() == Some("model");
    let what = if is_missing_model { "model not found: " } else { "" };
    json!({ "error": format!("{what}{}", refusal.text()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use samovar_core::Failure;

    #[test]
    fn an_error_is_one_text_without_places_of_this_machine() {
        let failure = Failure::new(ErrorKind::NotFound, "there is no model named `x`").with_param("model");
        let error = object(&failure.with_hint("write one of the names").into());
        let expected = "model not found: there is no model named `x` (hint: write one of the names)";
        assert_eq!(error, json!({ "error": expected }));
        let failure = Failure::new(ErrorKind::Storage, "no space for /srv/models/x.gguf");
        assert_eq!(object(&failure.into()), json!({ "error": "no space for …/x.gguf" }));
    }
}
