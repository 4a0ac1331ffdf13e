//! The owner's API over the Unix socket, which Samovar's own command line speaks.
//!
//! ```text
//!   facts      GET   /admin/stats /admin/models /admin/why
//!   commands   POST  /admin/pin /admin/unload /admin/reload /admin/shutdown
//!   warm       POST  /admin/warm                               progress, one object a line
//!   pack       POST  /admin/pack                               progress, one object a line
//!   generate   POST  /admin/generate                           events, one object a line
//!   embed      POST  /admin/embed                              events, one object a line
//!                    /admin/tokenize /admin/detokenize
//! ```
//!
//! Its routes do not exist on a network port. Errors may name files: only the owner reads them.

pub(crate) mod commands;
pub(crate) mod embed;
pub(crate) mod facts;
pub(crate) mod fields;
pub(crate) mod generate;
pub(crate) mod pack;
pub(crate) mod warm;
pub mod wire;

use axum::Json;
use axum::response::{IntoResponse, Response};

use crate::refusal::Refusal;

/// A refusal as the owner reads it: the failure itself.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Refusal);

impl<T: Into<Refusal>> From<T> for Refused {
    fn from(refusal: T) -> Self {
        Self(refusal.into())
    }
}

/// Writes a refusal as the owner reads it.
pub(crate) fn refuse(refusal: Refusal) -> Response {
    Refused(refusal).into_response()
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0.status, self.0.headers(), Json(self.0.failure)).into_response()
    }
}
