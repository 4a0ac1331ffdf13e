//! A length of time, as written by people and shown to them.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ParseUnitError;

const EXPECTED: &str = "a length of time";
const EXAMPLES: &str = "write seconds, or numbers with units, such as 300, 5m, 1h30m or 250ms";
const TOO_LONG: &str = "a hundred years is the longest";
/// Units from the largest, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const MAX_MS: u64 = 100 * 366 * 86_400_000;

/// A length of time in whole milliseconds, at most a hundred years.
/// Read from seconds (`300`, `0.5`) or from units (`5m`, `1h30m`, `250ms`); shown as `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan {
    ms: u64,
}

impl TimeSpan {
    /// The longest span: a hundred years.
    pub const MAX: Self = Self { ms: MAX_MS };

    /// So many milliseconds, cut to [`TimeSpan::MAX`].
    pub const fn from_ms(ms: u64) -> Self {
        Self { ms: if ms > MAX_MS { MAX_MS } else { ms } }
    }

    /// So many seconds, cut to [`TimeSpan::MAX`].
    pub const fn from_seconds(seconds: u64) -> Self {
        Self::from_ms(seconds.saturating_mul(1000))
    }

    /// The number of milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.ms
    }

    /// As the standard library's type.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }

    /// A number of seconds, as JSON and TOML may carry it.
    pub(super) fn from_seconds_f64(seconds: f64) -> Result<Self, ParseUnitError> {
        let refuse = |reason: &str| ParseUnitError::new(EXPECTED, &seconds.to_string(), reason);
        if !seconds.is_finite() {
            return Err(refuse(EXAMPLES));
        }
        if seconds < 0.0 {
            return Err(refuse("a length of time is not negative"));
        }
        let ms = (seconds * 1000.0).round();
        if ms > MAX_MS as f64 { Err(refuse(TOO_LONG)) } else { Ok(Self { ms: ms as u64 }) }
    }
}

impl FromStr for TimeSpan {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason: &str| ParseUnitError::new(EXPECTED, text, reason);
        let mut rest = text.trim();
        if rest.starts_with('-') {
            return Err(refuse("a length of time is not negative"));
        }
        let mut ms: u64 = 0;
        let mut smallest_unit = u64::MAX;
        if rest.is_empty() {
            return Err(refuse(EXAMPLES));
        }
        while !rest.is_empty() {
            let (number, after) = split_number(rest);
            let (unit, after) = split_letters(after);
            let factor = match unit {
                "" if number.len() == text.trim().len() => 1000,
                unit => factor_of(unit).ok_or_else(|| refuse(EXAMPLES))?,
            };
            if factor >= smallest_unit {
                return Err(refuse("units go from the largest to the smallest, each once, such as 1h30m"));
            }
            smallest_unit = factor;
            let part = in_ms(number, factor).ok_or_else(|| refuse(EXAMPLES))?;
            ms = ms.checked_add(part).filter(|ms| *ms <= MAX_MS).ok_or_else(|| refuse(TOO_LONG))?;
            rest = after.trim_start();
        }
        Ok(Self { ms })
    }
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

fn split_letters(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len()))
}

fn factor_of(unit: &str) -> Option<u64> {
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

/// A decimal number of a unit in whole milliseconds, saturating; `None` when it is no number.
fn in_ms(number: &str, factor: u64) -> Option<u64> {
    if number.is_empty() || number.starts_with('.') || number.ends_with('.') {
        return None;
    }
    match number.split_once('.') {
        // A number too long for u64 is still a number, only too large.
        None => Some(number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(factor)),
        Some(_) => number.parse::<f64>().ok().map(|value| (value * factor as f64).round() as u64),
    }
}

impl std::fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.ms == 0 {
            return f.pad("0s");
        }
        let mut rest = self.ms;
        let mut parts = Vec::new();
        for (name, factor) in UNITS {
            if rest >= factor {
                parts.push(format!("{}{name}", rest / factor));
                rest %= factor;
            }
        }
        f.pad(&parts.concat())
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = TimeSpan;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of seconds, or text such as \"5m\"")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<TimeSpan, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<TimeSpan, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<TimeSpan, E> {
                TimeSpan::from_seconds_f64(seconds).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TimeSpan, E> {
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

    fn ms(text: &str) -> u64 {
        text.parse::<TimeSpan>().unwrap().as_ms()
    }

    #[test]
    fn reads_seconds_and_units() {
        assert_eq!(ms("300"), 300_000);
        assert_eq!(ms("0.5"), 500);
        assert_eq!(ms("5m"), 300_000);
        assert_eq!(ms("1h30m"), 5_400_000);
        assert_eq!(ms("1h 30m"), 5_400_000);
        assert_eq!(ms("1.5h"), 5_400_000);
        assert_eq!(ms("250ms"), 250);
        assert_eq!(ms("1d"), 86_400_000);
        assert_eq!(ms("0"), 0);
    }

    #[test]
    fn refuses_what_is_no_length_of_time() {
        for text in [
            "",
            "m",
            "5x",
            "-1",
            "5m3",
            "3 5m",
            "30m1h",
            "5m5m",
            "1.2.3s",
            ".5s",
            "5.",
            "1e3",
            "101000000000",
            "99999999999999999999999d",
            "5M",
        ] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn serde_takes_numbers_and_text() {
        assert_eq!(serde_json::from_str::<TimeSpan>("300").unwrap().as_ms(), 300_000);
        assert_eq!(serde_json::from_str::<TimeSpan>("0.25").unwrap().as_ms(), 250);
        assert_eq!(serde_json::from_str::<TimeSpan>("\"5m\"").unwrap().as_ms(), 300_000);
        assert!(serde_json::from_str::<TimeSpan>("-1").is_err());
        assert!(serde_json::from_str::<TimeSpan>("1e300").is_err());
        assert_eq!(serde_json::to_string(&TimeSpan::from_seconds(90)).unwrap(), "\"1m30s\"");
    }

    proptest! {
        #[test]
        fn text_and_back_is_the_same(ms in 0..=MAX_MS) {
            let span = TimeSpan::from_ms(ms);
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<TimeSpan>();
        }
    }
}
