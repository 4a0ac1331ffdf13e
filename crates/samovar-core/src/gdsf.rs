//! Greedy dual size frequency: what keeping a thing saves, for each gigabyte that it takes.
//!
//! `rank = age when last used + uses × seconds to bring it back / gigabytes`; the lowest leaves first. Memory and
//! disk order by it: the pool counts uses since the load and lets its age rise to the rank of whatever left
//! last, the store counts uses that decay with time and needs no age.
//!
//! *Source:* L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy",
//! HP Laboratories, 1998.

/// The rank of something that was used so often, takes so many bytes and so many milliseconds to bring back.
pub fn rank(age: f64, uses: f64, bytes: u64, bring_back_ms: f64) -> f64 {
    let gigabytes = bytes.max(1) as f64 / 1e9;
    age + uses * (bring_back_ms / 1e3) / gigabytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn frequent_slow_and_small_ones_are_worth_more() {
        let plain = rank(0.0, 2.0, GB, 2_000.0);
        assert!((plain - 4.0).abs() < 1e-9);
        assert!(rank(0.0, 3.0, GB, 2_000.0) > plain);
        assert!(rank(0.0, 2.0, GB, 3_000.0) > plain);
        assert!(rank(0.0, 2.0, 2 * GB, 2_000.0) < plain);
    }

    #[test]
    fn no_bytes_are_no_division_by_zero() {
        assert!(rank(0.0, 1.0, 0, 1.0).is_finite());
    }
}
