//! No reference may carry a secret: references are written into indexes, logs and lists.

use super::super::{ParseReferenceError, percent};
use super::{Scheme, before};

/// Names of parameters by which URLs carry secrets.
const SECRETS: [&str; 14] = [
    "token",
    "access_token",
    "auth",
    "authorization",
    "api_key",
    "apikey",
    "key",
    "password",
    "secret",
    "signature",
    "sig",
    "x-amz-signature",
    "x-amz-security-token",
    "x-goog-signature",
];

/// Refuses a place with credentials before the host or in its query; the error does not repeat them.
pub(super) fn check(scheme: Scheme, place: &str) -> Result<(), ParseReferenceError> {
    let (path, query) = place.split_once('?').unwrap_or((place, ""));
    let authority = before(path, '/');
    if scheme != Scheme::Ollama && authority.contains('@') {
        return Err(ParseReferenceError::Secret { what: "a user name or password" });
    }
    let is_secret = |parameter: &str| {
        let name = percent::decoded(before(parameter, '=')).unwrap_or_default();
        SECRETS.iter().any(|secret| secret.eq_ignore_ascii_case(&name))
    };
    if query.split(['&', ';']).any(is_secret) {
        return Err(ParseReferenceError::Secret { what: "a token, key or signature" });
    }
    Ok(())
}
