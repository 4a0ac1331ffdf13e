//! Failures are remembered, so that a crowd meets them once and a broken model costs little.
//!
//! ```text
//!   a load fails ────► 1 s, 2 s, 4 s … 60 s     requests are refused with what the engine said
//!   an instance dies ─► 0 s, 1 s, 2 s … 60 s     requests wait: the model did work
//!   five of either within a minute ─► given up ── 60 s ─► half open: one tries for all ─┬─ well ──► as good as new
//!                                        ▲                                             └─ failed ┐
//!                                        └───────────────────────────────────────────────────────┘
//! ```
//!
//! A death is replaced at once, if a request waits for the model or it is pinned; the next one after a second.

use std::sync::Arc;

use samovar_core::Failure;
use samovar_core::port::Millis;

use super::StepContext;
use crate::ask::ModelSpec;
use crate::decide::state::{Backoff, ModelId, PoolState, Timer};
use crate::decision::{Reason, What};

/// Failures are forgotten when so long has passed after the last back-off.
const FORGET_AFTER_MS: u64 = 60_000;

/// So many failures …
const FAILURES_MAX: usize = 5;

/// … within so long, and the model is given up for a while.
const WITHIN_MS: u64 = 60_000;

/// A request that is served for so long has shown that the model works.
const TRIAL_MS: u64 = 10_000;

impl StepContext<'_> {
    /// Remembers one more failure of a model, and says so as a reason.
    pub(super) fn set_back(&mut self, model: ModelId, failure: Failure, is_death: bool) -> Reason {
        let now = self.now;
        let before = self.forget_backoff(model);
        let count = before.as_ref().map_or(0, |backoff| backoff.count) + 1;
        let was_half_open = before.as_ref().is_some_and(|backoff| backoff.is_half_open(now));
        let is_missed = before.as_ref().is_some_and(|backoff| backoff.is_missed);
        let mut recent = before.map(|backoff| backoff.recent).unwrap_or_default();
        recent.retain(|at| now.since(*at) < WITHIN_MS);
        recent.push_back(now);
        let is_given_up = was_half_open || recent.len() >= FAILURES_MAX;
        let config = &self.state.config;
        let retry_in_ms = match (is_given_up, is_death, count) {
            (true, ..) => config.backoff_max_ms,
            (false, true, 1) => 0,
            (false, true, _) => doubled(config.backoff_first_ms, count - 2).min(config.backoff_max_ms),
            (false, false, _) => doubled(config.backoff_first_ms, count - 1).min(config.backoff_max_ms),
        };
        let (kind, message) = (failure.kind, failure.message.clone());
        let retry_at = now.plus(retry_in_ms);
        let forget_at = retry_at.plus(FORGET_AFTER_MS);
        let failures = recent.len() as u32;
        let backoff = Backoff {
            failure,
            is_death,
            count,
            recent,
            is_given_up,
            is_missed,
            retry_at,
            forget_at,
            timer: retry_at,
        };
        self.state.model_mut(model).backoff = Some(backoff);
        self.state.timers.insert((retry_at, Timer::Backoff(model)));
        if is_given_up {
            Reason::FailedOften { failures, kind, message, retry_in_ms }
        } else {
            Reason::Failed { kind, message, retry_in_ms }
        }
    }

    /// The model is as good as new.
    pub(super) fn forget_backoff(&mut self, model: ModelId) -> Option<Backoff> {
        let backoff = self.state.model_mut(model).backoff.take()?;
        self.state.timers.remove(&(backoff.timer, Timer::Backoff(model)));
        Some(backoff)
    }

    pub(super) fn backoff_due(&mut self, model: ModelId) {
        let now = self.now;
        let is_on_trial = self.view().is_on_trial(model);
        let Some(backoff) = &self.state.model(model).backoff else { return };
        if now >= backoff.forget_at {
            self.state.model_mut(model).backoff = None;
        } else if is_on_trial {
            self.has_proved_itself(model);
        } else {
            let at = backoff.forget_at;
            self.set_backoff_timer(model, at);
            self.bring_back(model);
        }
        self.review(model);
    }

    fn set_backoff_timer(&mut self, model: ModelId, at: Millis) {
        let Some(backoff) = &mut self.state.model_mut(model).backoff else { return };
        let before = std::mem::replace(&mut backoff.timer, at);
        self.state.timers.remove(&(before, Timer::Backoff(model)));
        self.state.timers.insert((at, Timer::Backoff(model)));
    }

    /// Has a model loaded again that no request waits for and that should be there.
    fn bring_back(&mut self, model: ModelId) {
        let of_model = self.state.model(model);
        let is_missed = of_model.backoff.as_ref().is_some_and(|backoff| backoff.is_missed);
        if is_missed && !of_model.has_waiting() && !self.state.is_leaving {
            let spec = Arc::clone(&of_model.spec);
            self.load_for_nobody(model, &spec);
        }
    }

    /// An instance has died, and is replaced although no request waits, if the model is pinned or is to have several.
    pub(super) fn replace(&mut self, model: ModelId) {
        let of_model = self.state.model(model);
        let is_missed = of_model.is_pinned || of_model.is_kept && self.view().replicas(model).min > 1;
        if let Some(backoff) = &mut self.state.model_mut(model).backoff {
            backoff.is_missed |= is_missed;
            if backoff.retry_at <= self.now {
                self.bring_back(model);
            }
        }
    }

    /// Waits for the model in the pool's own name.
    pub(super) fn load_for_nobody(&mut self, model: ModelId, spec: &Arc<ModelSpec>) {
        let ticket = self.state.own_ticket();
        self.enqueue_warm(ticket, model, spec);
        self.newcomer = None;
        self.mark_wanted(model);
        self.review(model);
    }

    /// It is no longer to be brought back.
    pub(super) fn let_it_be_gone(&mut self, model: ModelId) {
        if let Some(backoff) = &mut self.state.model_mut(model).backoff {
            backoff.is_missed = false;
        }
        let own = self.state.model(model).warms.iter().map(|(_, ticket)| *ticket);
        let own: Vec<_> = own.filter(|ticket| PoolState::is_own(*ticket)).collect();
        for ticket in own {
            self.take_ticket(ticket);
            self.review(model);
        }
    }

    /// Refuses those who wait for a model that failed, unless they may hope.
    pub(super) fn refuse_after_failure(&mut self, model: ModelId) {
        if let Some(why) = self.view().remembered_failure(model) {
            self.refuse_dependents(model, &why);
            self.refuse_waiting(model, &why);
        }
    }

    /// A request was granted a slot, which may be the one that tries for all.
    pub(super) fn begin_trial(&mut self, model: ModelId) {
        if self.view().is_half_open(model) {
            let ends_at = self.now.plus(TRIAL_MS);
            self.set_backoff_timer(model, ends_at);
        }
    }

    /// A load, or a request, went well.
    pub(super) fn has_proved_itself(&mut self, model: ModelId) {
        if self.view().is_half_open(model)
            && let Some(backoff) = self.forget_backoff(model)
        {
            self.note(model, What::Recovered, Reason::AfterFailures { failures: backoff.count });
        }
    }
}

fn doubled(first_ms: u64, times: u32) -> u64 {
    first_ms.saturating_mul(1 << times.min(20))
}
