//! What a model needs beside it, and who needs it.

use std::sync::Arc;

use samovar_core::port::Millis;

use super::{Instance, ModelId, Phase, PoolState};
use crate::ask::ModelSpec;

/// Needs of needs are followed so far.
const DEPTH_MAX: u32 = 8;

impl PoolState {
    /// Takes in what the model needs by its latest spec.
    pub(in crate::decide) fn know_group(&mut self, model: ModelId, spec: &Arc<ModelSpec>, now: Millis) {
        let mut members = Vec::new();
        let is_whole = self.know_needs(model, spec, now, DEPTH_MAX, &mut members);
        let before = std::mem::take(&mut self.model_mut(model).members);
        for (former, _) in before {
            if let Some(former) = self.models.get_mut(&former) {
                former.needed_by.remove(&model);
            }
        }
        for (member, _) in &members {
            self.model_mut(*member).needed_by.insert(model);
        }
        let known = self.model_mut(model);
        (known.members, known.grouped_by) = (members, is_whole.then(|| Arc::clone(spec)));
    }

    /// A need that is met already, or that needs the model itself, is let pass: the code that makes specs refuses those. Gives
    /// whether none was let pass that would be taken in if it did not need the model any more.
    fn know_needs(
        &mut self,
        model: ModelId,
        spec: &ModelSpec,
        now: Millis,
        depth: u32,
        members: &mut Vec<(ModelId, Arc<ModelSpec>)>,
    ) -> bool {
        let mut is_whole = true;
        for need in spec.needs.iter().filter(|_| depth > 0) {
            let member = self.know_alone(need, now);
            let is_known = member == model || members.iter().any(|(other, _)| *other == member);
            if is_known {
                continue;
            }
            if self.needs(member, model) {
                is_whole = false;
                continue;
            }
            members.push((member, Arc::clone(need)));
            is_whole &= self.know_needs(model, need, now, depth - 1, members);
        }
        is_whole
    }

    fn needs(&self, model: ModelId, other: ModelId) -> bool {
        self.model(model).members.iter().any(|(member, _)| *member == other)
    }

    /// A request waits for the model, or for one that needs it.
    pub(in crate::decide) fn is_wanted(&self, model: ModelId) -> bool {
        let waits = |id: &ModelId| self.model(*id).has_waiting();
        waits(&model) || self.model(model).needed_by.iter().any(waits)
    }

    /// The model is pinned, or one that needs it.
    pub(in crate::decide) fn is_pinned(&self, model: ModelId) -> bool {
        let is_pinned = |id: &ModelId| self.model(*id).is_pinned;
        is_pinned(&model) || self.model(model).needed_by.iter().any(is_pinned)
    }

    /// A model that needs it is in memory, or is being loaded.
    pub(in crate::decide) fn is_depended_on(&self, model: ModelId) -> bool {
        let is_in_memory = |id: &ModelId| self.staying(*id).any(|(_, instance)| is_there(instance));
        self.model(model).needed_by.iter().any(is_in_memory)
    }

    /// The model and all that it needs.
    pub(in crate::decide) fn group(&self, model: ModelId) -> Vec<ModelId> {
        let members = self.model(model).members.iter().map(|(member, _)| *member);
        std::iter::once(model).chain(members).collect()
    }
}

/// Whether its working memory is there, or is to be.
pub(in crate::decide) fn is_there(instance: &Instance) -> bool {
    !matches!(instance.phase, Phase::Parked | Phase::Parking)
}
