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
//! A death is replaced at once, if somebody waits for the model or it is pinned; the next one after a second.

use std::collections::VecDeque;
use std::sync::Arc;

use samovar_core::port::Millis;
use samovar_core::{ErrorKind, Failure};

use super::Turn;
use super::state::{ModelId, PoolState, Timer};
use crate::ask::ModelSpec;
use crate::decision::{Reason, What};
use crate::error::Error;

/// Failures are forgotten when so long has passed after the last back-off.
const FORGET_AFTER_MS: u64 = 60_000;
/// So many failures …
const FAILURES_MAX: usize = 5;
/// … within so long, and the model is given up for a while.
const WITHIN_MS: u64 = 60_000;
/// A request that is served for so long has shown that the model works.
const TRIAL_MS: u64 = 10_000;

/// The failures of a model that are remembered.
#[derive(Clone, Debug)]
pub(super) struct Setback {
    /// The last one.
    pub(super) failure: Failure,
    pub(super) is_death: bool,
    /// Failures in a row.
    pub(super) count: u32,
    /// When the latest ones were.
    recent: VecDeque<Millis>,
    /// Nobody is let through before `retry_at`, and then one alone until that one has gone well.
    pub(super) is_given_up: bool,
    /// The model should be there, although nobody may wait for it.
    is_missed: bool,
    pub(super) retry_at: Millis,
    forget_at: Millis,
    timer: Millis,
}

impl Setback {
    /// Milliseconds until the model is tried again.
    pub(super) fn retry_in_ms(&self, now: Millis) -> u64 {
        self.retry_at.since(now)
    }

    /// One may try for all.
    fn is_half_open(&self, now: Millis) -> bool {
        self.is_given_up && self.retry_at <= now
    }
}

