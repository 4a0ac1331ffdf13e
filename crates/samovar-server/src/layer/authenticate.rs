//! Asks for a key over TCP, once there is one: who it is, whether it may use the route, and whether its limits let the request in.
//!
//! The handler is then given an [`App`] of its own, which knows the key. Keys are read from two headers, never from a URL.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use samovar_core::{ErrorKind, Failure};
use tower::ServiceExt;

use crate::app::App;
use crate::client::Peer;
use crate::held_body::hold;
use crate::keys::{Account, Scope};
use crate::request_record::RequestRecord;
use crate::route::Route;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const BEARER: &[u8] = b"bearer ";
const SEND_A_KEY: &str = "send a key in the header `authorization: Bearer …` or `x-api-key`; the owner makes one with `samovar key add NAME`";

pub(super) async fn authenticate(
    State((app, route)): State<(App, &'static Route)>,
    request: Request,
    next: Next,
) -> Response {
    // One look for both: the last key may be removed at any moment.
    let are_needed = app.keys.are_needed();
    if route.is_owners && !are_needed {
        return crate::no_route(request.method(), request.uri());
    }
    if route.scope == Scope::Open || !are_needed {
        return next.run(request).await;
    }
    let identified = identify(&app, &request);
    let account = match identified {
        Ok(account) => account,
        Err(Unknown { failure, delay }) => {
            tokio::time::sleep(delay).await;
            return refuse(&app, route, failure);
        }
    };
    RequestRecord::current(&app).asked_by(account.name());
    if !account.may(route.scope) {
        return refuse(&app, route, out_of_scope(&account, route.scope));
    }
    app.metrics.asked(&account);
    tracing::debug!(key = account.name(), path = route.path, "a request with a key");
    // What only looks is not limited, and takes no place of what works.
    let underway = if request.method().is_safe() {
        None
    } else {
        match account.begin() {
            Ok(underway) => Some(underway),
            Err(failure) => {
                let mut response = refuse(&app, route, failure);
                account.tell_limits(response.headers_mut());
                return response;
            }
        }
    };
    let handler = (route.handler)().with_state::<()>(app.of(Arc::clone(&account)));
    let mut response = match handler.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    account.tell_limits(response.headers_mut());
    match underway {
        Some(underway) => response.map(|body| hold(body, underway)),
        None => response,
    }
}

/// Why a request is not known to be a key's.
struct Unknown {
    failure: Failure,
    /// How long its answer is to wait: it may be one of many tries.
    delay: Duration,
}

/// The key that the request was sent with.
fn identify(app: &App, request: &Request) -> Result<Arc<Account>, Unknown> {
    let mut is_sent = false;
    for key in keys_in(request.headers()) {
        is_sent = true;
        if let Some(account) = app.keys.find(key) {
            let checked = account.check_validity().map(|()| account);
            return checked.map_err(|failure| Unknown { failure, delay: Duration::ZERO });
        }
    }
    let message = if is_sent { "the key is not valid" } else { "the request has no key" };
    let failure = Failure::new(ErrorKind::Unauthenticated, message).with_hint(SEND_A_KEY);
    let peer = request.extensions().get::<Peer>().filter(|_| is_sent);
    Err(Unknown { failure, delay: peer.map_or(Duration::ZERO, |peer| app.keys.wrong(peer.name())) })
}

/// What may be a key in these headers.
fn keys_in(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(BEARER.len())?;
        scheme.eq_ignore_ascii_case(BEARER).then(|| key.trim_ascii())
    });
    let plain = headers.get(API_KEY).map(|value| value.as_bytes().trim_ascii());
    bearer.into_iter().chain(plain).filter(|key| !key.is_empty())
}

fn out_of_scope(account: &Account, needed: Scope) -> Failure {
    let needed = needed.word();
    let message =
        format!("the key `{}` does not have the scope `{needed}`, which is needed here", account.name());
    Failure::new(ErrorKind::Forbidden, message)
        .with_hint(format!("the owner makes such a key with `samovar key add NAME --scope {needed}`"))
}

fn refuse(app: &App, route: &Route, failure: Failure) -> Response {
    let kind = failure.kind;
    app.metrics.kept_out(kind);
    let mut response = route.refuse(failure.into());
    if kind == ErrorKind::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pairs: &[(HeaderName, &str)]) -> Vec<String> {
        let headers: HeaderMap =
            pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("value"))).collect();
        keys_in(&headers).map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }

    #[test]
    fn a_key_is_read_from_two_headers() {
        use header::AUTHORIZATION;
        assert_eq!(found(&[(AUTHORIZATION, "Bearer sk-1")]), ["sk-1"]);
        assert_eq!(found(&[(AUTHORIZATION, "bearer   sk-1 ")]), ["sk-1"]);
        assert_eq!(found(&[(API_KEY, "sk-2")]), ["sk-2"]);
        assert_eq!(found(&[(API_KEY, "sk-2"), (AUTHORIZATION, "Bearer sk-1")]), ["sk-1", "sk-2"]);
        for value in ["", "Bearer", "Bearer ", "Basic dTpw", "sk-1"] {
            assert!(found(&[(AUTHORIZATION, value)]).is_empty(), "{value:?}");
        }
        assert!(found(&[(HeaderName::from_static("cookie"), "key=sk-1")]).is_empty());
    }
}
