//! What a step with several rows costs here, in steps with one row: measured by the loop, shared by all requests of an
//! instance. Times are given; it never looks at a clock.
//!
//! A few cores may compute four rows in the time of 1.7 steps or of 2.3: it depends on the machine, the model and how the
//! weights lie in memory. Each figure is the median of the last steps, so that a step which another program held up
//! says little, and what has changed is noticed.

use std::time::Duration;

use super::DRAFT_MAX;

/// Steps that each figure is the median of.
const WINDOW: usize = 15;
/// From so many steps a figure is sure. The lower one counts before: a step is held up more often than it is too fast.
const SURE: usize = 3;
/// What a further row costs where nothing was measured: steps of 1, 4 and 8 answers took 57, 129 and 200 ms (1.1B,
/// `Q4_K_M`, 2 cores).
const ROW_GUESS: f64 = 0.36;
/// What a further row is guessed to cost at most, so that more rows are tried where two cost nearly as much as eight.
const ROW_GUESS_MAX: f64 = 0.6;
/// What a further row that was not measured costs at most: nearly as much as a step of its own.
const ROW_MAX: f64 = 0.8;

/// The last times of steps with the same number of rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    values: [f64; WINDOW],
    noted: usize,
    /// Of those; the lowest before it is sure.
    median: f64,
}

impl Window {
    /// Takes note of a value.
    pub(super) fn note(&mut self, value: f64) {
        self.values[self.noted % WINDOW] = value;
        self.noted += 1;
        let mut values = self.values;
        let held = &mut values[..self.noted.min(WINDOW)];
        held.sort_by(f64::total_cmp);
        self.median = if self.is_sure() { held[(held.len() - 1) / 2] } else { held[0] };
    }

    /// Whether there are enough values to go by.
    pub(super) fn is_sure(&self) -> bool {
        self.noted >= SURE
    }

    /// The median, if there is any value.
    pub(super) fn median(&self) -> Option<f64> {
        (self.noted > 0).then_some(self.median)
    }

    fn sure_median(&self) -> Option<f64> {
        self.is_sure().then_some(self.median)
    }
}

/// Costs of steps by their rows.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    /// Seconds of a step with one row.
    one: Window,
    /// Steps with 2 rows and more, in steps with one row.
    more: [Window; DRAFT_MAX],
}

impl Costs {
    /// Nothing is known.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes note of a step that computed so many rows of one answer and nothing else, sampling included. Steps of more
    /// than 1 + [`DRAFT_MAX`] rows are left out.
    pub(crate) fn note(&mut self, rows: usize, time: Duration) {
        if rows == 1 {
            return self.one.note(time.as_secs_f64());
        }
        let Some(cost) = self.measured(time) else { return };
        if let Some(window) = rows.checked_sub(2).and_then(|index| self.more.get_mut(index)) {
            // What costs more is of no use either, and one such step is not to be remembered for long.
            window.note(cost.clamp(1.0, rows as f64));
        }
    }

    /// This time in steps with one row. `None` before those are known.
    pub(crate) fn measured(&self, time: Duration) -> Option<f64> {
        let one = self.one.sure_median()?;
        Some(time.as_secs_f64() / one.max(f64::MIN_POSITIVE))
    }

    /// What a step with so many rows costs, in steps with one row. `None` where it was not measured.
    pub(crate) fn of(&self, rows: usize) -> Option<f64> {
        match rows {
            0 => None,
            1 => self.one.sure_median().map(|_| 1.0),
            _ => self.more.get(rows - 2)?.median(),
        }
    }

    /// The same, guessed from what is known where it was not measured.
    pub(super) fn guess(&self, rows: usize) -> f64 {
        if let Some(known) = self.of(rows) {
            return known;
        }
        let known = |rows: usize| Some((rows, self.of(rows)?));
        let (fewer, cost) = (2..rows).rev().find_map(known).unwrap_or((1, 1.0));
        let further = rows.saturating_sub(fewer) as f64;
        let above = (rows + 1..=DRAFT_MAX + 1).find_map(known);
        let a_row = match above {
            Some((more, cost_of_more)) => (cost_of_more - cost) / (more - fewer) as f64,
            None if fewer > 1 => ((cost - 1.0) / (fewer - 1) as f64).min(ROW_GUESS_MAX),
            None => ROW_GUESS,
        };
        a_row.mul_add(further, cost)
    }

