//! How much of a draft a step computes: as much as pays here, and never so much that an answer becomes slower than
//! without drafts by more than 3 %.
//!
//! ```text
//!   gain(k) = (1 + accepted tokens expected of k) ÷ cost of 1 + k rows      the best k counts, from a gain of 1.05
//!   debt    = steps that drafts have cost − steps that they have saved      a try needs debt + its loss ≤ 2 % of the answer
//! ```
//!
//! Where no k gains, one token is tried now and then, after pauses that double while that is of no use. All is counted in
//! steps with one row. Times are given; it never looks at a clock.

use std::time::Duration;

use super::DRAFT_MAX;
use super::costs::Costs;
use super::lookup::Draft;

/// The least gain for which more than one row is computed.
pub(super) const GAIN_MIN: f64 = 1.05;
/// The part of the steps without drafts that drafts may have cost in the end. The rest of the promised 3 % is for looking
/// drafts up, and for a step that costs more than any before.
const DEBT_PART: f64 = 0.02;
/// Saved steps that drafts may cost later: what a text that repeated itself has saved is not spent on one that does not.
const CREDIT_MAX: f64 = 8.0;
/// How much a draft says about the next one.
const NEWS: f64 = 0.25;
/// The chance that a draft's token is accepted, before any was seen.
const FIRST_CHANCE: f64 = 0.5;
/// Tokens between two tries where drafts do not pay: first, and at most.
const PAUSE_MIN: usize = 8;
const PAUSE_MAX: usize = 64;
/// Steps with drafts in a row, after which one without tells what that costs now: fewer where little is gained, so that
/// what is compared was measured at nearly the same time.
const IN_A_ROW_MAX: usize = 16;
const IN_A_ROW_MAX_NEAR: usize = 4;
/// A gain below this is little.
const NEAR: f64 = 1.25;
/// A try says no more of drafts that are accepted this often.
const SURE_CHANCE: f64 = 0.7;
/// Drafts after so many equal tokens are a kind of their own: three equal tokens are common in prose, and eight are a
/// quotation.
const LONG_MATCH: usize = 8;

/// What is known of drafts after short matches, or after long ones, or of those of a draft model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// The chance of each token of a draft, if those before it are accepted. `None` = as that of the one before it.
    chances: [Option<f64>; DRAFT_MAX],
    /// Tokens until the next try.
    wait: usize,
    /// The wait after the next try that fails.
    pause: usize,
}

/// Decides for one request.
#[derive(Debug)]
pub(crate) struct Controller {
    /// After short matches, and after long ones.
    kinds: [Kind; 2],
    /// That of the last draft.
    kind: usize,
    /// Tokens of the answer, each a step without drafts.
    tokens: f64,
    /// Steps lost by drafts. Below zero: saved.
    debt: f64,
    /// Whether the next step tries what is not expected to pay.
    is_trial: bool,
    in_a_row: usize,
}

impl Controller {
    /// For an answer that begins.
    pub(crate) fn new() -> Self {
        Self { kinds: [Kind::new(); 2], kind: 0, tokens: 0.0, debt: 0.0, is_trial: false, in_a_row: 0 }
    }

    /// How many of a draft's tokens the next step computes.
    pub(crate) fn k(&mut self, draft: Draft<'_>, costs: &Costs) -> usize {
        self.is_trial = false;
        self.kind = usize::from(draft.matched >= LONG_MATCH);
        if costs.of(1).is_none() {
            return 0;
        }
        let lengths = (1..=draft.tokens.len().min(DRAFT_MAX)).filter(|&k| self.can_afford(k, costs));
        let gains = lengths.map(|k| (k, self.kinds[self.kind].gain(k, costs)));
        let Some((best, gain)) = gains.max_by(|(_, left), (_, right)| left.total_cmp(right)) else {
            return 0;
        };
        if self.in_a_row >= in_a_row_max(gain) {
            return 0;
        }
        if gain >= GAIN_MIN {
            return best;
        }
        self.is_trial = self.kinds[self.kind].is_due() && self.can_afford(1, costs);
        usize::from(self.is_trial)
    }

