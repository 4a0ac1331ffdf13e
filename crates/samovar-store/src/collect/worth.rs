//! What keeping an artifact saves: how often it is used, times what it would take to bring it back, for its bytes.
//!
//! Uses a day decay on their own, so that old uses fade without an age; having been fetched counts as one use,
//! so that what was just pulled is not the first to go.

use samovar_core::gdsf;

use crate::artifact::Usage;

/// Asking the source, before the first byte: connections, redirects, listings.
const START_UP_MS: f64 = 2_000.0;
/// What is assumed of a source whose bandwidth was never measured.
const BYTES_PER_S: f64 = 20e6;
const DAY_MS: f64 = 24.0 * 3_600_000.0;
/// Days in which a use fades to 37 %, as in the index's rate.
const RATE_DAYS: f64 = 7.0;

/// The rank of an artifact of so many bytes that came so long ago.
pub(super) fn rank(usage: &Usage, bytes: u64, age_ms: u64) -> f64 {
    let bandwidth = if usage.fetch_bytes_per_s > 0.0 { usage.fetch_bytes_per_s } else { BYTES_PER_S };
    let bring_back_ms = START_UP_MS + bytes as f64 / bandwidth * 1e3;
    let coming = (-(age_ms as f64) / DAY_MS / RATE_DAYS).exp() / RATE_DAYS;
    gdsf::rank(0.0, usage.rate + coming, bytes, bring_back_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;
    const DAY: u64 = 24 * 3_600_000;

    fn usage(rate: f64, fetch_bytes_per_s: f64) -> Usage {
        Usage { rate, fetch_bytes_per_s, ..Usage::default() }
    }

    #[test]
    fn the_often_used_and_the_slow_to_fetch_stay() {
        let plain = rank(&usage(1.0, 50e6), GB, DAY);
        assert!(rank(&usage(2.0, 50e6), GB, DAY) > plain);
        assert!(rank(&usage(1.0, 5e6), GB, DAY) > plain);
        assert!(rank(&usage(1.0, 50e6), 10 * GB, DAY) < plain, "start-up weighs less on a big one");
    }

    #[test]
    fn the_new_is_worth_something_and_what_nobody_used_less_and_less() {
        assert!(rank(&usage(0.01, 0.0), GB, 90 * DAY) < rank(&usage(0.0, 0.0), GB, 0));
        assert!(rank(&usage(0.0, 0.0), GB, 30 * DAY) < rank(&usage(0.0, 0.0), GB, 0));
    }
}
