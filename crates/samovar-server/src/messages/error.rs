//! Anthropic's error object, and the type that it gives to each refusal.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use samovar_core::ErrorKind;
use serde_json::{Value, json};

use crate::refusal::Refusal;

/// A refusal as Anthropic's clients read it; holds no path of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Refused(Refusal);

impl<T: Into<Refusal>> From<T> for Refused {
    fn from(refusal: T) -> Self {
        Self(refusal.into())
    }
}

/// Writes a refusal as Anthropic's clients read it.
pub(crate) fn refuse(refusal: Refusal) -> Response {
    Refused(refusal).into_response()
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0.status, self.0.headers(), Json(object(&self.0))).into_response()
    }
}

/// `{"type": "error", "error": {…}}`.
pub(super) fn object(refusal: &Refusal) -> Value {
    json!({ "type": "error", "error": { "type": error_type(refusal), "message": refusal.text() } })
}

/// HTTP's word counts first, where it is finer than the kind.
fn error_type(refusal: &Refusal) -> &'static str {
    match refusal.status {
        StatusCode::UNAUTHORIZED => return "authentication_error",
        StatusCode::FORBIDDEN => return "permission_error",
        StatusCode::NOT_FOUND => return "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => return "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => return "rate_limit_error",
        _ => {}
    }
    match refusal.failure.kind {
        ErrorKind::InvalidRequest
        | ErrorKind::ContextExceeded
        | ErrorKind::InvalidModel
        | ErrorKind::Unsupported => "invalid_request_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::Unauthenticated => "authentication_error",
        ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::Busy | ErrorKind::Unavailable => "overloaded_error",
        ErrorKind::DeadlineExceeded => "timeout_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use samovar_core::Failure;

    fn of(kind: ErrorKind) -> Value {
        object(&Failure::new(kind, "cannot read /srv/m.gguf").with_hint("wait").into())
    }

    #[test]
    fn an_error_has_a_type_and_a_message_with_the_hint_and_no_path() {
        let expected = json!({
            "type": "error",
            "error": { "type": "overloaded_error", "message": "cannot read …/m.gguf (hint: wait)" },
        });
        assert_eq!(of(ErrorKind::Busy), expected);
    }

    #[test]
    fn kinds_and_statuses_have_anthropics_types() {
        for (kind, expected) in [
            (ErrorKind::InvalidRequest, "invalid_request_error"),
            (ErrorKind::ContextExceeded, "invalid_request_error"),
            (ErrorKind::NotFound, "not_found_error"),
            (ErrorKind::DeadlineExceeded, "timeout_error"),
            (ErrorKind::Internal, "api_error"),
        ] {
            assert_eq!(of(kind)["error"]["type"], expected, "{kind:?}");
        }
        for (status, expected) in [
            (StatusCode::UNAUTHORIZED, "authentication_error"),
            (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
            (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error"),
            (StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error"),
        ] {
            assert_eq!(error_type(&Refusal::new(status, "x", "no")), expected, "{status}");
        }
    }
}
