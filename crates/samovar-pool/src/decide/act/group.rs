//! Models that need others beside them: reserved, leased and evicted as one.
//!
//! ```text
//!   chat ─needs─► draft ─needs─► …       granted when all serve; the lease holds all
//!     └──needs─► projector                placed all or none: two groups never hold half each
//! ```
//!
//! A *member* stays in memory as long as a model that needs it does, and leaves with the last of them, unless it has
//! users of its own. What a member could not do is told to those who wait for the group.

use super::StepContext;
use crate::decide::state::ModelId;
use crate::error::Error;

impl StepContext<'_> {
    /// Does for those who wait for models that need this one what can be done now.
    pub(super) fn review_dependents(&mut self, model: ModelId) {
        let dependents = self.state.model(model).needed_by.clone();
        for dependent in dependents {
            if self.state.model(dependent).has_waiting() {
                self.review_one(dependent);
            }
        }
    }

    /// Refuses those who wait for models that can not be had without this one.
    pub(super) fn refuse_dependents(&mut self, model: ModelId, why: &Error) {
        for dependent in self.state.model(model).needed_by.clone() {
            for ticket in self.state.model(dependent).waiting() {
                self.refuse(ticket, why.clone());
            }
        }
    }
}