    /// Takes note of a step that computed nothing but `rows` of this request (1 + the draft's tokens), of which `accepted`
    /// of the draft were sampled, and how long it took with sampling.
    pub(crate) fn step(&mut self, rows: usize, accepted: usize, time: Duration, costs: &mut Costs) {
        let drafted = rows.saturating_sub(1).min(DRAFT_MAX);
        let accepted = accepted.min(drafted);
        let gained = 1 + accepted;
        // What another program held up is not the draft's fault: so a step counts as twice what it may cost at most.
        let cost = costs.measured(time).map_or(rows as f64, |cost| cost.min(2.0 * costs.most(rows)));
        costs.note(rows, time);
        self.said(gained);
        if drafted == 0 {
            self.in_a_row = 0;
            return;
        }
        self.in_a_row += 1;
        self.debt = (self.debt + cost - gained as f64).max(-CREDIT_MAX);
        let is_trial = std::mem::take(&mut self.is_trial);
        self.kinds[self.kind].learn(drafted, accepted, is_trial);
    }

    /// Takes note of so many tokens of the answer, of a step that computed no draft of this kind.
    pub(crate) fn said(&mut self, tokens: usize) {
        self.tokens += tokens as f64;
        for kind in &mut self.kinds {
            kind.said(tokens);
        }
    }

    /// Whether the promise is kept even if a draft of `k` tokens fails.
    fn can_afford(&self, k: usize, costs: &Costs) -> bool {
        self.debt + costs.most(1 + k) - 1.0 <= DEBT_PART * self.tokens
    }
}

/// Steps with drafts in a row at most, where so much is gained.
pub(super) const fn in_a_row_max(gain: f64) -> usize {
    if gain < NEAR { IN_A_ROW_MAX_NEAR } else { IN_A_ROW_MAX }
}

impl Kind {
    /// Nothing is known.
    pub(super) const fn new() -> Self {
        Self { chances: [None; DRAFT_MAX], wait: 0, pause: PAUSE_MIN }
    }

    /// Whether the next try may be.
    pub(super) const fn is_due(&self) -> bool {
        self.wait == 0
    }

    /// So many tokens have been said.
    pub(super) const fn said(&mut self, tokens: usize) {
        self.wait = self.wait.saturating_sub(tokens);
    }

    /// Tokens for the time of one, if `k` of a draft are computed.
    fn gain(&self, k: usize, costs: &Costs) -> f64 {
        self.expected(k) / costs.guess(1 + k)
    }

    /// Tokens of a step that computes `k` of a draft.
    pub(super) fn expected(&self, k: usize) -> f64 {
        let (mut reached, mut expected) = (1.0, 1.0);
        for index in 0..k {
            reached *= self.chance(index);
            expected += reached;
        }
        expected
    }

    fn chance(&self, index: usize) -> f64 {
        self.chances[..=index].iter().rev().find_map(|chance| *chance).unwrap_or(FIRST_CHANCE)
    }

    /// Takes note of how much of a draft was accepted.
    pub(super) fn learn(&mut self, drafted: usize, accepted: usize, is_trial: bool) {
        let says_more = accepted > 0 && self.chance(0) < SURE_CHANCE;
        for index in 0..accepted {
            self.chances[index] = Some(towards(self.chance(index), 1.0, NEWS));
        }
        if accepted < drafted {
            self.chances[accepted] = Some(towards(self.chance(accepted), 0.0, NEWS));
        } else {
            // None was refused: the tokens after them might have been accepted, too, so that they are tried again.
            for chance in self.chances[drafted..].iter_mut().flatten() {
                *chance = towards(*chance, 1.0, NEWS / 2.0);
            }
        }
        if is_trial && says_more {
            self.pause = PAUSE_MIN;
        } else if is_trial {
            self.wait = self.pause;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }
}

/// `chance` after what was seen, which counts as so large a part.
fn towards(chance: f64, seen: f64, part: f64) -> f64 {
    part.mul_add(seen - chance, chance)
}

#[cfg(test)]
mod tests {
    use llama_cpp_2::token::LlamaToken;

    use super::*;

    /// The same numbers at each run.
    struct Chance(u64);

    impl Chance {
        /// 0..1.
        fn draw(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// How much of a draft is accepted, if each token has this chance.
        fn accepted(&mut self, of_token: f64) -> usize {
            (0..DRAFT_MAX).take_while(|_| self.draw() < of_token).count()
        }

        /// 0.7 to 1.3 times what a step takes, and for one step of a hundred three times that.
        fn noise(&mut self) -> f64 {
            let held_up = if self.draw() < 0.01 { 3.0 } else { 1.0 };
            held_up * 0.6_f64.mul_add(self.draw(), 0.7)
        }

        const MEAN_NOISE: f64 = 1.02;
    }

