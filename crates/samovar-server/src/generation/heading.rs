//! The headers of an answer: where its model was, and where its time went.

use std::fmt::Write;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::opening::Opening;

const CACHE: HeaderName = HeaderName::from_static("x-samovar-cache");
const TIER: HeaderName = HeaderName::from_static("x-samovar-tier");
const QUEUE_POSITION: HeaderName = HeaderName::from_static("x-queue-position");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// `x-samovar-cache`, `x-samovar-tier`, `server-timing`, and `x-queue-position` for those who queued. A stream that began
/// before its first token has what was known by then.
pub(crate) fn of(opening: &Opening) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(position) = opening.queue_position {
        headers.insert(QUEUE_POSITION, HeaderValue::from(position));
    }
    let Some(granted) = &opening.granted else { return headers };
    headers.insert(CACHE, HeaderValue::from_static(granted.tier.as_str()));
    headers.insert(TIER, HeaderValue::from_static(granted.tier.level()));
    let (trace, timings) = (&granted.trace, granted.trace.timings());
    let mut timing = format!("queue;dur={:.1}, load;dur={:.1}", timings.queue_ms, timings.load_ms);
    for (name, ms) in [("prefill", trace.prefill_ms()), ("first-token", trace.first_token_ms())] {
        if let Some(ms) = ms {
            let _ = write!(timing, ", {name};dur={ms:.1}");
        }
    }
    if let Ok(timing) = HeaderValue::from_str(&timing) {
        headers.insert(SERVER_TIMING, timing);
    }
    headers
}
