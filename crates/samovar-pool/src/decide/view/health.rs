//! What is remembered against a model: whom that refuses, and what that keeps from loading.

use samovar_core::ErrorKind;

use crate::decide::state::{Backoff, ModelId};
use crate::decide::view::View;
use crate::error::Error;

impl View<'_> {
    /// The refusal of a model that failed a moment ago, and of which nothing is there to serve.
    pub(in crate::decide) fn remembered_failure(&self, model: ModelId) -> Option<Error> {
        let backoff = self.state.model(model).backoff.as_ref()?;
        let is_refused = backoff.is_given_up || !backoff.is_death;
        let is_due = is_refused && backoff.retry_at > self.now && self.state.staying(model).next().is_none();
        is_due.then(|| self.refusal_of(model, backoff))
    }

    fn refusal_of(&self, model: ModelId, backoff: &Backoff) -> Error {
        let model = self.state.model(model).spec.name.clone();
        let failure = Box::new(backoff.failure.clone());
        let retry_after_ms = backoff.retry_in_ms(self.now).max(1);
        if backoff.is_given_up {
            Error::GivenUp { model, failures: backoff.recent.len() as u32, failure, retry_after_ms }
        } else {
            Error::LoadFailed { model, failure, retry_after_ms }
        }
    }

    /// Whether a load must wait for a back-off to pass.
    pub(in crate::decide) fn is_set_back(&self, model: ModelId) -> bool {
        self.state.model(model).backoff.as_ref().is_some_and(|backoff| backoff.retry_at > self.now)
    }

    /// Whether one is trying for all at this moment: no other is granted a slot until that has gone well.
    pub(in crate::decide) fn is_on_trial(&self, model: ModelId) -> bool {
        self.is_half_open(model) && self.state.instances_of(model).any(|(_, instance)| instance.leases > 0)
    }

    pub(in crate::decide) fn is_half_open(&self, model: ModelId) -> bool {
        self.state.model(model).backoff.as_ref().is_some_and(|backoff| backoff.is_half_open(self.now))
    }
}

/// What is said to a request that came after the failure: where another try may well succeed, it is to come again, and
/// nothing tells it that this try of its own has failed.
pub(in crate::decide) fn while_backing_off(error: Error) -> Error {
    match error {
        Error::LoadFailed { model, failure, retry_after_ms } if is_fault_of_the_instance(failure.kind) => {
            Error::BackingOff { model, failure, retry_after_ms }
        }
        error => error,
    }
}

/// Whether a request that failed so was failed by its instance, rather than by itself.
pub(in crate::decide) fn is_fault_of_the_instance(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::EngineFailed | ErrorKind::Unavailable | ErrorKind::Internal)
}
