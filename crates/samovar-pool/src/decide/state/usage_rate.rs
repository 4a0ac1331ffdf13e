//! How often something is used of late: a count that halves every hour.

use samovar_core::port::Millis;

/// After so long a use counts for half.
const HALF_LIFE_MS: f64 = 3_600_000.0;

/// A count of uses that fades.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::decide) struct UsageRate {
    count: f64,
    at: Millis,
}

impl UsageRate {
    pub(in crate::decide) fn add(&mut self, now: Millis) {
        *self = Self { count: self.seen_at(now) + 1.0, at: now };
    }

    pub(in crate::decide) fn seen_at(self, now: Millis) -> f64 {
        self.count * (-(now.since(self.at) as f64) / HALF_LIFE_MS).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_halves_it() {
        let mut usage_rate = UsageRate::default();
        usage_rate.add(Millis(0));
        usage_rate.add(Millis(0));
        assert!((usage_rate.seen_at(Millis(3_600_000)) - 1.0).abs() < 1e-9);
        usage_rate.add(Millis(3_600_000));
        assert!((usage_rate.seen_at(Millis(7_200_000)) - 1.0).abs() < 1e-9);
    }
}
