//! OpenAI's error object, and the type that it gives to each kind of failure.

use axum::Json;
use axum::response::{IntoResponse, Response};
use samovar_core::ErrorKind;
use serde_json::{Value, json};

use crate::refusal::Refusal;

/// `error.type` of each kind.
const TYPES: [(ErrorKind, &str); ErrorKind::ALL.len()] = [
    (ErrorKind::InvalidRequest, "invalid_request_error"),
    (ErrorKind::ContextExceeded, "invalid_request_error"),
    (ErrorKind::NotFound, "invalid_request_error"),
    (ErrorKind::InvalidModel, "invalid_request_error"),
    (ErrorKind::TooLarge, "insufficient_memory"),
    (ErrorKind::Unsupported, "invalid_request_error"),
    (ErrorKind::Forbidden, "permission_error"),
    (ErrorKind::Unauthenticated, "invalid_request_error"),
    (ErrorKind::RateLimited, "rate_limit_error"),
    (ErrorKind::Busy, "overloaded_error"),
    (ErrorKind::DeadlineExceeded, "timeout_error"),
    (ErrorKind::Cancelled, "cancelled_error"),
    (ErrorKind::Unavailable, "server_error"),
    (ErrorKind::EngineFailed, "server_error"),
    (ErrorKind::Upstream, "server_error"),
    (ErrorKind::Storage, "server_error"),
    (ErrorKind::InsufficientStorage, "insufficient_storage"),
    (ErrorKind::Internal, "server_error"),
];

/// `error.type` of OpenAI's error object for failures of this kind.
pub fn error_type(kind: ErrorKind) -> &'static str {
    TYPES.iter().find(|(of, _)| *of == kind).map_or("server_error", |(_, name)| *name)
}

/// A refusal as OpenAI's clients read it; holds no path of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Refused(pub(crate) Refusal);

impl<T: Into<Refusal>> From<T> for Refused {
    fn from(refusal: T) -> Self {
        Self(refusal.into())
    }
}

/// Writes a refusal as OpenAI's clients read it.
pub(crate) fn refuse(refusal: Refusal) -> Response {
    Refused(refusal).into_response()
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0.status, self.0.headers(), Json(object(&self.0))).into_response()
    }
}

/// `{"error": {…}}`.
pub(super) fn object(refusal: &Refusal) -> Value {
    json!({ "error": {
        "message": refusal.text(),
        "type": error_type(refusal.failure.kind),
        "param": refusal.failure.param,
        "code": refusal.code,
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row() {
        for kind in ErrorKind::ALL {
            assert_eq!(TYPES.iter().filter(|(of, _)| *of == kind).count(), 1, "{kind:?}");
        }
    }
}
