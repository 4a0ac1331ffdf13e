//! How many tokens a draft model is asked for: as many as pay here, its own steps included, and so few where it fails that
//! answers become slower by no more than 1 %, besides a few steps after a load.
//!
//! ```text
//!   gain(k) = (1 + accepted tokens expected of k) ÷ (cost of 1 + k rows + k steps of the draft model)
//!   balance = steps that its drafts have saved − steps that they have cost + 1 % of the tokens said
//! ```
//!
//! A draft is asked for where the balance pays for its failure, and for what the draft model must read before. It is for all
//! requests of an instance, so that each finds out no more than is not known yet. What has been seen to pay may go below
//! zero, for a part of what it will save. All is counted in steps of the model with one row. Times are given; it never looks at
//! a clock.

use std::time::Duration;

use super::DRAFT_MAX;
use super::controller::{GAIN_MIN, Kind, in_a_row_max};
use super::costs::{Costs, Window};

/// What a token that is said adds to the balance. With the 2 % of drafts from the text itself, this is what is promised.
const PART: f64 = 0.01;
/// With which an instance begins: enough to read the end of a text and to try once.
const BALANCE_FIRST: f64 = 5.0;
/// What was saved is not spent later beyond this.
const BALANCE_MAX: f64 = 16.0;
/// What has been seen to pay may go so far below zero.
const LENT_MAX: f64 = 12.0;
/// Of what is expected to be saved by the rest of an answer, the part that is lent.
const LENT_PART: f64 = 0.5;
/// After so many drafts is known whether they pay.
const KNOWN: usize = 16;
/// Of a text that the draft model has not read, so many tokens at the end are read, before that is known, and then.
const READ_FIRST: usize = 128;
const READ: usize = 256;
/// From so many tokens on, reading is measured: fewer are read in nearly the time of one.
const READ_MEASURED: usize = 16;
/// What a token costs that is read among many, in steps of the draft model, before it is measured.
const READ_GUESS: f64 = 0.3;

/// What it took a draft model to make a draft.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Drafting {
    /// Tokens that it read in its first step, or steps, and their time.
    pub read: usize,
    pub read_time: Duration,
    /// Its further steps, of a token each, and their time.
    pub steps: usize,
    pub steps_time: Duration,
}

/// Decides for all requests of an instance.
#[derive(Debug)]
pub(crate) struct ModelController {
    kind: Kind,
    /// Seconds of one of the draft model's steps, and of a token that it reads among many.
    step: Window,
    token: Window,
    /// One of its steps in steps of the model, before it is measured.
    step_guess: f64,
    balance: f64,
    /// Drafts that were computed.
    seen: usize,
    /// Whether the next step tries what is not expected to pay.
    is_trial: bool,
    in_a_row: usize,
}

impl ModelController {
    /// For a draft model whose weights are this part of the model's.
    pub(crate) fn new(part: f64) -> Self {
        Self {
            kind: Kind::new(),
            step: Window::default(),
            token: Window::default(),
            step_guess: part.clamp(0.02, 1.0),
            balance: BALANCE_FIRST,
            seen: 0,
            is_trial: false,
            in_a_row: 0,
        }
    }

    /// Of a text that the draft model has not read, how many tokens at the end it is to read.
    pub(crate) const fn reads(&self) -> usize {
        if self.is_known() { READ } else { READ_FIRST }
    }

    /// How many tokens are asked for, `most` at most, where the draft model must read `unread` tokens before, and the answer
    /// may have `left` more.
    pub(crate) fn k(&mut self, most: usize, unread: usize, left: usize, costs: &Costs) -> usize {
        self.is_trial = false;
        let Some(step) = self.step_cost(costs).filter(|_| costs.of(1).is_some()) else { return 0 };
        let reading = self.reading_cost(unread, step, costs);
        let gain = |k: usize| self.kind.expected(k) / (k as f64).mul_add(step, costs.guess(1 + k));
        let loss = |k: usize| (k as f64).mul_add(step, costs.most(1 + k) - 1.0) + reading;
        let can_afford = |k: usize, gain: f64| self.balance + self.lent(gain, left) >= loss(k);
        let gains = (1..=most.min(DRAFT_MAX)).map(|k| (k, gain(k))).filter(|(k, gain)| can_afford(*k, *gain));
        let Some((best, gain)) = gains.max_by(|(_, one), (_, other)| one.total_cmp(other)) else { return 0 };
        if self.in_a_row >= in_a_row_max(gain) {
            return 0;
        }
        if gain >= GAIN_MIN {
            return best;
        }
        self.is_trial = self.kind.is_due() && self.balance >= loss(1);
        usize::from(self.is_trial)
    }

