//! A number of bytes, as written by people and shown to them.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ParseUnitError;

const EXPECTED: &str = "a size";
const EXAMPLES: &str = "write bytes, or a number with a unit, such as 4GB, 512MiB or 1.5GiB";

/// Factors of the units, longest suffix first so that `MiB` is not read as `B`.
/// A bare letter counts in powers of 1024, as in `dd` and systemd.
const UNITS: [(&str, u64); 16] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
];

/// A number of bytes. Read from `4GB` (powers of 1000), `512MiB` or `512M` (powers of 1024) or `4096`;
/// shown in powers of 1000 with three digits at most: `4.1 GB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl FromStr for ByteSize {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason: &str| ParseUnitError::new(EXPECTED, text, reason);
        let lower = text.trim().to_ascii_lowercase();
        if lower.is_empty() {
            return Err(refuse(EXAMPLES));
        }
        if lower.ends_with('%') {
            return Err(refuse("a share of memory is not a number of bytes; write one, such as 4GB"));
        }
        if lower.starts_with('-') {
            return Err(refuse("a size is not negative"));
        }
        let (number, factor) = split_unit(&lower);
        let bytes = scaled(number.trim_end(), factor).map_err(refuse)?;
        Ok(Self(bytes))
    }
}

fn split_unit(lower: &str) -> (&str, u64) {
    UNITS
        .iter()
        .find_map(|(suffix, factor)| lower.strip_suffix(suffix).map(|number| (number, *factor)))
        .unwrap_or((lower.strip_suffix('b').unwrap_or(lower), 1))
}

/// `number` × `factor` in integers: a float would lose bytes above 2^53.
fn scaled(number: &str, factor: u64) -> Result<u64, &'static str> {
    const TOO_LARGE: &str = "that is more than 2^64 bytes";
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) || number.ends_with('.') {
        return Err(EXAMPLES);
    }
    if fraction.len() > 9 {
        return Err("nine decimal places are enough");
    }
    let whole: u64 = whole.parse().map_err(|_| TOO_LARGE)?;
    let whole = whole.checked_mul(factor).ok_or(TOO_LARGE)?;
    let part = match fraction {
        "" => 0,
        digits => {
            let numerator: u128 = digits.parse().map_err(|_| EXAMPLES)?;
            (numerator * u128::from(factor) / 10_u128.pow(digits.len() as u32)) as u64
        }
    };
    whole.checked_add(part).ok_or(TOO_LARGE)
}

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = "B";
        for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
            // What rounds to four digits belongs to the next unit: 999.96 MB is 1.0 GB.
            if value < 999.5 {
                break;
            }
            value /= 1000.0;
            unit = larger;
        }
        let text = if unit == "B" || value >= 99.95 {
            format!("{value:.0} {unit}")
        } else {
            format!("{value:.1} {unit}")
        };
        f.pad(&text)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of bytes, or text such as \"4GB\"")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size is not negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
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

    fn bytes(text: &str) -> u64 {
        text.parse::<ByteSize>().unwrap().bytes()
    }

    #[test]
    fn reads_decimal_and_binary_units() {
        assert_eq!(bytes("4GB"), 4_000_000_000);
        assert_eq!(bytes("4 gb"), 4_000_000_000);
        assert_eq!(bytes("512MiB"), 512 << 20);
        assert_eq!(bytes("512m"), 512 << 20);
        assert_eq!(bytes("1.5GiB"), 3 << 29);
        assert_eq!(bytes("4096"), 4096);
        assert_eq!(bytes("4096B"), 4096);
        assert_eq!(bytes("0"), 0);
        assert_eq!(bytes("0.5kb"), 500);
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in [
            "",
            " ",
            "GB",
            "70%",
            "-1",
            "-4GB",
            "4XB",
            "1e9",
            "1.2.3",
            ".5",
            "5.",
            "NaN",
            "４GB",
            "99999999999999999999",
            "20000000TB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
        let error = "70%".parse::<ByteSize>().unwrap_err();
        assert!(error.to_string().contains("share"), "{error}");
    }

    #[test]
    fn shows_three_digits_at_most() {
        let shown = |bytes| ByteSize::from_bytes(bytes).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(999), "999 B");
        assert_eq!(shown(1_000), "1.0 kB");
        assert_eq!(shown(4_100_000_000), "4.1 GB");
        assert_eq!(shown(669_000_000), "669 MB");
        assert_eq!(shown(999_960_000), "1.0 GB");
        assert_eq!(shown(u64::MAX), "18.4 EB");
        assert_eq!(format!("{:>8}|", ByteSize::from_bytes(4)), "     4 B|");
    }

    #[test]
    fn serde_takes_numbers_and_text() {
        assert_eq!(serde_json::from_str::<ByteSize>("4096").unwrap().bytes(), 4096);
        assert_eq!(serde_json::from_str::<ByteSize>("\"4KiB\"").unwrap().bytes(), 4096);
        assert!(serde_json::from_str::<ByteSize>("-1").is_err());
        assert!(serde_json::from_str::<ByteSize>("1.5").is_err());
        assert_eq!(serde_json::to_string(&ByteSize::from_bytes(7)).unwrap(), "7");
    }

    proptest! {
        #[test]
        fn any_number_of_bytes_is_read_exactly(count: u64) {
            prop_assert_eq!(bytes(&count.to_string()), count);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<ByteSize>();
        }
    }
}
