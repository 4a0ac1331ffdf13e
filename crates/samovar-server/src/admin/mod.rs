//! The owner's API over the Unix socket, which Samovar's own command line speaks.
//!
//! ```text
//!   facts      GET   /admin/stats /admin/models /admin/why /admin/outlook /admin/usage /admin/config
//!   disk       GET   /admin/disk
//!              POST  /admin/rm /admin/gc /admin/clear
//!                    /admin/verify                           progress, one object a line
//!   pull       POST  /admin/pull /admin/pull/cancel          progress, one object a line
//!   (events/)  GET   /admin/events                           server-sent events
//!   commands   POST  /admin/pin /admin/unload /admin/reload /admin/shutdown
//!                    /admin/keys/reload
//!   warm       POST  /admin/warm                               progress, one object a line
//!   prepare    POST  /admin/prepare                            progress, one object a line
//!   pack       POST  /admin/pack                               progress, one object a line
//!   generate   POST  /admin/generate                           events, one object a line
//!   embed      POST  /admin/embed                              events, one object a line
//!                    /admin/tokenize /admin/detokenize
//! ```
//!
//! On a network port its routes exist only for keys of the scope that each needs. Errors may name files: the owner reads them, and those to
//! whom the owner gave such a key.

pub(crate) mod commands;
pub(crate) mod disk;
pub(crate) mod embed;
pub(crate) mod facts;
pub(crate) mod fields;
pub(crate) mod generate;
pub(crate) mod pack;
pub(crate) mod prepare;
pub(crate) mod pull;
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