    /// Takes note of a step that computed nothing but `rows` of a request (1 + the draft's tokens), of which `accepted` of the
    /// draft were sampled, of its time with sampling, and of what the draft took before.
    pub(crate) fn step(
        &mut self,
        rows: usize,
        accepted: usize,
        time: Duration,
        drafting: &Drafting,
        costs: &mut Costs,
    ) {
        let drafted = rows.saturating_sub(1).min(DRAFT_MAX);
        let accepted = accepted.min(drafted);
        let gained = (1 + accepted) as f64;
        // What another program held up is not the draft's fault: so a step counts as twice what it may cost at most.
        let cost = costs.measured(time).map_or(rows as f64, |cost| cost.min(2.0 * costs.most(rows)));
        let drafting_cost = self.drafting_cost(drafting, costs);
        costs.note(rows, time);
        self.note(drafting);
        self.said(1 + accepted, false);
        self.balance = (self.balance + gained - cost - drafting_cost).min(BALANCE_MAX);
        self.seen += 1;
        self.in_a_row += 1;
        let is_trial = std::mem::take(&mut self.is_trial);
        self.kind.learn(drafted, accepted, is_trial);
    }

    /// Takes note of so many tokens of an answer, of a step without a draft of the model's: one of the last token alone, if it
    /// `is_plain`.
    pub(crate) fn said(&mut self, tokens: usize, is_plain: bool) {
        self.kind.said(tokens);
        self.balance = PART.mul_add(tokens as f64, self.balance).min(BALANCE_MAX);
        if is_plain {
            self.in_a_row = 0;
        }
    }

    const fn is_known(&self) -> bool {
        self.seen >= KNOWN
    }

    /// How far the balance may go below zero.
    fn lent(&self, gain: f64, left: usize) -> f64 {
        if !self.is_known() || gain < GAIN_MIN {
            return 0.0;
        }
        let saved = left as f64 * (1.0 - 1.0 / gain);
        (saved * LENT_PART).min(LENT_MAX)
    }

    /// One of the draft model's steps. `None` before a step of the model was measured.
    fn step_cost(&self, costs: &Costs) -> Option<f64> {
        match self.step.median() {
            Some(seconds) => costs.measured(Duration::from_secs_f64(seconds)),
            None => Some(self.step_guess),
        }
    }

    /// What it costs to read so many tokens, beyond a step of one token.
    fn reading_cost(&self, unread: usize, step: f64, costs: &Costs) -> f64 {
        let known = self.token.median().map(Duration::from_secs_f64);
        let token = known.and_then(|time| costs.measured(time)).unwrap_or(step * READ_GUESS);
        token.mul_add(unread as f64, -step).max(0.0)
    }

    /// What a draft took. What another program held up is not its fault either.
    fn drafting_cost(&self, drafting: &Drafting, costs: &Costs) -> f64 {
        let Drafting { read, read_time, steps, steps_time } = *drafting;
        let Some(cost) = costs.measured(read_time + steps_time) else { return 0.0 };
        match self.step_cost(costs).filter(|_| self.step.is_sure() && self.token.is_sure()) {
            Some(step) => {
                let usual = ((1 + steps) as f64).mul_add(step, self.reading_cost(read, step, costs));
                cost.min(2.0 * usual)
            }
            None => cost,
        }
    }

