//! `strftime_now`: the moment that a conversation was told, in Python's formats; it never reads a clock.

use std::fmt::Write as _;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr};
use minijinja::{Error, State, Value};
use samovar_core::chat::WallTime;

use super::budget::{self, refuse};
use super::filters::Arguments;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment as a template's function.
#[derive(Debug)]
pub(crate) struct Clock(pub(crate) WallTime);

impl Object for Clock {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let [format] = Arguments::from_values(args)?.bind("strftime_now", ["format"])?;
        let format = format.as_ref().and_then(Value::as_str);
        let format = format.ok_or_else(|| refuse("strftime_now() needs a format"))?;
        budget::charge(state, format.len().saturating_mul(32))?;
        let mut text = String::new();
        Moment::of(self.0).write(&mut text, format);
        budget::text(state, text)
    }
}

/// A moment of the local calendar.
struct Moment {
    unix_s: i64,
    year: i64,
    /// From 0.
    month: usize,
    /// From 1.
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    /// From Sunday, which is 0.
    weekday: i64,
    /// From 0.
    day_of_year: i64,
}

impl Moment {
    fn of(time: WallTime) -> Self {
        let local_s = time.unix_s.saturating_add(i64::from(time.utc_offset_s));
        let (days, second_of_day) = (local_s.div_euclid(86_400), local_s.rem_euclid(86_400));
        // Days since 0000-03-01, in eras of 400 years, as in Howard Hinnant's civil_from_days.
        let days_since_era = days + 719_468;
        let era = days_since_era.div_euclid(146_097);
        let day_of_era = days_since_era.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_march_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_march_year + 2) / 153;
        let day = day_of_march_year - (153 * march_month + 2) / 5 + 1;
        let month = (march_month + 2) % 12;
        let year = year_of_era + era * 400 + i64::from(month < 2);
        let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let before_month = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let month = usize::try_from(month).unwrap_or_default();
        Self {
            unix_s: time.unix_s,
            year,
            month,
            day,
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
            weekday: (days + 4).rem_euclid(7),
            day_of_year: before_month[month] + day - 1 + i64::from(is_leap && month > 1),
        }
    }

    fn write(&self, out: &mut String, format: &str) {
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            // glibc's flags: no padding, spaces, zeros, capitals.
            let mut rest = chars.clone();
            let flag = rest.next().filter(|c| matches!(c, '-' | '_' | '0' | '^' | '#'));
            if flag.is_some() {
                chars.next();
            }
            let Some(directive) = chars.next() else {
                out.push('%');
                out.extend(flag);
                break;
            };
            if !self.directive(out, directive, flag) {
                out.push('%');
                out.extend(flag);
                out.push(directive);
            }
        }
    }

    /// Writes what stands for `%directive`; false if it is none.
    fn directive(&self, out: &mut String, directive: char, flag: Option<char>) -> bool {
        let day = DAYS[usize::try_from(self.weekday).unwrap_or_default()];
        let month = MONTHS[self.month];
        let hour_of_12 = (self.hour + 11) % 12 + 1;
        let half = if self.hour < 12 { "AM" } else { "PM" };
        let (iso_year, iso_week) = self.iso_week();
        let mut word = |text: &str| match flag {
            Some('^') => out.push_str(&text.to_uppercase()),
            _ => out.push_str(text),
        };
        match directive {
            'a' => word(&day[..3]),
            'A' => word(day),
            'b' | 'h' => word(&month[..3]),
            'B' => word(month),
            'p' => word(half),
            'P' => word(&half.to_lowercase()),
            '%' => word("%"),
            'n' => word("\n"),
            't' => word("\t"),
            // A moment without a zone has neither name nor offset; its fraction of a second is not told.
            'z' | 'Z' => {}
            'f' => word("000000"),
            'c' => self.write(out, "%a %b %e %H:%M:%S %Y"),
            'D' | 'x' => self.write(out, "%m/%d/%y"),
            'F' => self.write(out, "%Y-%m-%d"),
            'r' => self.write(out, "%I:%M:%S %p"),
            'R' => self.write(out, "%H:%M"),
            'T' | 'X' => self.write(out, "%H:%M:%S"),
            'd' => padded(out, self.day, 2, '0', flag),
            'e' => padded(out, self.day, 2, ' ', flag),
            'H' => padded(out, self.hour, 2, '0', flag),
            'k' => padded(out, self.hour, 2, ' ', flag),
            'I' => padded(out, hour_of_12, 2, '0', flag),
            'l' => padded(out, hour_of_12, 2, ' ', flag),
            'j' => padded(out, self.day_of_year + 1, 3, '0', flag),
            'm' => padded(out, i64::try_from(self.month).unwrap_or_default() + 1, 2, '0', flag),
            'M' => padded(out, self.minute, 2, '0', flag),
            'S' => padded(out, self.second, 2, '0', flag),
            's' => padded(out, self.unix_s, 1, '0', flag),
            'u' => padded(out, (self.weekday + 6) % 7 + 1, 1, '0', flag),
            'w' => padded(out, self.weekday, 1, '0', flag),
            'U' => padded(out, (self.day_of_year + 7 - self.weekday) / 7, 2, '0', flag),
            'W' => padded(out, (self.day_of_year + 7 - (self.weekday + 6) % 7) / 7, 2, '0', flag),
            'V' => padded(out, iso_week, 2, '0', flag),
            'G' => padded(out, iso_year, 1, '0', flag),
            'g' => padded(out, iso_year.rem_euclid(100), 2, '0', flag),
            'y' => padded(out, self.year.rem_euclid(100), 2, '0', flag),
            'C' => padded(out, self.year.div_euclid(100), 2, '0', flag),
            'Y' => padded(out, self.year, 1, '0', flag),
            _ => return false,
        }
        true
    }

    /// The year and week of ISO 8601.
    fn iso_week(&self) -> (i64, i64) {
        let weeks_of = |year: i64| {
            let first = |year: i64| {
                (year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400)).rem_euclid(7)
            };
            if first(year) == 4 || first(year - 1) == 3 { 53 } else { 52 }
        };
        let from_monday = (self.weekday + 6) % 7;
        let week = (self.day_of_year - from_monday + 10) / 7;
        if week < 1 {
            (self.year - 1, weeks_of(self.year - 1))
        } else if week > weeks_of(self.year) {
            (self.year + 1, 1)
        } else {
            (self.year, week)
        }
    }
}

