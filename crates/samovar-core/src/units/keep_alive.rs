//! How long a model stays ready after its last use.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{ParseUnitError, TimeSpan};

/// How long a model stays ready after its last use. Read as in Ollama: seconds or `5m`, any negative
/// length for "until memory is needed", zero for "give memory back at once".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeepAlive {
    /// So many milliseconds of idleness.
    Ms(u64),
    /// Until its memory is needed by another.
    UntilEvicted,
    /// Parked as soon as no request uses it.
    ParkAtOnce,
}

impl KeepAlive {
    /// A span, where zero means [`KeepAlive::ParkAtOnce`].
    pub const fn from_span(span: TimeSpan) -> Self {
        match span.as_ms() {
            0 => Self::ParkAtOnce,
            ms => Self::Ms(ms),
        }
    }
}

impl Default for KeepAlive {
    /// Five minutes.
    fn default() -> Self {
        Self::Ms(300_000)
    }
}

impl FromStr for KeepAlive {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a keep-alive";
        let trimmed = text.trim();
        let (is_negative, magnitude) = match trimmed.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, trimmed),
        };
        let span: TimeSpan = magnitude.parse().map_err(|error: ParseUnitError| {
            ParseUnitError::new(
                EXPECTED,
                text,
                format!("{}; -1 means until evicted, 0 park at once", error.reason),
            )
        })?;
        Ok(if is_negative && span.as_ms() > 0 { Self::UntilEvicted } else { Self::from_span(span) })
    }
}

impl std::fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ms(ms) => TimeSpan::from_ms(*ms).fmt(f),
            Self::UntilEvicted => f.pad("-1"),
            Self::ParkAtOnce => f.pad("0"),
        }
    }
}

impl Serialize for KeepAlive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeepAlive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = KeepAlive;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of seconds, or text such as \"5m\" or \"-1\"")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<KeepAlive, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<KeepAlive, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<KeepAlive, E> {
                if seconds < 0.0 {
                    return Ok(KeepAlive::UntilEvicted);
                }
                TimeSpan::from_seconds_f64(seconds).map(KeepAlive::from_span).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeepAlive, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_spans_and_both_special_values() {
        let read = |text: &str| text.parse::<KeepAlive>();
        assert_eq!(read("300"), Ok(KeepAlive::Ms(300_000)));
        assert_eq!(read("5m"), Ok(KeepAlive::Ms(300_000)));
        assert_eq!(read("1h30m"), Ok(KeepAlive::Ms(5_400_000)));
        assert_eq!(read("-1"), Ok(KeepAlive::UntilEvicted));
        assert_eq!(read("-5m"), Ok(KeepAlive::UntilEvicted));
        assert_eq!(read("0"), Ok(KeepAlive::ParkAtOnce));
        assert_eq!(read("0s"), Ok(KeepAlive::ParkAtOnce));
        assert_eq!(read("-0"), Ok(KeepAlive::ParkAtOnce));
        for text in ["", "-", "--1", "soon", "5 minutes"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_special_values() {
        let error = "soon".parse::<KeepAlive>().unwrap_err().to_string();
        assert!(error.contains("-1 means until evicted"), "{error}");
    }

    #[test]
    fn serde_takes_numbers_and_text() {
        let read = |json: &str| serde_json::from_str::<KeepAlive>(json).ok();
        assert_eq!(read("300"), Some(KeepAlive::Ms(300_000)));
        assert_eq!(read("-1"), Some(KeepAlive::UntilEvicted));
        assert_eq!(read("-0.5"), Some(KeepAlive::UntilEvicted));
        assert_eq!(read("0"), Some(KeepAlive::ParkAtOnce));
        assert_eq!(read("\"5m\""), Some(KeepAlive::Ms(300_000)));
        assert_eq!(read("true"), None);
        assert_eq!(read("1e300"), None);
    }

    proptest! {
        #[test]
        fn text_and_back_is_the_same(ms in 0..TimeSpan::MAX.as_ms()) {
            let keep_alive = KeepAlive::from_span(TimeSpan::from_ms(ms));
            prop_assert_eq!(keep_alive.to_string().parse(), Ok(keep_alive));
        }
    }
}
