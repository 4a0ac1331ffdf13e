//! How many instances a model has, should have, and can do without.

use std::collections::BTreeSet;
use std::sync::Arc;

use samovar_core::units::KeepAlive;

use crate::ask::{Instances, ModelSpec};
use crate::decide::state::{Instance, ModelId, Phase, covers};
use crate::decide::view::{Step, View};
use crate::protocol::InstanceId;

impl View<'_> {
    /// How many instances the model may have.
    pub(in crate::decide) fn replicas(&self, model: ModelId) -> Instances {
        let Instances { min, max } = self.state.model(model).spec.instances;
        Instances { min: min.max(1), max: max.max(min).max(1) }
    }

    /// Of how many instances the one is that is loaded next.
    pub(in crate::decide) fn replicas_to_be(&self, model: ModelId) -> u32 {
        self.replicas(model).min.max(self.serving(model) + 1)
    }

    pub(in crate::decide) fn serving(&self, model: ModelId) -> u32 {
        self.state.staying(model).filter(|(_, instance)| instance.is_serving()).count() as u32
    }

    /// The next instance beside those that serve, one at a time, and whether it is one of `min`.
    pub(in crate::decide) fn next_replica(&self, model: ModelId) -> Option<(Step, bool)> {
        let of_model = self.state.model(model);
        let is_under_way = |(_, instance): (_, &Instance)| {
            instance.is_coming() || matches!(instance.phase, Phase::Parking | Phase::Loading { .. })
        };
        // Another like those that are there would be in the way of those who want them to be something else.
        let waits_itself =
            self.state.awaiting_memory.contains(&model) || self.is_set_back(model) || self.has_unmet(model);
        // One more would keep in memory what is to leave for another model.
        let gives_way =
            self.state.instances_of(model).any(|(id, _)| self.state.deferred_evictions.contains_key(&id));
        let is_settled = !waits_itself && !gives_way && !self.state.instances_of(model).any(is_under_way);
        if self.state.is_leaving || !is_settled {
            return None;
        }
        let (serving, replicas) = (self.serving(model), self.replicas(model));
        let is_required = of_model.is_kept && serving < replicas.min;
        let is_worth_it = serving < replicas.max && self.queue_is_worth_a_load(model);
        if serving == 0 || !is_required && !is_worth_it {
            return None;
        }
        let mut staying = self.state.staying(model);
        let parked = staying.find(|(_, instance)| instance.phase == Phase::Parked);
        let step = if let Some((id, instance)) = parked {
            Step::Resume(id, instance.spec.clone())
        } else {
            let sized =
                |instance: &Instance| (instance.spec.options.context_tokens, instance.spec.options.slots);
            let (_, like) = self.state.staying(model).max_by_key(|(_, instance)| sized(instance))?;
            Step::Load(model, self.usual_if_enough(model, &like.spec))
        };
        Some((step, is_required))
    }

    /// A further instance like this one, without what a single request made it more than usual, unless a request waits for it.
    fn usual_if_enough(&self, model: ModelId, like: &Arc<ModelSpec>) -> Arc<ModelSpec> {
        let waiting = self.state.model(model).waiting();
        let is_enough = |usual: &&Arc<ModelSpec>| {
            waiting.iter().all(|ticket| covers(usual, &self.state.tickets[ticket].spec))
        };
        match like.usual.as_ref().filter(is_enough) {
            Some(usual) => self.resized(model, like, usual, &usual.options),
            None => Arc::clone(like),
        }
    }

    /// Whether those who wait would wait for longer than one more load takes, and a core would be free for it.
    fn queue_is_worth_a_load(&self, model: ModelId) -> bool {
        let of_model = self.state.model(model);
        let slots: u32 = self.state.staying(model).map(|(_, instance)| instance.slots()).sum();
        let is_at_work = |instance: &&Instance| instance.leases > 0 || instance.is_coming();
        let at_work = self.state.instances.values().filter(is_at_work).count() as u32;
        if of_model.queue.is_empty() || self.has_free_slot(model) || at_work >= self.state.config.cores {
            return false;
        }
        let load_ms = of_model.tally.load_times.expected_ms(of_model.spec.load_ms);
        let rounds = of_model.queue.len().div_ceil(slots.max(1) as usize) as f64;
        match (of_model.hold.ms(), load_ms) {
            (Some(hold_ms), Some(load_ms)) => hold_ms * rounds >= load_ms as f64,
            _ => true,
        }
    }

    /// Whether it is one of the last `min` of a model that is in use: by another instance, or by a model that needs it.
    pub(in crate::decide) fn is_held_by_its_replicas(&self, id: InstanceId) -> bool {
        let Instance { model, phase, .. } = *self.state.instance(id);
        if phase != Phase::Ready {
            return false;
        }
        let is_in_use = |instance: &Instance| {
            let is_kept = instance.expires_at.is_some() || instance.keep_alive == KeepAlive::UntilEvicted;
            !instance.is_idle() || is_kept && !instance.is_lapsed
        };
        let mut others = self.state.staying(model).filter(|(other, instance)| {
            *other != id && !matches!(instance.phase, Phase::Parked | Phase::Parking)
        });
        let is_used = others.any(|(_, instance)| is_in_use(instance)) || self.state.is_depended_on(model);
        self.serving(model) <= self.replicas(model).min && is_used
    }

    /// Which of these idle instances, in the order of leaving, their models can do without.
    pub(in crate::decide) fn dispensable(
        &self,
        in_order: impl Iterator<Item = InstanceId>,
    ) -> BTreeSet<InstanceId> {
        let mut dispensable = BTreeSet::new();
        for id in in_order {
            let instance = self.state.instance(id);
            let of_model = |id: &&InstanceId| self.state.instance(**id).model == instance.model;
            let gone = dispensable.iter().filter(of_model).count() as u32;
            let spare = self.serving(instance.model).saturating_sub(self.replicas(instance.model).min);
            if instance.is_serving() && gone < spare {
                dispensable.insert(id);
            }
        }
        dispensable
    }
}