fn padded(out: &mut String, number: i64, width: usize, fill: char, flag: Option<char>) {
    let fill = match flag {
        Some('-') => None,
        Some('_') => Some(' '),
        Some('0') => Some('0'),
        _ => Some(fill),
    };
    let digits = number.to_string();
    if let Some(fill) = fill {
        out.extend(std::iter::repeat_n(fill, width.saturating_sub(digits.len())));
    }
    let _ = write!(out, "{digits}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_s: i64, utc_offset_s: i32, format: &str) -> String {
        let mut text = String::new();
        Moment::of(WallTime { unix_s, utc_offset_s }).write(&mut text, format);
        text
    }

    #[test]
    fn writes_pythons_formats() {
        assert_eq!(at(1_753_056_000, 0, "%d %b %Y"), "21 Jul 2025");
        assert_eq!(at(1_753_056_000, 0, "%A, %B %-d, %Y %I:%M %p"), "Monday, July 21, 2025 12:00 AM");
        assert_eq!(at(1_753_056_000, -3600, "%Y-%m-%d %H:%M:%S"), "2025-07-20 23:00:00");
        assert_eq!(at(1_709_164_800, 0, "%j %U %W %G-W%V-%u %e"), "060 08 09 2024-W09-4 29");
        assert_eq!(at(0, 0, "%c|%x|%y|%q|%"), "Thu Jan  1 00:00:00 1970|01/01/70|70|%q|%");
    }

    #[test]
    fn weeks_at_the_edges_of_a_year() {
        // 2021-01-03, 2020-12-31, 2024-12-30.
        assert_eq!(at(1_609_632_000, 0, "%G-W%V"), "2020-W53");
        assert_eq!(at(1_609_372_800, 0, "%G-W%V"), "2020-W53");
        assert_eq!(at(1_735_516_800, 0, "%G-W%V"), "2025-W01");
    }
}