    /// What it costs at most, as far as is known.
    pub(super) fn most(&self, rows: usize) -> f64 {
        let sure = |rows: usize| Some((rows, self.more.get(rows - 2)?.sure_median()?));
        let (fewer, cost) = (2..=rows).rev().find_map(sure).unwrap_or((1, 1.0));
        ROW_MAX.mul_add(rows.saturating_sub(fewer) as f64, cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(steps: &[(usize, u64)]) -> Costs {
        let mut costs = Costs::new();
        for &(rows, ms) in steps {
            costs.note(rows, Duration::from_millis(ms));
        }
        costs
    }

    const ONE: [(usize, u64); 3] = [(1, 100), (1, 100), (1, 100)];

    fn is_near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn nothing_is_known_before_it_is_measured() {
        let mut none = costs(&[(2, 150), (1, 100), (1, 100)]);
        assert_eq!((none.of(0), none.of(2), none.measured(Duration::from_secs(1))), (None, None, None));
        none.note(1, Duration::from_millis(100));
        assert_eq!((none.of(1), none.of(2)), (Some(1.0), None), "two rows were measured before one was");
        none.note(2, Duration::from_millis(150));
        assert!(is_near(none.of(2).unwrap(), 1.5));
        none.note(200, Duration::from_millis(150));
        assert_eq!((none.of(200), none.of(DRAFT_MAX + 2)), (None, None));
    }

    #[test]
    fn a_step_that_was_held_up_says_little() {
        let mut costs = costs(&ONE);
        costs.note(1, Duration::from_secs(9));
        costs.note(3, Duration::from_secs(9));
        costs.note(3, Duration::from_millis(180));
        assert!(is_near(costs.of(3).unwrap(), 1.8));
        costs.note(3, Duration::from_millis(190));
        costs.note(3, Duration::from_millis(170));
        assert!(is_near(costs.of(3).unwrap(), 1.8));
    }

    #[test]
    fn what_has_changed_is_noticed() {
        let mut costs = costs(&ONE);
        (0..WINDOW).for_each(|_| costs.note(4, Duration::from_millis(300)));
        (0..WINDOW).for_each(|_| costs.note(1, Duration::from_millis(200)));
        (0..WINDOW).for_each(|_| costs.note(4, Duration::from_millis(300)));
        assert!(is_near(costs.of(4).unwrap(), 1.5));
    }

    #[test]
    fn rows_never_cost_less_than_a_step_nor_more_than_steps_of_their_own() {
        let mut costs = costs(&ONE);
        costs.note(2, Duration::from_millis(50));
        costs.note(3, Duration::from_secs(5));
        assert_eq!((costs.of(2), costs.of(3)), (Some(1.0), Some(3.0)));
        costs.note(5, Duration::ZERO);
        assert_eq!(costs.of(5), Some(1.0));
    }

    #[test]
    fn what_was_not_measured_is_guessed_from_its_neighbours() {
        let mut costs = costs(&ONE);
        assert!(is_near(costs.guess(3), 2.0_f64.mul_add(ROW_GUESS, 1.0)));
        costs.note(3, Duration::from_millis(140));
        assert!(is_near(costs.guess(2), 1.2) && is_near(costs.guess(5), 1.8));
        costs.note(9, Duration::from_millis(260));
        assert!(is_near(costs.guess(6), 2.0));
    }

    #[test]
    fn a_cost_is_bounded_by_what_is_sure() {
        let mut costs = costs(&ONE);
        let further = |rows: u32, from: f64| ROW_MAX.mul_add(f64::from(rows), from);
        assert!(is_near(costs.most(3), further(2, 1.0)));
        for _ in 0..SURE {
            assert!(is_near(costs.most(2), further(1, 1.0)));
            costs.note(2, Duration::from_millis(150));
        }
        assert!(is_near(costs.most(2), 1.5) && is_near(costs.most(4), further(2, 1.5)));
    }
}