    /// What rows cost on a machine, in steps with one row.
    type Machine = fn(usize) -> f64;

    const PACKED: Machine = |rows| 0.2_f64.mul_add(rows as f64 - 1.0, 1.0);
    const MAPPED: Machine = |rows| 0.4_f64.mul_add(rows as f64 - 1.0, 1.0);
    /// Kernels that compute four rows at a time.
    const TILES: Machine = |rows| if rows == 1 { 1.0 } else { 0.7_f64.mul_add(rows.div_ceil(4) as f64, 1.0) };
    /// Two rows cost as much as nine, which is more than two steps.
    const WALL: Machine = |rows| if rows == 1 { 1.0 } else { 2.2 };
    /// More rows are of no use.
    const LINEAR: Machine = |rows| rows as f64;

    const MACHINES: [Machine; 5] = [PACKED, MAPPED, TILES, WALL, LINEAR];

    /// Tells how much of so long a draft is accepted at so many steps: by one that wants the controller to fail.
    type Adversary = fn(usize, usize) -> usize;

    const ADVERSARIES: [Adversary; 7] = [
        |_, _| 0,
        // Each makes longer drafts look good, and fails those.
        |k, _| usize::from(k == 1),
        |k, _| if k < DRAFT_MAX { k } else { 0 },
        |k, _| k.saturating_sub(1),
        // All and none by turns: in short ones, and in long ones.
        |k, step| if step / 3 % 2 == 0 { k } else { 0 },
        |k, step| if step / 100 % 2 == 0 { k } else { 0 },
        |k, step| step * 7919 % 101 % (k + 1),
    ];

    const STEP_SECONDS: f64 = 0.05;

    /// An answer as it is written.
    struct Answer {
        controller: Controller,
        tokens: f64,
        /// In steps with one row.
        spent: f64,
    }

    impl Answer {
        fn new() -> Self {
            Self { controller: Controller::new(), tokens: 0.0, spent: 0.0 }
        }

        /// One step with a whole draft after so long a match. `accept` is given how much of it is computed, and `time` the
        /// rows of the step.
        fn step(
            &mut self,
            costs: &mut Costs,
            matched: usize,
            accept: impl FnOnce(usize) -> usize,
            time: impl FnOnce(usize) -> f64,
        ) {
            let draft = Draft { tokens: &[LlamaToken(7); DRAFT_MAX], matched };
            let k = self.controller.k(draft, costs);
            let (accepted, time) = (accept(k).min(k), time(1 + k));
            self.controller.step(1 + k, accepted, Duration::from_secs_f64(time * STEP_SECONDS), costs);
            self.tokens += 1.0 + accepted as f64;
            self.spent += time;
        }

        /// Its time as part of that without drafts.
        fn part(&self) -> f64 {
            self.spent / self.tokens
        }
    }