impl Turn<'_> {
    /// Remembers one more failure of a model, and says so as a reason.
    pub(super) fn set_back(&mut self, model: ModelId, failure: Failure, is_death: bool) -> Reason {
        let now = self.now;
        let before = self.forget_setback(model);
        let count = before.as_ref().map_or(0, |setback| setback.count) + 1;
        let was_half_open = before.as_ref().is_some_and(|setback| setback.is_half_open(now));
        let is_missed = before.as_ref().is_some_and(|setback| setback.is_missed);
        let mut recent = before.map(|setback| setback.recent).unwrap_or_default();
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
        let setback = Setback {
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
        self.state.model_mut(model).setback = Some(setback);
        self.state.timers.insert((retry_at, Timer::Setback(model)));
        if is_given_up {
            Reason::FailedOften { failures, kind, message, retry_in_ms }
        } else {
            Reason::Failed { kind, message, retry_in_ms }
        }
    }

    /// The model is as good as new.
    pub(super) fn forget_setback(&mut self, model: ModelId) -> Option<Setback> {
        let setback = self.state.model_mut(model).setback.take()?;
        self.state.timers.remove(&(setback.timer, Timer::Setback(model)));
        Some(setback)
    }

    pub(super) fn setback_due(&mut self, model: ModelId) {
        let now = self.now;
        let is_on_trial = self.is_on_trial(model);
        let Some(setback) = &self.state.model(model).setback else { return };
        if now >= setback.forget_at {
            self.state.model_mut(model).setback = None;
        } else if is_on_trial {
            self.has_proved_itself(model);
        } else {
            let at = setback.forget_at;
            self.set_setback_timer(model, at);
            self.bring_back(model);
        }
        self.review(model);
    }

    fn set_setback_timer(&mut self, model: ModelId, at: Millis) {
        let Some(setback) = &mut self.state.model_mut(model).setback else { return };
        let before = std::mem::replace(&mut setback.timer, at);
        self.state.timers.remove(&(before, Timer::Setback(model)));
        self.state.timers.insert((at, Timer::Setback(model)));
    }

    /// Has a model loaded again that nobody waits for and that should be there.
    fn bring_back(&mut self, model: ModelId) {
        let of_model = self.state.model(model);
        let is_missed = of_model.setback.as_ref().is_some_and(|setback| setback.is_missed);
        if is_missed && !of_model.has_waiting() && !self.state.is_leaving {
            let spec = Arc::clone(&of_model.spec);
            self.load_for_nobody(model, &spec);
        }
    }

    /// An instance has died, and is replaced although nobody waits if the model is pinned or is to have several.
    pub(super) fn replace(&mut self, model: ModelId) {
        let of_model = self.state.model(model);
        let is_missed = of_model.is_pinned || of_model.is_kept && self.crew(model).min > 1;
        if let Some(setback) = &mut self.state.model_mut(model).setback {
            setback.is_missed |= is_missed;
            if setback.retry_at <= self.now {
                self.bring_back(model);
            }
        }
    }

    /// Waits for the model in the pool's own name.
    pub(super) fn load_for_nobody(&mut self, model: ModelId, spec: &Arc<ModelSpec>) {
        let ticket = self.state.own_ticket();
        self.enqueue_warm(ticket, model, spec);
        self.newcomer = None;
        self.rouse(model);
        self.review(model);
    }

    /// Nobody wants it back any more.
    pub(super) fn let_it_be_gone(&mut self, model: ModelId) {
        if let Some(setback) = &mut self.state.model_mut(model).setback {
            setback.is_missed = false;
        }
        let own = self.state.model(model).warms.iter().map(|(_, ticket)| *ticket);
        let own: Vec<_> = own.filter(|ticket| PoolState::is_own(*ticket)).collect();
        for ticket in own {
            self.take_ticket(ticket);
            self.review(model);
        }
    }

    /// The refusal of a model that failed a moment ago, and of which nothing is there to serve.
    pub(super) fn remembered_failure(&self, model: ModelId) -> Option<Error> {
        let setback = self.state.model(model).setback.as_ref()?;
        let is_refused = setback.is_given_up || !setback.is_death;
        let is_due = is_refused && setback.retry_at > self.now && self.state.staying(model).next().is_none();
        is_due.then(|| self.refusal_of(model, setback))
    }

    fn refusal_of(&self, model: ModelId, setback: &Setback) -> Error {
        let model = self.state.model(model).spec.name.clone();
        let failure = Box::new(setback.failure.clone());
        let retry_after_ms = setback.retry_in_ms(self.now).max(1);
        if setback.is_given_up {
            Error::GivenUp { model, failures: setback.recent.len() as u32, failure, retry_after_ms }
        } else {
            Error::LoadFailed { model, failure, retry_after_ms }
        }
    }

    /// Refuses those who wait for a model that failed, unless they may hope.
    pub(super) fn refuse_after_failure(&mut self, model: ModelId) {
        if let Some(why) = self.remembered_failure(model) {
            self.refuse_dependents(model, &why);
            self.refuse_waiting(model, &why);
        }
    }

    /// Whether a load must wait for a back-off to pass.
    pub(super) fn is_set_back(&self, model: ModelId) -> bool {
        self.state.model(model).setback.as_ref().is_some_and(|setback| setback.retry_at > self.now)
    }

    /// Whether one is trying for all at this moment: nobody else is granted a slot until that has gone well.
    pub(super) fn is_on_trial(&self, model: ModelId) -> bool {
        self.is_half_open(model) && self.state.instances_of(model).any(|(_, instance)| instance.leases > 0)
    }

    fn is_half_open(&self, model: ModelId) -> bool {
        self.state.model(model).setback.as_ref().is_some_and(|setback| setback.is_half_open(self.now))
    }

    /// Somebody was granted a slot, which may be the one who tries for all.
    pub(super) fn begin_trial(&mut self, model: ModelId) {
        if self.is_half_open(model) {
            let ends_at = self.now.plus(TRIAL_MS);
            self.set_setback_timer(model, ends_at);
        }
    }

    /// A load, or a request, went well.
    pub(super) fn has_proved_itself(&mut self, model: ModelId) {
        if self.is_half_open(model)
            && let Some(setback) = self.forget_setback(model)
        {
            self.note(model, What::Recovered, Reason::AfterFailures { failures: setback.count });
        }
    }
}

fn doubled(first_ms: u64, times: u32) -> u64 {
    first_ms.saturating_mul(1 << times.min(20))
}

/// What is said to a request that came after the failure: where another try may well succeed, it is to come again, and
/// nobody tells it that this try of its own has failed.
pub(super) fn while_backing_off(error: Error) -> Error {
    match error {
        Error::LoadFailed { model, failure, retry_after_ms } if is_fault_of_the_instance(failure.kind) => {
            Error::BackingOff { model, failure, retry_after_ms }
        }
        error => error,
    }
}

/// Whether a request that failed so was failed by its instance, rather than by itself.
pub(super) fn is_fault_of_the_instance(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::EngineFailed | ErrorKind::Unavailable | ErrorKind::Internal)
}