    fn note(&mut self, drafting: &Drafting) {
        let Drafting { read, read_time, steps, steps_time } = *drafting;
        if steps > 0 {
            self.step.note(steps_time.as_secs_f64() / steps as f64);
        } else if read <= 2 {
            self.step.note(read_time.as_secs_f64());
        }
        if read >= READ_MEASURED {
            self.token.note(read_time.as_secs_f64() / read as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(50);

    /// What rows cost on a machine, in steps with one row; and a step of the draft model.
    type Machine = (fn(usize) -> f64, f64);

    const MACHINES: [Machine; 4] = [
        (|rows| 0.2_f64.mul_add(rows as f64 - 1.0, 1.0), 0.1),
        (|rows| 0.4_f64.mul_add(rows as f64 - 1.0, 1.0), 0.1),
        (|rows| rows as f64, 0.3),
        (|rows| if rows == 1 { 1.0 } else { 2.2 }, 0.8),
    ];

    /// An instance that answers, and whose draft model has all of an answer to read at its begin.
    struct Life {
        controller: ModelController,
        costs: Costs,
        machine: Machine,
        tokens: f64,
        /// In steps with one row.
        spent: f64,
        drafted: usize,
    }

    impl Life {
        fn new(machine: Machine) -> Self {
            let (controller, costs) = (ModelController::new(machine.1), Costs::new());
            Self { controller, costs, machine, tokens: 0.0, spent: 0.0, drafted: 0 }
        }

        /// An answer to a prompt of so many tokens. `accept` is given how many tokens are drafted.
        fn answer(&mut self, prompt: usize, tokens: usize, mut accept: impl FnMut(usize) -> usize) {
            let (mut said, mut unread) = (0, prompt);
            while said < tokens {
                let reads = unread.min(self.controller.reads());
                let left = tokens - said;
                let k = self.controller.k(DRAFT_MAX.min(left - 1), reads, left, &self.costs);
                let (rows, draft_step) = self.machine;
                let time = rows(1 + k);
                self.spent += time;
                if k == 0 {
                    self.costs.note(1, STEP.mul_f64(time));
                    self.controller.said(1, true);
                    (said, unread, self.tokens) = (said + 1, unread + 1, self.tokens + 1.0);
                    continue;
                }
                let accepted = accept(k).min(k);
                let reading = draft_step * (reads as f64 * 0.25).max(1.0);
                let drafting = Drafting {
                    read: reads,
                    read_time: STEP.mul_f64(reading),
                    steps: k - 1,
                    steps_time: STEP.mul_f64(draft_step * (k - 1) as f64),
                };
                self.spent += reading + draft_step * (k - 1) as f64;
                self.controller.step(1 + k, accepted, STEP.mul_f64(time), &drafting, &mut self.costs);
                (said, unread, self.drafted) = (said + 1 + accepted, 1, self.drafted + k);
                self.tokens += 1.0 + accepted as f64;
            }
        }

        fn part(&self) -> f64 {
            self.spent / self.tokens
        }
    }

    #[test]
    fn a_draft_model_that_always_fails_is_asked_rarely() {
        for machine in MACHINES {
            let mut life = Life::new(machine);
            life.answer(200, 400, |_| 0);
            assert!(life.drafted > 0 || machine.1 > 0.2, "it is tried");
            assert!(life.part() <= 1.03, "{} in the first answer", life.part());
            (0..20).for_each(|_| life.answer(200, 400, |_| 0));
            assert!(life.part() <= 1.02, "{} after all", life.part());
        }
    }

    #[test]
    fn no_draft_model_makes_answers_slower_by_more_than_three_percent() {
        let adversaries: [fn(usize, usize) -> usize; 4] = [
            |k, _| usize::from(k == 1),
            |k, step| if step / 3 % 2 == 0 { k } else { 0 },
            |k, step| if step / 100 % 2 == 0 { k } else { 0 },
            |k, step| step * 7919 % 101 % (k + 1),
        ];
        for (index, machine) in MACHINES.into_iter().enumerate() {
            for (other, accept) in adversaries.into_iter().enumerate() {
                let (mut life, mut step) = (Life::new(machine), 0);
                for _ in 0..20 {
                    life.answer(300, 300, |k| {
                        step += 1;
                        accept(k, step)
                    });
                }
                assert!(life.part() <= 1.03, "{} on machine {index} by adversary {other}", life.part());
            }
        }
    }

    #[test]
    fn a_draft_model_that_is_right_is_asked_at_once_by_later_answers() {
        let mut life = Life::new(MACHINES[0]);
        (0..3).for_each(|_| life.answer(200, 300, |k| k));
        let before = (life.spent, life.tokens);
        life.answer(500, 300, |k| k);
        let part = (life.spent - before.0) / (life.tokens - before.1);
        assert!(part < 0.6, "{part}");
    }

    #[test]
    fn nothing_is_asked_for_before_a_step_was_measured() {
        let mut controller = ModelController::new(0.1);
        assert_eq!(controller.k(8, 10, 100, &Costs::new()), 0);
    }
}
