//! llama-server's error object: `{"error": {"code": 400, "message": "…", "type": "invalid_request_error"}}`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use samovar_core::ErrorKind;
use serde_json::{Value, json};

use crate::refusal::Refusal;

/// A refusal as llama-server's clients read it; holds no path of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Refused(Refusal);

impl<T: Into<Refusal>> From<T> for Refused {
    fn from(refusal: T) -> Self {
        Self(refusal.into())
    }
}

/// Writes a refusal as llama-server's clients read it.
pub(crate) fn refuse(refusal: Refusal) -> Response {
    Refused(refusal).into_response()
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0.status, self.0.headers(), Json(object(&self.0))).into_response()
    }
}

/// `{"error": {…}}`, also as an event of a stream.
pub(super) fn object(refusal: &Refusal) -> Value {
    json!({ "error": {
        "code": refusal.status.as_u16(),
        "message": refusal.text(),
        "type": error_type(refusal.failure.kind),
    }})
}

const fn error_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::InvalidModel => "invalid_request_error",
        ErrorKind::ContextExceeded => "exceed_context_size_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::Unauthenticated => "authentication_error",
        ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::Unsupported => "not_supported_error",
        ErrorKind::Busy | ErrorKind::Unavailable => "unavailable_error",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::Failure;

    use super::*;

    #[test]
    fn an_error_has_the_status_as_its_code_and_no_path() {
        let failure =
            Failure::new(ErrorKind::NotFound, "there is no file /home/ann/x.gguf").with_hint("look");
        assert_eq!(
            object(&failure.into()),
            json!({ "error": {
                "code": 404, "message": "there is no file …/x.gguf (hint: look)", "type": "not_found_error",
            }})
        );
    }
}
