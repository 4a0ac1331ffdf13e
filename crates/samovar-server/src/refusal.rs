//! A request that is not served, before its surface decides how that looks.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use samovar_core::{ErrorKind, Failure};

use crate::redact::redact;

/// Milliseconds to wait before another try, as OpenAI's clients read it.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Tells OpenAI's clients whether another try makes sense; they retry every 5xx otherwise.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// There is no such route.
pub(crate) const UNKNOWN_ROUTE: &str = "unknown_route";
/// The route is there, for another method.
pub(crate) const WRONG_METHOD: &str = "wrong_method";
/// The parameter is known, and what it asks for is not there.
const UNSUPPORTED_PARAMETER: &str = "unsupported_parameter";

/// A request that is not served: a failure, and where HTTP has a finer word for it, that word.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) failure: Failure,
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
}

impl Refusal {
    /// A failure of a kind under another status and code than its kind's own.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::FORBIDDEN => ErrorKind::Forbidden,
            StatusCode::UNAUTHORIZED => ErrorKind::Unauthenticated,
            StatusCode::TOO_MANY_REQUESTS => ErrorKind::RateLimited,
            status if status.is_server_error() => ErrorKind::Internal,
            _ => ErrorKind::InvalidRequest,
        };
        Self { failure: Failure::new(kind, message), status, code }
    }

    /// A parameter that cannot be served as it is.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Failure::new(ErrorKind::InvalidRequest, message).with_param(param).into()
    }

    /// A parameter that OpenAI knows and this server does not, yet. A 400, because another try will
    /// not help and clients retry whatever is 5xx.
    pub(crate) fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: UNSUPPORTED_PARAMETER, ..Self::invalid(param, message) }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.failure = self.failure.with_hint(hint);
        self
    }

    /// What is wrong and what to do, without a path of this machine. The hint is part of it, because clients show nothing else.
    pub(crate) fn text(&self) -> String {
        let failure = &self.failure;
        let text = match &failure.hint {
            Some(hint) => format!("{} (hint: {hint})", failure.message),
            None => failure.message.clone(),
        };
        // A route is the client's own word, and no place of ours.
        let names_a_route = matches!(self.code, UNKNOWN_ROUTE | WRONG_METHOD);
        if names_a_route { text } else { redact(&text) }
    }

    /// The headers that every surface sends with it.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let may_retry = self.failure.may_retry();
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(if may_retry { "true" } else { "false" }));
        if let Some(ms) = self.failure.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000).max(1)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
        }
        headers
    }
}

/// As much of a text as a message repeats.
pub(crate) fn shown(text: &str) -> String {
    const CHARACTERS: usize = 40;
    text.chars().take(CHARACTERS).collect()
}

/// Parameters that ask something of the engine, and that not every engine can do.
const OF_ENGINES: [&str; 3] = ["response_format", "grammar", "tools"];

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let is_of_engine = failure.param.as_deref().is_some_and(|param| OF_ENGINES.contains(&param));
        if failure.kind == ErrorKind::Unsupported && is_of_engine {
            return Self { failure, status: StatusCode::BAD_REQUEST, code: UNSUPPORTED_PARAMETER };
        }
        let surface = failure.kind.surface();
        let status = StatusCode::from_u16(surface.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { failure, status, code: surface.code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_cannot_do_of_a_parameter_is_the_requests_fault() {
        for param in OF_ENGINES {
            let failure = Failure::new(ErrorKind::Unsupported, "no").with_param(param);
            let refusal = Refusal::from(failure);
            assert_eq!((refusal.status, refusal.code), (StatusCode::BAD_REQUEST, "unsupported_parameter"));
        }
        let other = Refusal::from(Failure::new(ErrorKind::Unsupported, "no"));
        assert_eq!(other.status, StatusCode::NOT_IMPLEMENTED);
    }
}
