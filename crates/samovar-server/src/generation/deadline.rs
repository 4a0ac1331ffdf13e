//! How long a client waits for its answer, as its body and a header say it.

use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use samovar_core::units::TimeSpan;

use super::params;
use crate::refusal::Refusal;

/// How long the client waits for the whole answer, in seconds or as `1m30s`.
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

/// The shorter of the body's and the header's.
pub(crate) fn of(field: Option<f64>, headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let range = SHORTEST_TIMEOUT.as_secs_f64()..=LONGEST_TIMEOUT.as_secs_f64();
    let field = params::number("timeout", field, &range)?.map(Duration::from_secs_f32);
    let header = headers.get(REQUEST_TIMEOUT).map(|value| {
        let span = value.to_str().ok().and_then(|text| TimeSpan::from_str(text).ok());
        let limits = SHORTEST_TIMEOUT..=LONGEST_TIMEOUT;
        span.map(TimeSpan::as_duration).filter(|span| limits.contains(span)).ok_or_else(|| {
            let message = "the header x-request-timeout must be a number of seconds from 0.001 to 86400";
            Refusal::invalid("x-request-timeout", message)
        })
    });
    let header = header.transpose()?;
    Ok(match (field, header) {
        (Some(field), Some(header)) => Some(field.min(header)),
        (field, header) => field.or(header),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(REQUEST_TIMEOUT, value.parse().expect("value"))])
    }

    #[test]
    fn the_shorter_deadline_counts() {
        let none = HeaderMap::new();
        assert_eq!(of(None, &none).expect("none"), None);
        assert_eq!(of(Some(1.5), &none).expect("field"), Some(Duration::from_millis(1500)));
        assert_eq!(of(None, &with_header("2")).expect("header"), Some(Duration::from_secs(2)));
        assert_eq!(of(Some(5.0), &with_header("250ms")).expect("both"), Some(Duration::from_millis(250)));
    }

    #[test]
    fn a_deadline_out_of_range_is_refused() {
        for seconds in [0.0, -1.0, 1e9, f64::NAN] {
            assert!(of(Some(seconds), &HeaderMap::new()).is_err(), "{seconds}");
        }
        for text in ["0", "soon", "-3", "99999999"] {
            assert!(of(None, &with_header(text)).is_err(), "{text}");
        }
    }
}
