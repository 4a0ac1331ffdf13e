//! One limit per minute as a pure calculation: the generic cell rate algorithm. It holds one number, the time at which everything that was
//! taken is paid off, and reads no clock.
//!
//! ```text
//!     now ─────────────── paid_off_ns ─────────── now + 1 min      what is between the last two may be taken at once
//! ```
//!
//! A limit of 60 per minute allows 60 at once, and then one per second. What was taken and not used is given back; what was used beyond
//! what was taken is charged afterwards, and delays what comes next.

/// The time in which a limit may be used up.
const WINDOW_NS: u64 = 60_000_000_000;

/// The largest limit: with more, one unit would take less than a nanosecond.
pub(crate) const LIMIT_MAX: u32 = 1_000_000_000;

/// What was taken of a limit, by a clock that counts nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gcra {
    paid_off_ns: u64,
}

/// What was taken at once, to be settled when it is known how much of it was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    units: u64,
    /// When it is paid off. What is paid off by then cannot be given back.
    paid_off_ns: u64,
}

impl Gcra {
    /// Takes so many units, at most the whole limit: a request that asks for more than a minute's units is let in when all of
    /// them are there, and owes what it uses beyond them.
    ///
    /// # Errors
    /// How many nanoseconds it takes until as many can be taken. Nothing is taken then.
    pub(crate) fn take(&mut self, limit: u32, units: u64, now_ns: u64) -> Result<Taken, u64> {
        let units = units.min(u64::from(limit));
        let paid_off_ns = self.paid_off_ns.max(now_ns).saturating_add(cost_ns(limit, units));
        let over_ns = paid_off_ns.saturating_sub(now_ns.saturating_add(WINDOW_NS));
        if over_ns > 0 {
            return Err(over_ns);
        }
        self.paid_off_ns = paid_off_ns;
        Ok(Taken { units, paid_off_ns })
    }

    /// Settles what was taken, once it is known how many units were used.
    pub(crate) fn settle(&mut self, limit: u32, taken: Taken, used: u64, now_ns: u64) {
        if used > taken.units {
            self.charge(limit, used - taken.units, now_ns);
            return;
        }
        // The part of it that time has paid off is gone.
        let left_ns = taken.paid_off_ns.saturating_sub(now_ns);
        let unused_ns = cost_ns(limit, taken.units - used).min(left_ns);
        self.paid_off_ns = self.paid_off_ns.saturating_sub(unused_ns).max(now_ns);
    }

    /// Takes so many units, whether they are there or not.
    pub(crate) fn charge(&mut self, limit: u32, units: u64, now_ns: u64) {
        self.paid_off_ns = self.paid_off_ns.max(now_ns).saturating_add(cost_ns(limit, units));
    }

    /// How many units can be taken now.
    pub(crate) fn remaining(self, limit: u32, now_ns: u64) -> u64 {
        let free_ns = WINDOW_NS.saturating_sub(self.until_full_ns(now_ns));
        // The most units whose cost, rounded down, fits.
        let beyond = (u128::from(free_ns) + 1) * u128::from(limit);
        beyond.div_ceil(u128::from(WINDOW_NS)).saturating_sub(1) as u64
    }

    /// How many nanoseconds it takes until all units are there again.
    pub(crate) fn until_full_ns(self, now_ns: u64) -> u64 {
        self.paid_off_ns.saturating_sub(now_ns)
    }
}

/// How long so many units take to be paid off. Rounded down, so that a whole limit fits into the window.
fn cost_ns(limit: u32, units: u64) -> u64 {
    let cost = u128::from(units) * u128::from(WINDOW_NS) / u128::from(limit.max(1));
    u64::try_from(cost).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_whole_limit_may_be_taken_at_once_and_then_one_unit_after_another() {
        for limit in [1, 7, 60, 999, 40_000] {
            let (mut gcra, now) = (Gcra::default(), 5 * SECOND);
            for taken in 0..limit {
                assert_eq!(gcra.remaining(limit, now), u64::from(limit - taken), "{limit}");
                gcra.take(limit, 1, now).expect("is there");
            }
            let wait_ns = gcra.take(limit, 1, now).expect_err("is used up");
            assert!(wait_ns <= WINDOW_NS.div_ceil(u64::from(limit)), "{limit}: {wait_ns}");
            assert_eq!(gcra.remaining(limit, now), 0);
            assert!(gcra.take(limit, 1, now + wait_ns).is_ok(), "{limit}");
            assert!(gcra.take(limit, 1, now + wait_ns).is_err(), "{limit}");
        }
    }

    #[test]
    fn what_was_not_used_is_given_back() {
        let mut gcra = Gcra::default();
        let taken = gcra.take(1_000, 1_000, 0).expect("is there");
        assert!(gcra.take(1_000, 1, 0).is_err());
        gcra.settle(1_000, taken, 100, 0);
        assert_eq!(gcra.remaining(1_000, 0), 900);
    }

    #[test]
    fn what_time_has_paid_off_is_not_given_back_a_second_time() {
        let mut gcra = Gcra::default();
        let first = gcra.take(60, 60, 0).expect("is there");
        let later = 60 * SECOND;
        gcra.take(60, 60, later).expect("is there again");
        gcra.settle(60, first, 0, later);
        assert_eq!(gcra.remaining(60, later), 0);
    }

    #[test]
    fn what_was_used_beyond_what_was_taken_delays_what_comes_next() {
        let mut gcra = Gcra::default();
        let taken = gcra.take(60, 5_000, 0).expect("more than a minute has is let in when all is there");
        gcra.settle(60, taken, 120, 0);
        assert_eq!(gcra.until_full_ns(0), 120 * SECOND);
        assert_eq!(gcra.take(60, 1, 0), Err(61 * SECOND));
        assert!(gcra.take(60, 1, 61 * SECOND).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_minute_gets_more_than_the_limit_and_what_came_back(
            limit in 1_u32..500,
            asks in proptest::collection::vec((0_u64..300, 0_u64..5 * SECOND), 1..60),
        ) {
            let (mut gcra, mut now, mut total) = (Gcra::default(), 0, 0_u64);
            for (units, pause_ns) in asks {
                now += pause_ns;
                let remaining = gcra.remaining(limit, now);
                let is_taken = gcra.take(limit, units, now).is_ok();
                let units = units.min(u64::from(limit));
                proptest::prop_assert_eq!(is_taken, units <= remaining);
                total += if is_taken { units } else { 0 };
            }
            let most = u128::from(limit) + u128::from(now) * u128::from(limit) / u128::from(WINDOW_NS) + 1;
            proptest::prop_assert!(u128::from(total) <= most, "{} of {}", total, most);
        }
    }
}
