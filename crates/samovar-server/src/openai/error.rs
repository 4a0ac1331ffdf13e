//! OpenAI's error object.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::redact::redact;
use crate::refusal::{Refusal, UNKNOWN_ROUTE, WRONG_METHOD};

/// A refusal as OpenAI's clients read it; holds no path of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Refused(pub(crate) Refusal);

impl<T: Into<Refusal>> From<T> for Refused {
    fn from(refusal: T) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0.status, self.0.headers(), Json(object(&self.0))).into_response()
    }
}

/// `{"error": {…}}`. The hint is part of the message, because clients show nothing else.
pub(super) fn object(refusal: &Refusal) -> Value {
    let failure = &refusal.failure;
    let message = match &failure.hint {
        Some(hint) => format!("{} (hint: {hint})", failure.message),
        None => failure.message.clone(),
    };
    // A route is the client's own word, and no place of ours.
    let names_a_route = matches!(refusal.code, UNKNOWN_ROUTE | WRONG_METHOD);
    json!({ "error": {
        "message": if names_a_route { message } else { redact(&message) },
        "type": failure.kind.surface().openai_type,
        "param": failure.param,
        "code": refusal.code,
    }})
}
