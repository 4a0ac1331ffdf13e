//! Failures are remembered with their back-off: 1 s, 2 s, 4 s … 60 s.
//!
//! After a failed load, requests are refused with what the engine said until the time has come; then one of them
//! tries again for all. After a death, requests wait for that time, because the model did work.

use samovar_core::{ErrorKind, Failure};

use super::Turn;
use super::state::{ModelId, Setback, Timer};
use crate::decision::Reason;
use crate::error::Error;

/// Failures are forgotten when so long has passed after the last back-off.
const FORGET_AFTER_MS: u64 = 60_000;

impl Turn<'_> {
    /// Remembers one more failure of a model, and says so as a reason.
    pub(super) fn set_back(&mut self, model: ModelId, failure: Failure, is_death: bool) -> Reason {
        let count = self.state.model(model).setback.as_ref().map_or(0, |setback| setback.count) + 1;
        let config = &self.state.config;
        let doubled = config.backoff_first_ms.saturating_mul(1 << (count - 1).min(20));
        let retry_in_ms = doubled.min(config.backoff_max_ms);
        let retry_at = self.now.plus(retry_in_ms);
        let reason = Reason::Failed { kind: failure.kind, message: failure.message.clone(), retry_in_ms };
        let forget_at = retry_at.plus(FORGET_AFTER_MS);
        self.forget_setback(model);
        let setback = Setback { failure, is_death, count, retry_at, forget_at, timer: retry_at };
        self.state.model_mut(model).setback = Some(setback);
        self.state.timers.insert((retry_at, Timer::Setback(model)));
        reason
    }

    /// The model is as good as new.
    pub(super) fn forget_setback(&mut self, model: ModelId) {
        if let Some(setback) = self.state.model_mut(model).setback.take() {
            self.state.timers.remove(&(setback.timer, Timer::Setback(model)));
        }
    }

    pub(super) fn setback_due(&mut self, model: ModelId) {
        let now = self.now;
        let Some(setback) = &mut self.state.model_mut(model).setback else { return };
        if now >= setback.forget_at {
            self.state.model_mut(model).setback = None;
        } else {
            setback.timer = setback.forget_at;
            let again = (setback.forget_at, Timer::Setback(model));
            self.state.timers.insert(again);
        }
        self.review(model);
    }

    /// The refusal of a model whose load failed a moment ago.
    pub(super) fn remembered_failure(&self, model: ModelId) -> Option<Error> {
        let of_model = self.state.model(model);
        let setback = of_model.setback.as_ref()?;
        (!setback.is_death && setback.retry_at > self.now && of_model.instances.is_empty()).then(|| {
            Error::LoadFailed {
                model: of_model.spec.name.clone(),
                failure: Box::new(setback.failure.clone()),
                retry_after_ms: setback.retry_at.since(self.now),
            }
        })
    }

    /// Whether a load must wait for a back-off to pass.
    pub(super) fn is_set_back(&self, model: ModelId) -> bool {
        self.state.model(model).setback.as_ref().is_some_and(|setback| setback.retry_at > self.now)
    }
}

/// Whether a request that failed so was failed by its instance, rather than by itself.
pub(super) fn is_fault_of_the_instance(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::EngineFailed | ErrorKind::Unavailable | ErrorKind::Internal)
}
