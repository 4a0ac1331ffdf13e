//! What the hub's refusals mean, and what to do about each.

use reqwest::header::HeaderName;
use url::Url;

use crate::error::Error;
use crate::source::answer::Answer;
use crate::source::origin::host;

const CODE: HeaderName = HeaderName::from_static("x-error-code");
const MESSAGE: HeaderName = HeaderName::from_static("x-error-message");

/// What was asked for.
pub(crate) struct Context<'a> {
    /// In words.
    pub(crate) subject: &'a str,
    /// The repository's page, where terms are accepted.
    pub(crate) page: &'a str,
    /// The branch, tag or commit.
    pub(crate) revision: &'a str,
    /// Whether a token went along.
    pub(crate) has_token: bool,
}

/// What an answer that is no success means.
pub(crate) fn of(answer: &Answer, context: &Context<'_>) -> Error {
    let code = answer.words(&CODE).unwrap_or_default();
    let status = answer.status().as_u16();
    match (code.as_str(), status) {
        ("GatedRepo", _) => gated(context),
        ("RepoNotFound", _) | ("", 404) => no_repository(context),
        ("RevisionNotFound", _) => Error::Missing {
            subject: format!("{}: the revision {}", context.subject, context.revision),
            where_: " at the hub",
            hint: format!("{} lists its branches and tags", context.page),
        },
        ("EntryNotFound", _) => Error::Missing {
            subject: context.subject.to_owned(),
            where_: " at the hub",
            hint: format!("{} lists the files that there are", context.page),
        },
        (_, 401) if context.has_token => denied(
            context,
            "the hub does not know the token".to_owned(),
            "set HF_TOKEN to a token that is valid, or unset it for open models".to_owned(),
        ),
        (_, 401) => no_repository(context),
        (_, 403) => denied(
            context,
            answer.words(&MESSAGE).map_or_else(
                || "the hub does not allow it".to_owned(),
                |message| format!("the hub does not allow it: {message}"),
            ),
            format!("see {}", context.page),
        ),
        _ => answer.refusal(context.subject),
    }
}

/// The same for a file. Where the hub sent on, a refusal is about the address that it gave out, which ends
/// after a while: another try gets a new one.
pub(crate) fn of_file(answer: &Answer, context: &Context<'_>, endpoint: &Url) -> Error {
    let is_elsewhere = answer.url().origin() != endpoint.origin();
    if is_elsewhere && answer.status().is_client_error() && answer.status().as_u16() != 416 {
        return Error::Unreachable {
            subject: context.subject.to_owned(),
            message: format!("{}, where the hub keeps it, said {}", host(answer.url()), answer.status()),
            retry_after: answer.retry_after(),
            is_silent: false,
        };
    }
    of(answer, context)
}

fn gated(context: &Context<'_>) -> Error {
    let page = context.page;
    if context.has_token {
        let hint = format!("accept its terms at {page} with the account of the token");
        denied(context, "the hub asks that its terms are accepted first".to_owned(), hint)
    } else {
        let hint = format!("accept its terms at {page} and set HF_TOKEN");
        denied(context, "the hub gives it only to users who accepted its terms".to_owned(), hint)
    }
}

fn no_repository(context: &Context<'_>) -> Error {
    let hint = if context.has_token {
        "check the name; if it is private, the token's account must be allowed to read it"
    } else {
        "check the name; if it is private, set HF_TOKEN"
    };
    Error::Missing { subject: context.subject.to_owned(), where_: " at the hub", hint: hint.to_owned() }
}

fn denied(context: &Context<'_>, message: String, hint: String) -> Error {
    Error::Denied { subject: context.subject.to_owned(), message, hint }
}
