//! The machine's clock, and its moments and days as text: RFC 3339, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;

/// Since 1970.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whole seconds since 1970.
pub(crate) fn now_unix_s() -> u64 {
    since_1970().as_secs()
}

/// Now, in milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

/// This moment.
pub(crate) fn now() -> String {
    written(since_1970())
}

/// The moment so long after the beginning of 1970, with nanoseconds.
pub(crate) fn written(since_1970: Duration) -> String {
    let (seconds, nanoseconds) = (since_1970.as_secs(), since_1970.subsec_nanos());
    let (days, second_of_day) = (seconds / DAY_S, seconds % DAY_S);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

/// The day of the moment so long after the beginning of 1970, such as `2026-11-30`. Later days sort after earlier ones.
pub(crate) fn day(since_1970: Duration) -> String {
    let (year, month, day) = date(since_1970.as_secs() / DAY_S);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day, so many days after the first of January 1970: as in Howard Hinnant's `civil_from_days`, in eras of 400 years
/// that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000000007Z"),
            (1_709_210_096, "2024-02-29T12:34:56.000000007Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000000007Z"),
        ] {
            assert_eq!(written(Duration::new(seconds, 7)), expected);
        }
        assert!(written(Duration::MAX).ends_with('Z'), "no moment panics");
        assert_eq!(day(Duration::from_secs(1_709_210_096)), "2024-02-29");
    }
}
