//! The headers of an answer: where its model was, and where its time went.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::choices::Opening;

const CACHE: HeaderName = HeaderName::from_static("x-samovar-cache");
const TIER: HeaderName = HeaderName::from_static("x-samovar-tier");
const QUEUE_POSITION: HeaderName = HeaderName::from_static("x-queue-position");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// `x-samovar-cache`, `x-samovar-tier`, `server-timing`, and `x-queue-position` for those who queued.
pub(super) fn of(opening: &Opening) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE, HeaderValue::from_static(opening.tier.as_str()));
    headers.insert(TIER, HeaderValue::from_static(opening.tier.level()));
    if let Some(position) = opening.queue_position {
        headers.insert(QUEUE_POSITION, HeaderValue::from(position));
    }
    let timing = format!(
        "queue;dur={:.1}, load;dur={:.1}, prefill;dur={:.1}, first-token;dur={:.1}",
        opening.queue_ms, opening.load_ms, opening.prefill_ms, opening.first_token_ms
    );
    if let Ok(timing) = HeaderValue::from_str(&timing) {
        headers.insert(SERVER_TIMING, timing);
    }
    headers
}
