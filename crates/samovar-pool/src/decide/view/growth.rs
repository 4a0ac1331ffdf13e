//! What could not be made larger a moment ago.

use crate::ask::ModelSpec;
use crate::decide::state::{Instance, ModelId};
use crate::decide::view::View;
use crate::error::Error;

impl View<'_> {
    /// The refusal of a wish that would need an instance to grow that could not a moment ago.
    pub(in crate::decide) fn blocked_growth(&self, model: ModelId, asked: &ModelSpec) -> Option<Error> {
        let staying = || self.state.staying(model).map(|(_, instance)| instance);
        if staying().any(|instance| !self.is_growth_blocked(instance) || instance.will_satisfy(asked)) {
            return None;
        }
        let (failure, until) = staying().find_map(|instance| instance.growth_blocked.as_ref())?;
        Some(Error::LoadFailed {
            model: self.state.model(model).spec.name.clone(),
            failure: Box::new(failure.clone()),
            retry_after_ms: until.since(self.now),
        })
    }

    /// Whether it could not be made larger a moment ago.
    pub(in crate::decide) fn is_growth_blocked(&self, instance: &Instance) -> bool {
        instance.growth_blocked.as_ref().is_some_and(|(_, until)| *until > self.now)
    }
}
