//! Gives each request an id, or keeps the one that its client gave.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST_BYTES: usize = 128;

/// The id of a request, in logs, headers and answers.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = given.filter(|id| is_plain(id)).map_or_else(fresh, str::to_owned);
    let header = HeaderValue::from_str(&id).expect("invariant: ids are plain ASCII");
    request.extensions_mut().insert(RequestId(id));
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, header);
    response
}

fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=LONGEST_BYTES).contains(&id.len()) && id.bytes().all(plain)
}

/// Unlike any other of this or another process; guessable, which does no harm.
fn fresh() -> String {
    static KEYS: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}{:016x}", KEYS.0.hash_one(count), KEYS.1.hash_one(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_plain() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| fresh()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| is_plain(id) && id.len() == 32));
    }

    #[test]
    fn a_clients_id_is_kept_only_when_plain() {
        assert!(is_plain("req-1.a_B:2"));
        for id in ["", "a b", "<script>", "a\nb", &"x".repeat(129)] {
            assert!(!is_plain(id), "{id:?}");
        }
    }
}
