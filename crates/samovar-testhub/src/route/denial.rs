//! Who may read what, and how the real hub says no.

use serde_json::json;

use crate::bad_answer::Denial;
use crate::reply::Reply;
use crate::repo::{Access, Repository};
use crate::request::Request;

/// What tokens of the real hub begin with; others are told that they are none.
const TOKEN_PREFIX: &str = "hf_";

/// Whether this request is refused; a gated repository refuses its files alone.
pub(super) fn decide(repository: Option<&Repository>, request: &Request, wants_file: bool) -> Option<Denial> {
    let token = request.token();
    let is_anonymous = request.header("authorization").is_none();
    let missing = if is_anonymous { Denial::RepoNotFoundAnonymous } else { Denial::RepoNotFound };
    let access = repository.map(|repository| &repository.access);
    if let Some(Access::Private(secret) | Access::Gated(secret)) = access
        && token == Some(secret)
    {
        return None;
    }
    if !is_anonymous && !token.is_some_and(|token| token.starts_with(TOKEN_PREFIX)) {
        return Some(Denial::BadToken);
    }
    match access {
        None | Some(Access::Private(_)) => Some(missing),
        Some(Access::Gated(_)) if wants_file && is_anonymous => Some(Denial::GatedAnonymous),
        Some(Access::Gated(_)) if wants_file => Some(Denial::GatedStranger),
        Some(_) => None,
    }
}

/// What the hub says.
pub(super) fn reply(denial: Denial) -> Reply {
    let (status, code, message) = match denial {
        Denial::GatedAnonymous => (
            401,
            "GatedRepo",
            "Access to model is restricted. You must have access to it and be authenticated to access it. \
             Please log in.",
        ),
        Denial::GatedStranger => (
            403,
            "GatedRepo",
            "Access to model is restricted and you are not in the authorized list. Ask for access.",
        ),
        Denial::RepoNotFoundAnonymous => (401, "RepoNotFound", "Invalid username or password."),
        Denial::RepoNotFound => (404, "RepoNotFound", "Repository not found"),
        Denial::RevisionNotFound => (404, "RevisionNotFound", "Invalid rev id"),
        Denial::EntryNotFound => (404, "EntryNotFound", "Entry not found"),
        Denial::BadToken => (401, "", "Invalid credentials in Authorization header"),
        Denial::Forbidden => (403, "", "This token may not do that"),
        Denial::Disabled => (403, "", "Access to this resource is disabled."),
    };
    let mut reply = Reply::json(status, &json!({"error": message})).with("X-Error-Message", message);
    if !code.is_empty() {
        reply.set("X-Error-Code", code.to_owned());
    }
    reply
}
