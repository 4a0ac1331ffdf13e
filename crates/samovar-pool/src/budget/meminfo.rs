//! What `/proc/meminfo` says is available.

/// `MemAvailable` in bytes: what could be had without swapping, page cache included.
pub(super) fn available_bytes(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let mut words = rest.split_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    match words.next() {
        Some("kB") => number.checked_mul(1024),
        None => Some(number),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kibibytes_and_nothing_else() {
        assert_eq!(available_bytes("MemTotal: 9 kB\nMemAvailable:       20 kB\n"), Some(20 << 10));
        assert_eq!(available_bytes("MemAvailable: 20 MB\n"), None);
        assert_eq!(available_bytes("MemAvailable: many kB\n"), None);
        assert_eq!(available_bytes("MemFree: 20 kB\n"), None);
    }
}