    #[test]
    fn no_drafts_make_an_answer_slower_by_more_than_three_percent_at_any_of_its_tokens() {
        for (machine, time) in MACHINES.into_iter().enumerate() {
            for (adversary, accept) in ADVERSARIES.into_iter().enumerate() {
                let mut costs = Costs::new();
                // The first answer meets costs that are unknown, the others known ones.
                for _ in 0..3 {
                    let mut answer = Answer::new();
                    for step in 0..1500 {
                        let matched = if step % 5 == 0 { 12 } else { 3 };
                        answer.step(&mut costs, matched, |k| accept(k, step), time);
                        let part = answer.part();
                        assert!(
                            part <= 1.03,
                            "machine {machine}, adversary {adversary}, step {step}: {part}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn times_that_vary_do_not_break_the_promise() {
        for (machine, time) in MACHINES.into_iter().enumerate() {
            for of_token in [0.0, 0.2, 0.4, 0.6, 0.8] {
                let (mut chance, mut costs, mut answer) = (Chance(23), Costs::new(), Answer::new());
                while answer.tokens < 10_000.0 {
                    let (accepted, noise) = (chance.accepted(of_token), chance.noise());
                    answer.step(&mut costs, 3, |_| accepted, |rows| time(rows) * noise);
                }
                let part = answer.part() / Chance::MEAN_NOISE;
                assert!(part <= 1.03, "machine {machine}, {of_token} accepted: {part}");
            }
        }
    }

    #[test]
    fn drafts_that_are_accepted_pay_from_the_first_answer_on() {
        for time in [PACKED, MAPPED, TILES] {
            let mut costs = Costs::new();
            for _ in 0..2 {
                let mut answer = Answer::new();
                while answer.tokens < 256.0 {
                    answer.step(&mut costs, 12, |k| k, time);
                }
                let part = answer.part();
                assert!(part < 1.0 / 1.3, "{part}");
            }
        }
    }

    #[test]
    fn what_one_answer_has_measured_lets_the_next_begin_sooner() {
        let first_try = |costs: &mut Costs| {
            let (mut answer, mut tried) = (Answer::new(), 0);
            while tried == 0 {
                answer.step(
                    costs,
                    3,
                    |k| {
                        tried = k;
                        0
                    },
                    PACKED,
                );
            }
            answer.tokens
        };
        let mut costs = Costs::new();
        let unknown = first_try(&mut costs);
        for _ in 0..3 {
            costs.note(2, Duration::from_secs_f64(PACKED(2) * STEP_SECONDS));
        }
        let known = first_try(&mut costs);
        assert!(known < unknown / 2.0, "{known} and {unknown} tokens");
    }

    #[test]
    fn drafts_that_are_mostly_accepted_pay_in_spite_of_noise() {
        let (mut chance, mut costs, mut answer) = (Chance(5), Costs::new(), Answer::new());
        while answer.tokens < 10_000.0 {
            let (accepted, noise) = (chance.accepted(0.8), chance.noise());
            answer.step(&mut costs, 3, |_| accepted, |rows| PACKED(rows) * noise);
        }
        let part = answer.part() / Chance::MEAN_NOISE;
        assert!(part < 0.75, "{part}");
    }

    #[test]
    fn a_quotation_after_prose_is_noticed() {
        let (mut costs, mut answer) = (Costs::new(), Answer::new());
        for _ in 0..1000 {
            answer.step(&mut costs, 3, |_| 0, PACKED);
        }
        let (tokens, spent) = (answer.tokens, answer.spent);
        while answer.tokens < tokens + 100.0 {
            answer.step(&mut costs, 12, |k| k, PACKED);
        }
        let part = (answer.spent - spent) / (answer.tokens - tokens);
        assert!(part < 0.6, "a long match has not the bad name of short ones: {part}");
    }

    #[test]
    fn drafts_that_fail_are_tried_ever_less_often() {
        let (mut costs, mut answer) = (Costs::new(), Answer::new());
        let mut tries = Vec::new();
        for step in 0..2000 {
            answer.step(
                &mut costs,
                3,
                |k| {
                    tries.extend((k > 0).then_some(step));
                    0
                },
                PACKED,
            );
        }
        let gaps: Vec<usize> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let last = &gaps[gaps.len() - 3..];
        assert!(last.iter().all(|gap| *gap > PAUSE_MAX), "{gaps:?}");
    }

    #[test]
    fn nothing_is_tried_before_a_plain_step_was_measured_nor_without_a_draft() {
        let (mut controller, mut costs) = (Controller::new(), Costs::new());
        let tokens = [LlamaToken(7); DRAFT_MAX];
        assert_eq!(controller.k(Draft { tokens: &tokens, matched: 12 }, &costs), 0);
        for _ in 0..500 {
            controller.step(1, 0, Duration::from_millis(50), &mut costs);
        }
        assert_eq!(controller.k(Draft::default(), &costs), 0);
        let k = controller.k(Draft { tokens: &tokens[..1], matched: 12 }, &costs);
        assert_eq!(k, 1, "no more than there is");
    }

    #[test]
    fn what_a_step_without_drafts_costs_is_measured_again_and_again() {
        let (mut costs, mut answer) = (Costs::new(), Answer::new());
        let (mut plain, mut steps) = (0, 0);
        while steps < 1000 {
            steps += 1;
            answer.step(
                &mut costs,
                12,
                |k| {
                    plain += usize::from(k == 0);
                    k
                },
                PACKED,
            );
        }
        assert!(plain >= steps / (IN_A_ROW_MAX + 1), "{plain} of {steps}");
    }
}
